"""One association, as its acceptor: negotiation and the exchange of PDUs (PS3.8 sections 7 and 9, PS3.7 section 9).

Messages are processed one at a time. The next one is not read before the previous one is answered, so that messages
sent ahead wait on the peer's machine. A data set is read while it arrives.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import structlog

from dicom2fhir.errors import CannotUnderstand, log_fields
from dicom2fhir.model import Origin
from dicom2fhir.receive.dimse import command_set, negotiation
from dicom2fhir.receive.dimse.connection import NEVER, Ended, Wire
from dicom2fhir.receive.dimse.negotiation import Acceptance, PresentationContext
from dicom2fhir.receive.dimse.operation import Callbacks, DimseOperation
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.refusal_counts import Refusals
from dicom2fhir.receive.dimse.services import Services
from dicom2fhir.system.memory_budget import HeaderSpace, Share

log = structlog.get_logger(__name__)

_ASSOCIATE_RQ, _P_DATA_TF, _RELEASE_RQ, _ABORT = 0x01, 0x04, 0x05, 0x07
_LAST_PDU_TYPE = 0x07
_RELEASE_RP = bytes.fromhex("06000000000400000000")
_CONTROL_BYTES = 4
"""Length of an A-RELEASE-RQ and of an A-ABORT (PS3.8 tables 9-24 and 9-26)."""

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_DATA_PDU = struct.Struct(">BBLLBB")
_COMMAND, _LAST = 0x01, 0x02
"""Bits of the message control header (PS3.8 section E.2)."""

_MAX_COMMAND_BYTES = 16 * 1024
"""Limit for a command set; a C-STORE-RQ has about 200 bytes."""
_GOODBYE_S = 2.0
"""Time for the peer to close the connection after the last PDU."""


class _Abort(Exception):
    """The peer violated the protocol: A-ABORT by the service provider, with a reason of PS3.8 table 9-26."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason


UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 1, 2, 5, 6


