"""DIMSE command sets (PS3.7 section 6.3.1 and annex E), and the only place that maps errors to statuses."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicom2fhir.errors import (
    BudgetExceeded,
    CannotUnderstand,
    DuplicateInstance,
    InvalidInstanceUID,
    InvalidValue,
    Mismatch,
    MissingAttribute,
    NoLongerUpdatable,
    NoSuchInstance,
    NotDicom,
    Permanent,
    Transient,
)
from dicom2fhir.sop_classes import VERIFICATION

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
N_SET_RQ = 0x0120
N_CREATE_RQ = 0x0140
C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000
"""The bit by which the command field of a response differs from that of its request (PS3.7 table E.1-1)."""
_NO_DATA_SET = 0x0101

_AFFECTED_SOP_CLASS = 0x0002
_REQUESTED_SOP_CLASS = 0x0003
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_ERROR_ID = 0x0903
_AFFECTED_SOP_INSTANCE = 0x1000
_REQUESTED_SOP_INSTANCE = 0x1001
"""Elements of group 0000; a command set has no others."""

_ELEMENT = struct.Struct("<HHL")
_US_ELEMENT = struct.Struct("<HHLH")


@dataclass(frozen=True, slots=True)
class Command:
    """The elements of a command set that the bridge uses; priority and move originator are ignored.

    Attributes
    ----------
    sop_class, sop_instance
        The affected ones; in an N-SET, which has none, the requested ones.
    """

    field: int
    message_id: int | None
    has_data_set: bool
    sop_class: str
    sop_instance: str

    @property
    def is_response(self) -> bool:
        """Whether the command is a response; the receiver sends no requests."""
        return bool(self.field & _RESPONSE)


@dataclass(frozen=True, slots=True)
class ResponseStatus:
    """A Status (0000,0900) and, for an error, an Error Comment (0000,0902)."""

    code: int
    comment: str = ""
    """At most 64 characters (LO); never contains values of the data set."""
    error_id: int | None = None


SUCCESS = ResponseStatus(0x0000)
"""What was sent is on disk."""

SOP_CLASS_NOT_SUPPORTED = ResponseStatus(0x0122, "This presentation context is not for storage.")
"""PS3.7 C.5.6, PS3.7 9.1.1.1.9."""

UNRECOGNIZED_OPERATION = ResponseStatus(0x0211)
"""PS3.7 C.5.20: a service that the SOP class does not have."""

NO_SUCH_SOP_CLASS = ResponseStatus(0x0118, "The SOP class is not that of the presentation context.")
"""PS3.7 C.5.18."""

UNEXPECTED = ResponseStatus(0x0110, "Processing failure")
"""PS3.7 C.5.13: an internal error, including :class:`~dicom2fhir.errors.BridgeFault`."""

Statuses = tuple[tuple[type[Exception], int, str], ...]
"""Error class -> status and its meaning; the first match applies, and another error is :data:`UNEXPECTED`."""

STORAGE_STATUSES: Statuses = (
    (Mismatch, 0xA900, "Data Set does not match SOP Class"),
    (CannotUnderstand, 0xC000, "Cannot understand"),
    (NotDicom, 0xC000, "Cannot understand"),
    (Transient, 0xA700, "Out of resources"),
    (MemoryError, 0xA700, "Out of resources"),
)
"""C-STORE, PS3.4 table B.2-1.

