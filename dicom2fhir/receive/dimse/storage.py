"""C-STORE, from the data set of a request to the status of its response (PS3.4 annex B)."""

from __future__ import annotations

import structlog

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.errors import BridgeError, BridgeFault, kind_of, log_fields
from dicom2fhir.model import Origin
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.negotiation import PresentationContext
from dicom2fhir.receive.dimse.operation import Callbacks, DimseOperation
from dicom2fhir.system.memory_budget import Share

log = structlog.get_logger(__name__)


class Storage(DimseOperation):
    """Receives the instances of one association.

    Attributes
    ----------
    stored, failed
        Number of instances answered with Success, and with another status.
    """

    def __init__(self, callbacks: Callbacks, budgets: Budgets, share: Share) -> None:
        super().__init__(callbacks, share)
        self.stored = self.failed = 0
        self._reader = InstanceReader(budgets)

    def _open(self, context: PresentationContext) -> HeaderReader:
        return self._reader.open_header(context.transfer_syntax, self._share.hold)

    def perform(self, request: command_set.Command, origin: Origin) -> command_set.ResponseStatus:
        """Pass the complete instance on; return the status for the response."""
        answer, kind = command_set.SUCCESS, ""
        try:
            self._callbacks.on_received(self._received(request, origin), self._reader)
        except Exception as error:  # every error becomes a status
            answer = command_set.failure_status(error, command_set.STORAGE_STATUSES)
            kind = kind_of(error)
            if not isinstance(error, BridgeError):
                log.error("instance.failed", association=origin.association, **log_fields(BridgeFault(error)))
        if answer is command_set.SUCCESS:
            self.stored += 1
        else:
            self.failed += 1
            log.warning(
                "instance.refused",
                sop_instance=request.sop_instance,
                status=f"{answer.code:04X}",
                kind=kind,
                association=origin.association,
            )
        return answer