class Association:
    """One connection, from its acceptance to its end, in its own thread.

    Parameters
    ----------
    admit
        Called for an acceptable request; False: there are too many associations.
    stopping
        Set when no new instance may begin.
    space, refusals
        Shared by all associations.
    """

    def __init__(
        self,
        wire: Wire,
        peer: str,
        rules: Listen,
        callbacks: Callbacks,
        *,
        admit: Callable[[Association], bool],
        stopping: threading.Event,
        space: HeaderSpace,
        refusals: Refusals,
    ) -> None:
        self.wire = wire
        self.peer = peer
        self.is_associated = self.is_leaving = False
        """Whether the request was accepted; whether the association is ending."""
        self._rules = rules
        self._callbacks = callbacks
        self._share = Share(space)
        self._services = Services(callbacks, rules.budgets, self._share)
        self._operation: DimseOperation | None = None
        self._admit = admit
        self._stopping = stopping
        self._space = space
        self._refusals = refusals
        self._origin = Origin("dimse", peer=peer, association=uuid.uuid4().hex)
        self._contexts: dict[int, PresentationContext] = {}
        self._max_send_bytes = 0
        self._message_since: tuple[float, int] | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget the current message."""
        self._context_id = 0
        self._command_set = bytearray()
        self._command: command_set.Command | None = None
        self._message_since = None
        if self._operation is not None:
            self._operation.reset()
            self._operation = None

    @property
    def sender(self) -> tuple[str, str]:
        """Calling AE title, which is empty before the request, and address of the peer."""
        return self._origin.calling_ae, self.peer

    @property
    def is_idle(self) -> bool:
        """Whether no message is in progress."""
        return not self._context_id

    def watch(self, now: float) -> None:
        """End reads and writes that take too long; called by the listener's thread several times a second."""
        wire, message = self.wire, self._message_since
        if now >= wire.expires_at:
            if wire.expired:
                wire.cut()
            wire.expires_at = now + _GOODBYE_S
            wire.expire()
        elif message is not None and not wire.expired:
            took_s = now - message[0]
            slow = wire.received_bytes - message[1] < self._rules.min_bytes_per_s * took_s
            if slow and took_s > self._rules.dimse_timeout_s and wire.expires_at < NEVER:
                wire.expires_at = now + _GOODBYE_S
                wire.expire()

    def run(self) -> None:
        """Run the association until it ends."""
        try:
            if self._negotiate():
                self._serve()
        except (Ended, OSError) as error:
            self._say_why(error)
        except _Abort as abort:
            log.warning("association.aborted", peer=self.peer, reason=str(abort))
            self._refusals.count("association: protocol error")
            self._abort(2, abort.reason)
        finally:
            if self.is_leaving:
                self.wire.await_close()
            self.is_leaving = True
            self.wire.close()
            self._share.let_go()

    def _say_why(self, error: Exception) -> None:
        if not self.is_associated:
            if self.wire.expired:
                log.info("connection.expired", peer=self.peer)
            elif not isinstance(error, Ended) and not self._stopping.is_set():
                log.warning("connection.failed", peer=self.peer, **log_fields(error))
            return
        if self.wire.expired or self._stopping.is_set():
            reason = "too slow or silent" if self.wire.expired else "the receiver is stopping"
            log.warning("association.aborted", peer=self.peer, reason=reason)
            self._abort(0, 0)

    # Negotiation

    def _negotiate(self) -> bool:
        wire, rules = self.wire, self._rules
        wire.wait()
        wire.expires_at = min(wire.expires_at, time.monotonic() + rules.dimse_timeout_s)
        kind, length = wire.unpack(_PDU)
        if kind == _ABORT:
            return False  # an A-ABORT is not answered (PS3.8 table 9-10, AA-2)
        if kind != _ASSOCIATE_RQ:
            reason = UNEXPECTED_PDU if 0 < kind <= _LAST_PDU_TYPE else UNRECOGNIZED_PDU
            raise _Abort(reason, "The first PDU is not an association request.")
        if length > rules.max_associate_bytes:
            raise _Abort(INVALID_PARAMETER, f"The association request is too long: {length} bytes.")
        body = bytearray()
        for piece in wire.pieces(length):
            body += piece
        try:
            request = negotiation.decode_request(_PDU.pack(kind, length) + body)
            answer = self._answer(request)
        except CannotUnderstand as error:
            raise _Abort(INVALID_PARAMETER, str(error)) from None
        if isinstance(answer, negotiation.AssociationRejection):
            log.warning(
                "association.rejected",
                peer=self.peer,
                calling_ae=request.calling_ae,
                called_ae=request.called_ae,
                source=answer.source,
                reason=answer.reason,
            )
            self._refusals.count(f"association: {answer.meaning}")
            self._leave(answer.encode())
            return False
        self._contexts, self._max_send_bytes = answer.contexts, answer.max_send_bytes
        wire.widen()
        wire.send(answer.pdu)
        return True

    def _answer(self, request: negotiation.Request) -> Acceptance | negotiation.AssociationRejection:
        rules = self._rules
        self._origin = replace(
            self._origin,
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            may_reject=request.calling_ae in self._rules.rejection_notes_from,
        )
        if not request.protocol_version & 1:
            return negotiation.PROTOCOL_VERSION_NOT_SUPPORTED
        if request.application_context != negotiation.APPLICATION_CONTEXT:
            return negotiation.NO_SUCH_APPLICATION_CONTEXT
        if rules.require_called_ae_title and request.called_ae != rules.ae_title:
            return negotiation.CALLED_AE_NOT_RECOGNIZED
        if rules.calling_ae_titles and request.calling_ae not in rules.calling_ae_titles:
            return negotiation.CALLING_AE_NOT_RECOGNIZED
        acceptance = negotiation.accept(request, rules.max_pdu_bytes, rules.normalized)
        return acceptance if self._admit(self) else negotiation.LOCAL_LIMIT_EXCEEDED

    # Messages

    def _serve(self) -> None:
        origin = self._origin
        context = {"peer": origin.peer, "calling_ae": origin.calling_ae, "association": origin.association}
        log.info("association.accepted", **context)
        released = False
        try:
            released = self._read_pdus()
        finally:
            log.info(
                "association.ended",
                stored=self._services.storage.stored,
                failed=self._services.storage.failed,
                released=released,
                **context,
            )
            self._tell_ended()

    def _tell_ended(self) -> None:
        try:
            self._callbacks.on_association_ended(self._origin.association)
        except Exception as error:  # there is no peer left to answer; the store tries again
            log.warning("association.end_not_recorded", association=self._origin.association, **log_fields(error))

    def _read_pdus(self) -> bool:
        """Read PDUs until the association ends; return whether it was released."""
        wire, rules = self.wire, self._rules
        while True:
            if not wire.has_more:
                wire.expires_at = time.monotonic() + rules.network_timeout_s
            if self.is_idle and self._stopping.is_set():
                raise Ended
            wire.wait()
            wire.expires_at = time.monotonic() + rules.dimse_timeout_s
            kind, length = wire.unpack(_PDU)
            if kind == _P_DATA_TF:
                if length > rules.max_pdu_bytes:
                    raise _Abort(INVALID_PARAMETER, f"The P-DATA-TF PDU is too long: {length} bytes.")
                self._read_data(length)
                continue
            if not _ASSOCIATE_RQ <= kind <= _LAST_PDU_TYPE:
                raise _Abort(UNRECOGNIZED_PDU, f"PDU of unknown type {kind:02X}.")
            if kind not in (_RELEASE_RQ, _ABORT):
                raise _Abort(UNEXPECTED_PDU, f"Unexpected PDU of type {kind:02X} in an association.")
            if length != _CONTROL_BYTES:
                raise _Abort(INVALID_PARAMETER, f"PDU of type {kind:02X} with wrong length {length}.")
            wire.skip(length)
            if kind == _RELEASE_RQ:
                self._leave(_RELEASE_RP)
                return True
            return False

    def _read_data(self, left: int) -> None:
        """Read the presentation data values of one P-DATA-TF (PS3.8 section 9.3.5)."""
        wire = self.wire
        if not left:
            raise _Abort(INVALID_PARAMETER, "P-DATA-TF PDU without a presentation data value.")
        while left:
            if left < _PDV.size:
                raise _Abort(INVALID_PARAMETER, "P-DATA-TF PDU ends within the header of a presentation data value.")
            length, context_id, control = wire.unpack(_PDV)
            count = length - 2
            left -= _PDV.size + count
            if count < 0 or left < 0:
                raise _Abort(INVALID_PARAMETER, f"Presentation data value with wrong length {length}.")
            if not self._context_id or context_id != self._context_id:
                self._begin(context_id)
            if control & _COMMAND:
                self._read_command(count, bool(control & _LAST))
            else:
                self._read_data_set(count, bool(control & _LAST))

    def _begin(self, context_id: int) -> None:
        """Begin a message."""
        if context_id not in self._contexts:
            raise _Abort(INVALID_PARAMETER, f"Presentation context {context_id} was not accepted.")
        if self._context_id:
            raise _Abort(UNEXPECTED_PARAMETER, "A message continues in another presentation context.")
        if self._stopping.is_set():
            raise Ended
        self._context_id = context_id
        self._message_since = (time.monotonic(), self.wire.received_bytes)

    def _read_command(self, count: int, is_last: bool) -> None:
        if self._command is not None:
            raise _Abort(UNEXPECTED_PARAMETER, "Command received instead of the data set of the previous command.")
        if len(self._command_set) + count > _MAX_COMMAND_BYTES:
            raise _Abort(INVALID_PARAMETER, "The command set is too long.")
        for piece in self.wire.pieces(count):
            self._command_set += piece
        if not is_last:
            return
        try:
            command = command_set.decode(bytes(self._command_set))
        except CannotUnderstand as error:
            raise _Abort(INVALID_PARAMETER, str(error)) from None
        if command.is_response or (command.message_id is None and command.field != command_set.C_CANCEL_RQ):
            raise _Abort(INVALID_PARAMETER, "The command is a response, or has no message ID.")
        if command.field == command_set.N_CREATE_RQ and not command.sop_instance:
            command = replace(command, sop_instance=f"2.25.{uuid.uuid4().int}")  # the SCP chooses it (PS3.7 10.1.5.1.4)
        self._command = command
        context = self._contexts[self._context_id]
        self._operation = self._services.operation(command, context.abstract_syntax)
        if not command.has_data_set:
            self._finish(command)
        elif self._operation is not None:
            self._operation.begin(context)

    def _read_data_set(self, count: int, is_last: bool) -> None:
        if self._command is None:
            raise _Abort(UNEXPECTED_PARAMETER, "Data set without a command.")
        wire, operation = self.wire, self._operation
        if operation is not None and operation.wants_more:
            for piece in wire.pieces(count):
                count -= len(piece)
                operation.write(piece)
                if not operation.wants_more:
                    break
        wire.skip(count)
        if is_last:
            self._finish(self._command)

    def _finish(self, command: command_set.Command) -> None:
        """Perform the operation of a complete message and send the response."""
        context_id, operation = self._context_id, self._operation
        self.wire.expires_at = NEVER  # the store may take longer, and has its own limits
        if operation is not None:
            answer = operation.perform(command, self._origin)
        else:
            answer = self._services.answer(command, self._contexts[context_id].abstract_syntax)
        if answer is not command_set.SUCCESS:
            self._refusals.count(f"message: {answer.code:04X} {answer.comment}".strip())
        self.wire.expires_at = time.monotonic() + self._rules.dimse_timeout_s
        if command.field != command_set.C_CANCEL_RQ:  # C-CANCEL has no response (PS3.7 section 9.3.2.3)
            self._send_command(context_id, command_set.encode_response(command, answer))
        self._reset()

    def _send_command(self, context_id: int, encoded: bytes) -> None:
        most = self._max_send_bytes - _PDV.size if self._max_send_bytes else len(encoded)
        step = max(most - most % 2, 2)
        pdus = []
        for at in range(0, len(encoded), step):
            piece = encoded[at : at + step]
            control = _COMMAND | (_LAST if at + step >= len(encoded) else 0)
            pdus.append(_DATA_PDU.pack(_P_DATA_TF, 0, len(piece) + 6, len(piece) + 2, context_id, control) + piece)
        self.wire.send(b"".join(pdus))

    # The end

    def _abort(self, source: int, reason: int) -> None:
        with contextlib.suppress(OSError):
            self._leave(_PDU.pack(_ABORT, _CONTROL_BYTES) + bytes((0, 0, source, reason)))

    def _leave(self, last_pdu: bytes) -> None:
        """Send the last PDU."""
        self.wire.expires_at = time.monotonic() + _GOODBYE_S
        self.is_leaving = True  # before sending, so that a peer that has read it can connect again at once
        self.wire.send(last_pdu)