0111 (Duplicate SOP Instance) is never sent: a repeated instance gets Success, so that its sender stops.
"""

NORMALIZED_STATUSES: Statuses = (
    (MissingAttribute, 0x0120, "Missing Attribute"),
    (InvalidValue, 0x0106, "Invalid Attribute Value"),
    (InvalidInstanceUID, 0x0117, "Invalid SOP Instance"),
    (DuplicateInstance, 0x0111, "Duplicate SOP Instance"),
    (NoSuchInstance, 0x0112, "No Such SOP Instance"),
    (BudgetExceeded, 0x0213, "Resource Limitation"),
    (Transient, 0x0213, "Resource Limitation"),
    (MemoryError, 0x0213, "Resource Limitation"),
    (Permanent, 0x0110, "Processing Failure"),
)
"""N-CREATE and N-SET, PS3.7 annex C. A request that is repeated without a change gets Success, as in C-STORE."""

_ERROR_IDS: tuple[tuple[type[Exception], int], ...] = ((NoLongerUpdatable, 0xA710),)
"""PS3.4 table F.7.2-2."""

_COMMENT_CHARACTERS = 64


def failure_status(error: BaseException, statuses: Statuses) -> ResponseStatus:
    """The response status for a failed operation.

    The comment is the docstring of the error's class and not its message, which may contain paths of this machine.
    """
    error_id = next((number for kind, number in _ERROR_IDS if isinstance(error, kind)), None)
    for kind, code, _ in statuses:
        if isinstance(error, kind):
            comment = (type(error).__doc__ or "").strip().partition("\n")[0][:_COMMENT_CHARACTERS]
            return ResponseStatus(code, comment, error_id)
    return UNEXPECTED


def decode(command_set: bytes) -> Command:
    """Read a command set, which is Implicit VR Little Endian whatever was negotiated (PS3.7 section 6.3.1).

    Raises
    ------
    CannotUnderstand
        The bytes are not a command set, or a required element is missing.
    """
    values = _elements(command_set)
    field, data_set_type = _number(values, _COMMAND_FIELD), _number(values, _DATA_SET_TYPE)
    if field is None:
        raise CannotUnderstand("The command set has no command field.")
    return Command(
        field=field,
        message_id=_number(values, _MESSAGE_ID),
        has_data_set=data_set_type not in (None, _NO_DATA_SET),
        sop_class=_uid(values, _AFFECTED_SOP_CLASS) or _uid(values, _REQUESTED_SOP_CLASS),
        sop_instance=_uid(values, _AFFECTED_SOP_INSTANCE) or _uid(values, _REQUESTED_SOP_INSTANCE),
    )


def _elements(command_set: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at, end = 0, len(command_set)
    while at < end:
        if at + 8 > end:
            raise CannotUnderstand("The command set ends within an element.")
        group, element, length = _ELEMENT.unpack_from(command_set, at)
        at += 8
        if group or at + length > end:
            raise CannotUnderstand("The command set contains an invalid element.")
        values[element] = command_set[at : at + length]
        at += length
    return values


def _number(values: dict[int, bytes], element: int) -> int | None:
    value = values.get(element)
    if value is None:
        return None
    if len(value) != 2:
        raise CannotUnderstand(f"The element (0000,{element:04X}) of the command set is not a number.")
    return int.from_bytes(value, "little")


def _uid(values: dict[int, bytes], element: int) -> str:
    """The UID as received, so that the response can repeat it; Latin-1 keeps every byte of an invalid UID."""
    return values.get(element, b"").decode("latin-1").strip("\0 ")


def encode_echo() -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 section 9.3.5.1)."""
    return _command_set(
        _text(_AFFECTED_SOP_CLASS, VERIFICATION),
        _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, C_ECHO_RQ),
        _US_ELEMENT.pack(0, _MESSAGE_ID, 2, 1),
        _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
    )


def status_of(response: bytes) -> int | None:
    """The Status (0000,0900) of a response; None if it is missing.

    Raises
    ------
    CannotUnderstand
        The bytes are not a command set.
    """
    return _number(_elements(response), _STATUS)


def encode_response(request: Command, status: ResponseStatus) -> bytes:
    """The command set of the response to a request (PS3.7 sections 9.3.1.2, 9.3.5.2, 10.3.3.2 and 10.3.5.2)."""
    return _command_set(
        _text(_AFFECTED_SOP_CLASS, request.sop_class),
        _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, request.field | _RESPONSE),
        _US_ELEMENT.pack(0, _MESSAGE_ID_RESPONDED_TO, 2, request.message_id or 0),
        _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
        _US_ELEMENT.pack(0, _STATUS, 2, status.code),
        _text(_ERROR_COMMENT, status.comment, b" "),
        b"" if status.error_id is None else _US_ELEMENT.pack(0, _ERROR_ID, 2, status.error_id),
        _text(_AFFECTED_SOP_INSTANCE, request.sop_instance),
    )


def _command_set(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _text(element: int, text: str, padding: bytes = b"\0") -> bytes:
    """A text element, padded to even length; empty if there is no text."""
    if not text:
        return b""
    value = text.encode("latin-1")
    if len(value) % 2:
        value += padding
    return _ELEMENT.pack(0, element, len(value)) + value
