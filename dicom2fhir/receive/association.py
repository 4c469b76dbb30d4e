"""One association as its acceptor: negotiation, C-ECHO and C-STORE, on top of pynetdicom.

pynetdicom accepts unknown SOP classes only by a module-wide switch (``_config.UNRESTRICTED_STORAGE_SERVICE``). Here
its classes are derived from instead, so that everything holds for one listener and nothing changes for others.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import structlog
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, DimseServiceType
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom2fhir.dicom.header import header_length
from dicom2fhir.errors import BridgeError, BudgetExceeded, CannotUnderstand
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive import dimse

if TYPE_CHECKING:
    from dicom2fhir.receive.scp import Server

log = structlog.get_logger()

VERIFICATION = "1.2.840.10008.1.1"
_NOT_STORAGE = frozenset({"1.2.840.10008.1.3.10", "1.2.840.10008.1.20.2"})
"""Media Storage Directory and Storage Commitment Pull: "Storage" in the name and not composite instances."""

_FIRST_LOOK_BYTES = 256 * 1024
_PDU_FLOOR_BYTES = 1024 * 1024
"""Longest A-ASSOCIATE-RQ that is read: PS3.8 sets no limit, 128 contexts with 40 transfer syntaxes each take 400 KB."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What an association calls; see :class:`dicom2fhir.receive.scp.StorageSCP`."""

    on_received: Callable[[Received], object]
    on_rejected: Callable[[Origin, str], None]
    on_association_ended: Callable[[str], None]


def is_storage(abstract_syntax: str) -> bool:
    """Whether a SOP class can be stored: storage SOP classes in force or retired, private and unknown ones."""
    service = uid_to_service_class(abstract_syntax)
    if service is not ServiceClass:
        return service is StorageServiceClass
    if abstract_syntax not in UID_dictionary:
        return True
    name, kind = UID_dictionary[abstract_syntax][:2]
    return kind == "SOP Class" and (not name or "Storage" in name) and abstract_syntax not in _NOT_STORAGE


