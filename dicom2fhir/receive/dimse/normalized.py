"""N-CREATE and N-SET, from the data set of a request to the status of its response (PS3.7 section 10)."""

from __future__ import annotations

import structlog

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.normalized import budgets_of, open_data_set
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.errors import BridgeError, BridgeFault, log_fields
from dicom2fhir.model import Origin
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.negotiation import PresentationContext
from dicom2fhir.receive.dimse.operation import Callbacks, DimseOperation
from dicom2fhir.system.memory_budget import Share

log = structlog.get_logger(__name__)


class Normalized(DimseOperation):
    """Receives the notifications and procedure steps of one association."""

    def __init__(self, callbacks: Callbacks, budgets: Budgets, share: Share) -> None:
        super().__init__(callbacks, share)
        self._budgets = budgets_of(budgets)

    def _open(self, context: PresentationContext) -> HeaderReader:
        return open_data_set(context.abstract_syntax, context.transfer_syntax, self._budgets, self._share.hold)

    def perform(self, request: command_set.Command, origin: Origin) -> command_set.ResponseStatus:
        """Pass the complete data set on; return the status for the response."""
        is_new = request.field == command_set.N_CREATE_RQ
        pass_on = self._callbacks.on_created if is_new else self._callbacks.on_set
        try:
            pass_on(self._received(request, origin))
        except Exception as error:  # every error becomes a status
            answer = command_set.failure_status(error, command_set.NORMALIZED_STATUSES)
            known = error if isinstance(error, BridgeError) else BridgeFault(error)
            (log.error if isinstance(known, BridgeFault) else log.warning)(
                "notice.refused",
                sop_instance=request.sop_instance,
                status=f"{answer.code:04X}",
                association=origin.association,
                **log_fields(known),
            )
            return answer
        return command_set.SUCCESS
