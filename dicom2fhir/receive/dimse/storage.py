"""C-STORE, from the data set of a request to the status of its response (PS3.4 annex B)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.errors import BridgeError, BridgeFault, CannotUnderstand, Transient, attempt, kind_of, log_fields
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.memory_budget import Share

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks of an association; see :class:`dicom2fhir.receive.dimse.scp.StorageSCP`."""

    on_received: Callable[[Received, InstanceReader], object]
    on_rejected: Callable[[Origin, BridgeError], None]
    on_association_ended: Callable[[str], None]


class Storage:
    """Receives the instances of one association, one at a time.

    Attributes
    ----------
    stored, failed
        Number of instances answered with Success, and with another status.
    """

    def __init__(self, callbacks: Callbacks, budgets: Budgets, share: Share) -> None:
        self.stored = self.failed = 0
        self._callbacks = callbacks
        self._reader = InstanceReader(budgets)
        self._share = share
        self._header: HeaderReader | None = None
        self._fault: Exception | None = None
        """Why the rest of the data set is not read; it must still arrive before the response."""

    def begin(self, transfer_syntax: str) -> None:
        """Begin a data set."""
        self._header = self._reader.open_header(transfer_syntax, self._share.hold)

    @property
    def wants_more(self) -> bool:
        """Whether the rest of the data set is needed."""
        return self._header is not None and not self._header.is_complete

    def write(self, piece: bytes | memoryview) -> None:
        """Read the next bytes of the data set."""
        if self._header is None:
            return
        try:
            attempt(self._header.write, piece)
        except (BridgeFault, MemoryError, Transient) as error:
            self._header, self._fault = None, error
            self._share.let_go()

    def reset(self) -> None:
        """Forget the data set."""
        self._header = self._fault = None
        self._share.let_go()

    def store(self, request: command_set.Command, origin: Origin) -> command_set.ResponseStatus:
        """Pass the complete instance on; return the status for the response."""
        answer, kind = command_set.SUCCESS, ""
        try:
            self._hand_over(request, origin)
        except Exception as error:  # every error becomes a status
            answer = command_set.failure_status(error)
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

    def _hand_over(self, request: command_set.Command, origin: Origin) -> None:
        header = self._header
        try:
            if self._fault is not None:
                raise self._fault
            if header is None or not request.sop_class or not request.sop_instance:
                raise CannotUnderstand("The C-STORE request lacks its data set or one of its identifiers.")
            taken = attempt(header.end)
        except Transient:
            raise
        except BridgeError as error:
            self._callbacks.on_rejected(origin, error)
            raise
        received = Received(
            taken,
            header.transfer_syntax,
            origin,
            sop_class=request.sop_class,
            sop_instance=request.sop_instance,
        )
        self._callbacks.on_received(received, self._reader)