def supported_contexts(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Turn what a requestor proposes into what we support: Verification and storage with every transfer syntax.

    Nothing is decoded, so every transfer syntax will do. Of several in one context the requestor's first is taken, but
    a private one only when there is no other: only its data sets may be encoded in ways that no standard tells.
    """
    syntaxes: dict[str, dict[UID, None]] = {}
    for context in proposed:
        if context.abstract_syntax == VERIFICATION or is_storage(str(context.abstract_syntax)):
            syntaxes.setdefault(str(context.abstract_syntax), {}).update(dict.fromkeys(context.transfer_syntax))
    supported = []
    for abstract_syntax, transfer_syntaxes in syntaxes.items():
        context = PresentationContext()
        context.abstract_syntax = UID(abstract_syntax)
        context.transfer_syntax = cast(
            list[str | bytes | UID], sorted(transfer_syntaxes, key=lambda uid: uid.is_private)
        )
        supported.append(context)
    return supported


class _Header(BytesIO):
    """Where the data set is written to: keeps it up to Pixel Data as far as is known and lets the rest go by."""

    def __init__(self, transfer_syntax: str, max_bytes: int) -> None:
        super().__init__()
        self.transfer_syntax = transfer_syntax
        self._max_bytes = max_bytes
        self._look_at_bytes = min(_FIRST_LOOK_BYTES, max_bytes)
        self._complete = False
        self._too_long = False

    def write(self, data: Any, /) -> int:
        if not self._complete:
            super().write(data)
            if self.tell() > self._look_at_bytes:
                self._look()
        return len(data)

    def _look(self) -> None:
        try:
            length = header_length(self.getvalue(), self.transfer_syntax)
        except CannotUnderstand:
            length = self.tell()  # perhaps only because the rest is still to come
        if length < self.tell():
            self._complete = True
        elif self.tell() > self._max_bytes:
            self._complete = self._too_long = True
            length = 0
        self.truncate(length)
        self._look_at_bytes = min(2 * self._look_at_bytes, self._max_bytes)

    def header(self) -> bytes:
        """The data set up to Pixel Data, once all of it was written."""
        if self._too_long:
            raise BudgetExceeded(f"The header is longer than {self._max_bytes} bytes.")
        data = self.getvalue()
        return data if self._complete else data[: header_length(data, self.transfer_syntax)]


class _Messages(DIMSEServiceProvider):
    """Assembles DIMSE messages without keeping their pixels."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        if self.message is None:
            context = self.assoc._accepted_cx.get(primitive.presentation_data_value_list[0][0])
            self.message = DIMSEMessage()
            self.message.data_set = _Header(
                str(context.transfer_syntax[0]) if context else "", cast(Acceptor, self.assoc).max_header_bytes
            )
        super().receive_primitive(primitive)


class _Socket(AssociationSocket):
    """Reads a PDU within a time and a size."""

    def __init__(
        self, assoc: Association, client_socket: socket.socket, pdu_timeout_s: float, max_pdu_bytes: int
    ) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._pdu_timeout_s = pdu_timeout_s
        self._max_pdu_bytes = max(max_pdu_bytes, _PDU_FLOOR_BYTES)

    def _shutdown_socket(self) -> None:
        # pynetdicom's own does not close a socket whose peer has reset the connection
        self.disconnect()
        if self.socket is not None:
            self.socket.close()

    def disconnect(self) -> None:
        """Wake whoever reads, and let them close."""
        with contextlib.suppress(OSError):
            if self.socket is not None:
                self.socket.shutdown(socket.SHUT_RDWR)

    def recv(self, nr_bytes: int) -> bytearray:
        sock = self.socket
        if sock is None or nr_bytes > self._max_pdu_bytes:
            raise OSError(f"a PDU of {nr_bytes} bytes is announced, {self._max_pdu_bytes} are allowed")
        deadline = time.monotonic() + self._pdu_timeout_s
        received = bytearray(nr_bytes)
        view = memoryview(received)
        count = 0
        while count < nr_bytes:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            read = sock.recv_into(view[count:])
            if not read:
                break
            count += read
        sock.settimeout(self._pdu_timeout_s)
        # senders that leave Nagle's algorithm on wait 40 ms for a delayed ACK between command and data set
        if hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return received[:count] if count < nr_bytes else received


class Acceptor(Association):
    """One association, from the accepted connection to its end, on a thread of its own."""

    def __init__(
        self, server: Server, connection: socket.socket, local: AddressInformation, peer: AddressInformation
    ) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.name = f"association {peer.address}"
        self.identifier = uuid.uuid4().hex
        self.max_header_bytes = server.listen.max_header_bytes
        self.serving = threading.Lock()
        """Held while an instance is on its way into the store and its answer into the queue of PDUs to send."""
        self._server = server
        self._callbacks: Callbacks = server.callbacks
        self._stopping: threading.Event = server.stopping
        self._origin = Origin("dimse")
        self._stored = self._failed = 0
        self.dimse = _Messages(self)
        self.set_socket(_Socket(self, connection, server.listen.dimse_timeout_s, server.listen.max_pdu_bytes))
        self.acceptor.maximum_length = server.listen.max_pdu_bytes
        self.acceptor.ae_title = server.ae_title
        self.acceptor.address_info = local
        self.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        self.acceptor.implementation_version_name = server.ae.implementation_version_name
        self.requestor.address_info = peer
        self.bind(evt.EVT_REQUESTED, self._requested)
        self.bind(evt.EVT_REJECTED, self._rejected)
        self.bind(evt.EVT_CONN_CLOSE, self._closed)

    def _bind_defaults(self) -> None:
        # without the notification handlers, which render every PDU and DIMSE message for the log
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def _requested(self, _: evt.Event) -> None:
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        peer = cast(AddressInformation, self.requestor.address_info)
        self._origin = Origin(
            "dimse",
            calling_ae=str(request.calling_ae_title).strip(),
            called_ae=str(request.called_ae_title).strip(),
            peer=peer.address,
            association=self.identifier,
        )
        self.acceptor.supported_contexts = supported_contexts(request.presentation_context_definition_list)

    def _rejected(self, _: evt.Event) -> None:
        answer = cast(A_ASSOCIATE, self.acceptor.primitive)
        log.warning(
            "association.rejected",
            peer=self._origin.peer,
            calling_ae=self._origin.calling_ae,
            called_ae=self._origin.called_ae,
            source=answer.result_source,
            reason=answer.diagnostic,
        )

    def _closed(self, _: evt.Event) -> None:
        if self.requestor.primitive is None:
            # without it the thread would wait for an association request until the ACSE time-out
            self.dul.to_user_queue.put(None)

    def _run_reactor(self) -> None:
        origin = self._origin
        context = {"peer": origin.peer, "calling_ae": origin.calling_ae, "association": self.identifier}
        log.info("association.accepted", **context)
        try:
            super()._run_reactor()
        finally:
            log.info(
                "association.ended", stored=self._stored, failed=self._failed, released=self.is_released, **context
            )
            self._tell_ended()

    def _tell_ended(self) -> None:
        try:
            self._callbacks.on_association_ended(self.identifier)
        except Exception as error:  # nobody is left to answer to; the longest wait ends the study's quiet time instead
            log.warning("association.end_not_told", error=type(error).__name__, association=self.identifier)

    def _serve_request(self, msg: DimseServiceType, context_id: int) -> None:
        with self.serving:
            if self._stopping.is_set():
                return
            context = self._accepted_cx.get(context_id)
            if context is None or msg.MessageID is None:
                self.abort()
                return
            response = type(msg)()
            response.MessageID = msg.MessageID
            response.MessageIDBeingRespondedTo = msg.MessageID
            answer = dimse.UNRECOGNIZED_OPERATION
            if isinstance(msg, C_ECHO):
                answer = dimse.SUCCESS
                response.AffectedSOPClassUID = VERIFICATION
            elif isinstance(msg, C_STORE):
                answer = self._store(msg, context)
                response.AffectedSOPClassUID = msg.AffectedSOPClassUID
                cast(C_STORE, response).AffectedSOPInstanceUID = msg.AffectedSOPInstanceUID
            response.Status = answer.status
            if answer.comment:
                response.ErrorComment = answer.comment  # type: ignore[assignment]
            self.dimse.send_msg(response, context_id)

    def _store(self, request: C_STORE, context: PresentationContext) -> dimse.Answer:
        if context.abstract_syntax == VERIFICATION:
            return dimse.SOP_CLASS_NOT_SUPPORTED
        answer = dimse.SUCCESS
        try:
            self._hand_over(request)
        except Exception as error:  # the edge between the bridge and the DICOM protocol
            answer = dimse.answer_to(error)
            if answer is dimse.UNEXPECTED:
                # the traceback without the message, which may hold values of the data set
                frames = "".join(traceback.format_tb(error.__traceback__))
                log.error("instance.failed", error=type(error).__name__, trace=frames, association=self.identifier)
        if answer is dimse.SUCCESS:
            self._stored += 1
        else:
            self._failed += 1
            log.warning("instance.refused", status=f"{answer.status:04X}", association=self.identifier)
        return answer

    def disconnect(self) -> None:
        """Close the connection under the association, for peers that do not take notice of an abort."""
        cast(_Socket, self.dul.socket).disconnect()

    def _hand_over(self, request: C_STORE) -> None:
        try:
            if not request.is_valid_request:
                raise CannotUnderstand("The C-STORE request lacks its data set or one of its identifiers.")
            data_set = cast(_Header, request.DataSet)
            header = data_set.header()
        except BridgeError as error:
            self._callbacks.on_rejected(self._origin, str(error))
            raise
        self._callbacks.on_received(
            Received(
                header,
                data_set.transfer_syntax,
                self._origin,
                sop_class=str(request.AffectedSOPClassUID),
                sop_instance=str(request.AffectedSOPInstanceUID),
            )
        )
