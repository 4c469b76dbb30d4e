"""Association negotiation (PS3.8 section 9.3, PS3.7 annex D).

Requests are decoded here and not by pynetdicom, which warns of every invalid UID. Python keeps each such warning, so
that any peer could fill the memory and the log, and pynetdicom needs a second for the worst request.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from pydicom.config import IGNORE
from pydicom.uid import UID
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom2fhir import __version__
from dicom2fhir.dicom.data_elements import IMPLICIT_VR_LITTLE_ENDIAN
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.sop_classes import MEDIA_STORAGE_DIRECTORY, STORAGE_COMMITMENT_PULL, VERIFICATION

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.311115052387921616922721796290081500228"
"""Derived from a random UUID (PS3.5 section B.2); the same for all versions of the bridge."""
IMPLEMENTATION_VERSION_NAME = f"D2F_{__version__}"[:16]

_NOT_STORAGE = frozenset({MEDIA_STORAGE_DIRECTORY, STORAGE_COMMITMENT_PULL})
"""Named "Storage", but not for composite instances."""
_STORAGE_LEVEL_0 = bytes(6)
"""Service-class-application-information of storage (PS3.4 table B.3-2): level 0, no signatures, no coercion."""

_ASSOCIATE_RQ, _ASSOCIATE_AC = 0x01, 0x02
_APPLICATION_CONTEXT, _CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAX_LENGTH, _CLASS_UID, _WINDOW, _ROLE, _VERSION_NAME, _EXTENDED = 0x51, 0x52, 0x53, 0x54, 0x55, 0x56
"""Types of items (PS3.8 sections 9.3.2 and D.1, PS3.7 section D.3.3); others are ignored."""

_FIXED = struct.Struct(">H2x16s16s32x")
"""The fixed fields of an A-ASSOCIATE-RQ before its items, without the PDU header."""
_ITEM = struct.Struct(">BxH")
_MAX_ITEMS = 10_000
"""128 presentation contexts with all 60 transfer syntaxes of PS3.6 have 7,936."""

_ACCEPTED, _USER_REJECTION, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 1, 3, 4
"""Results of a presentation context (PS3.8 table 9-18)."""
_UID = re.compile(r"[0-9.]{1,64}")
"""Less strict than PS3.5 section 9.1: misplaced zeros do no harm."""
_STANDARD_ROOT = "1.2.840.10008."


@dataclass(frozen=True, slots=True)
class AssociationRejection:
    """An A-ASSOCIATE-RJ with the numbers of PS3.8 table 9-21 and the meaning of its reason."""

    result: int
    source: int
    reason: int
    meaning: str

    def encode(self) -> bytes:
        """The whole PDU."""
        return struct.pack(">BBLBBBB", 3, 0, 4, 0, self.result, self.source, self.reason)


NO_SUCH_APPLICATION_CONTEXT = AssociationRejection(1, 1, 2, "application context name not supported")
CALLING_AE_NOT_RECOGNIZED = AssociationRejection(1, 1, 3, "calling AE title not recognized")
CALLED_AE_NOT_RECOGNIZED = AssociationRejection(1, 1, 7, "called AE title not recognized")
PROTOCOL_VERSION_NOT_SUPPORTED = AssociationRejection(1, 2, 2, "protocol version not supported")
LOCAL_LIMIT_EXCEEDED = AssociationRejection(2, 3, 2, "local limit exceeded")


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An A-ASSOCIATE-AC and its content."""

    pdu: bytes
    contexts: dict[int, PresentationContext]
    max_send_bytes: int
    """Longest P-DATA-TF that the peer accepts, without the PDU header; 0: any length (PS3.8 section D.1)."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed presentation context."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded A-ASSOCIATE-RQ.

    Attributes
    ----------
    echoed
        What the A-ASSOCIATE-AC repeats: the AE titles and the reserved bytes after them.
    contexts
        By presentation context ID.
    roles
        SOP class -> whether the requestor proposes the SCU role, which is the default.
    extended
        SOP classes with extended negotiation.
    """

    protocol_version: int
    calling_ae: str
    called_ae: str
    echoed: bytes
    application_context: str
    contexts: dict[int, Proposal]
    max_send_bytes: int
    has_window: bool
    roles: dict[str, bool]
    extended: tuple[str, ...]


