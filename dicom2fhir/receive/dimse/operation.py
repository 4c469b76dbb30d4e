"""An operation that peers request with a data set, from the first byte of it to the status of the response."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.errors import BridgeError, BridgeFault, CannotUnderstand, Transient, attempt
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.negotiation import PresentationContext
from dicom2fhir.system.memory_budget import Share


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks of an association; see :class:`dicom2fhir.receive.dimse.scp.StorageSCP`."""

    on_received: Callable[[Received, InstanceReader], object]
    on_created: Callable[[Received], object]
    on_set: Callable[[Received], object]
    on_rejected: Callable[[Origin, BridgeError], None]
    on_association_ended: Callable[[str], None]


class DimseOperation(ABC):
    """Performs requests of one kind in one association, one at a time."""

    def __init__(self, callbacks: Callbacks, share: Share) -> None:
        self._callbacks = callbacks
        self._share = share
        self._header: HeaderReader | None = None
        self._fault: Exception | None = None
        """Why the rest of the data set is not read; it must still arrive before the response."""

    @abstractmethod
    def _open(self, context: PresentationContext) -> HeaderReader:
        """Begin to read a data set."""

    @abstractmethod
    def perform(self, request: command_set.Command, origin: Origin) -> command_set.ResponseStatus:
        """Perform a request whose data set has arrived; return the status for the response."""

    def begin(self, context: PresentationContext) -> None:
        """Begin a data set."""
        self._header = self._open(context)

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

    def _received(self, request: command_set.Command, origin: Origin) -> Received:
        """The data set of a request.

        Raises
        ------
        BridgeError
            It cannot be read; ``on_rejected`` was called unless the error is transient.
        """
        header = self._header
        try:
            if self._fault is not None:
                raise self._fault
            if header is None or not request.sop_class or not request.sop_instance:
                raise CannotUnderstand("The request lacks its data set or one of its identifiers.")
            taken = attempt(header.end)
        except Transient:
            raise
        except BridgeError as error:
            self._callbacks.on_rejected(origin, error)
            raise
        return Received(
            taken,
            header.transfer_syntax,
            origin,
            sop_class=request.sop_class,
            sop_instance=request.sop_instance,
        )