def is_storage(abstract_syntax: str) -> bool:
    """Whether a SOP class can be stored: current and retired storage SOP classes, private and unknown ones."""
    service = uid_to_service_class(abstract_syntax)
    if service is not ServiceClass:
        return service is StorageServiceClass
    if not _UID.fullmatch(abstract_syntax):
        return False
    uid = UID(abstract_syntax, validation_mode=IGNORE)  # otherwise pydicom warns of misplaced zeros
    if not uid.type:
        return True  # private, or newer than pydicom's dictionary
    return uid.type == "SOP Class" and (not uid.name or "Storage" in uid.name) and uid not in _NOT_STORAGE


def best_syntax(proposed: Iterable[str]) -> str:
    """Choose a transfer syntax; empty if no proposed one is a UID.

    Nothing is decoded, so every transfer syntax is acceptable. The requestor's first one is chosen, but a private one
    only if there is no other: only its data sets may have an encoding that no standard defines.
    """
    usable = [uid for uid in proposed if _UID.fullmatch(uid)]
    return next((uid for uid in usable if uid.startswith(_STANDARD_ROOT)), usable[0] if usable else "")


# The request


def decode_request(pdu: bytes) -> Request:
    """Decode an A-ASSOCIATE-RQ; unknown items are ignored (PS3.8 section 9.3.1).

    Raises
    ------
    CannotUnderstand
        It is not valid.
    """
    body = pdu[6:]
    if len(body) < _FIXED.size:
        raise CannotUnderstand("The association request is too short.")
    version, called, calling = _FIXED.unpack_from(body)
    application_context, contexts, user = "", dict[int, Proposal](), list[tuple[int, bytes]]()
    count = 0
    for kind, value in _items(body[_FIXED.size :]):
        inner: list[tuple[int, bytes]] = []
        if kind == _APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == _CONTEXT_RQ:
            inner = list(_items(value[4:]))
            number = value[0] if value else 0
            if not number % 2 or number in contexts:
                raise CannotUnderstand("The association request has invalid presentation context IDs.")
            contexts[number] = _proposal(inner)
        elif kind == _USER:
            inner = list(_items(value))
            user += inner
        count += 1 + len(inner)
        if count > _MAX_ITEMS:
            raise CannotUnderstand("The association request has too many items.")
    if not application_context or not contexts:
        raise CannotUnderstand("The association request has no application context or no presentation contexts.")
    lengths = [int.from_bytes(value, "big") for kind, value in user if kind == _MAX_LENGTH and len(value) == 4]
    return Request(
        version,
        _title(calling),
        _title(called),
        body[4 : _FIXED.size],
        application_context,
        contexts,
        max_send_bytes=lengths[0] if lengths else 0,
        has_window=any(kind == _WINDOW for kind, _ in user),
        roles={uid: rest[:1] != b"\0" for uid, rest in _of_classes(user, _ROLE)},
        extended=tuple(dict.fromkeys(uid for uid, _ in _of_classes(user, _EXTENDED))),
    )


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and values of consecutive items."""
    at = 0
    while at < len(data):
        if at + _ITEM.size > len(data):
            raise CannotUnderstand("The association request ends within an item.")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if at + length > len(data):
            raise CannotUnderstand("The association request has an item that is longer than the item that contains it.")
        yield kind, data[at : at + length]
        at += length


def _proposal(items: list[tuple[int, bytes]]) -> Proposal:
    abstract = [_text(value) for kind, value in items if kind == _ABSTRACT]
    transfer = tuple(_text(value) for kind, value in items if kind == _TRANSFER)
    if len(abstract) != 1 or not transfer:
        raise CannotUnderstand("The association request has a presentation context without syntaxes.")
    return Proposal(abstract[0], transfer)


def _of_classes(items: list[tuple[int, bytes]], wanted: int) -> Iterator[tuple[str, bytes]]:
    """The SOP classes that items of one type begin with, and the bytes that follow."""
    for kind, value in items:
        if kind == wanted:
            end = 2 + int.from_bytes(value[:2], "big")
            yield _text(value[2:end]), value[end:]


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _title(value: bytes) -> str:
    """An AE title (PS3.5 section 6.2)."""
    title = _text(value)
    if not title or not title.isascii() or not title.isprintable() or "\\" in title:
        raise CannotUnderstand("The association request has an invalid AE title.")
    return title


def verification_request(called_ae: str, calling_ae: str, number: int) -> bytes:
    """An A-ASSOCIATE-RQ that proposes Verification, with ``number`` as presentation context ID."""
    syntaxes = _item(_ABSTRACT, VERIFICATION.encode()) + _item(_TRANSFER, IMPLICIT_VR_LITTLE_ENDIAN.encode())
    user = _item(_MAX_LENGTH, bytes(4)) + _item(_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, called_ae.ljust(16).encode(), calling_ae.ljust(16).encode())
    body += _item(_APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode())
    body += _item(_CONTEXT_RQ, bytes((number, 0, 0, 0)) + syntaxes) + _item(_USER, user)
    return struct.pack(">BxL", _ASSOCIATE_RQ, len(body)) + body


# The answer


def accept(request: Request, max_receive_bytes: int, normalized: Collection[str] = ()) -> Acceptance:
    """Accept a request, with a result for each presentation context.

    Parameters
    ----------
    normalized
        Normalized SOP classes that are accepted.
    """
    accepted: dict[int, PresentationContext] = {}
    results = []
    for number, proposal in request.contexts.items():
        uid = proposal.abstract_syntax
        syntax, result = best_syntax(proposal.transfer_syntaxes), _ACCEPTED
        if uid != VERIFICATION and uid not in normalized and not is_storage(uid):
            result = _NO_ABSTRACT_SYNTAX
        elif not syntax:
            result = _NO_TRANSFER_SYNTAX
        elif not request.roles.get(uid, True):  # the requestor proposes the SCP role only (PS3.7 section D.3.3.4)
            result = _USER_REJECTION
        else:
            accepted[number] = PresentationContext(uid, syntax)
        results.append(_item(_CONTEXT_AC, bytes((number, 0, result, 0)) + _item(_TRANSFER, syntax.encode())))
    body = struct.pack(">HH", 1, 0) + request.echoed
    body += _item(_APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode()) + b"".join(results)
    body += _item(_USER, b"".join(_user_items(request, accepted, max_receive_bytes)))
    return Acceptance(struct.pack(">BxL", _ASSOCIATE_AC, len(body)) + body, accepted, request.max_send_bytes)


def _user_items(request: Request, accepted: dict[int, PresentationContext], max_receive_bytes: int) -> Iterator[bytes]:
    """The user information of the A-ASSOCIATE-AC.

    User identity is ignored, which is indicated by not answering (PS3.7 section D.3.3.7). Common extended negotiation
    has no answer (D.3.3.6).
    """
    classes = dict.fromkeys(context.abstract_syntax for context in accepted.values())
    yield _item(_MAX_LENGTH, struct.pack(">L", max_receive_bytes))
    yield _item(_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode())
    if request.has_window:
        yield _item(_WINDOW, struct.pack(">HH", 1, 1))
    for uid in classes:
        if uid in request.roles:
            yield _item(_ROLE, _of_class(uid) + b"\1\0")
    yield _item(_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode())
    for uid in classes:
        if uid in request.extended and is_storage(uid):
            yield _item(_EXTENDED, _of_class(uid) + _STORAGE_LEVEL_0)


def _of_class(uid: str) -> bytes:
    return struct.pack(">H", len(uid)) + uid.encode()


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value
