"""What becomes of an association request (PS3.8 section 9.3, PS3.7 annex D), by pynetdicom's PDUs and its rules."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom2fhir import __version__
from dicom2fhir.errors import CannotUnderstand

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.311115052387921616922721796290081500228"
"""The bridge's own, made of a random UUID (PS3.5 section B.2); the same for all versions."""
IMPLEMENTATION_VERSION_NAME = f"D2F_{__version__}"[:16]

_NOT_STORAGE = frozenset({"1.2.840.10008.1.3.10", "1.2.840.10008.1.20.2"})
"""Media Storage Directory and Storage Commitment Pull: "Storage" in the name and not composite instances."""
_STORAGE_LEVEL_0 = bytes(6)
"""Service-class-application-information of storage (PS3.4 table B.3-2): level 0, no signatures, no coercion."""

_FIXED_BYTES = 68
"""Of an A-ASSOCIATE-RQ before its items, without the PDU's header."""
_MAX_ITEMS = 130
"""One application context, 128 presentation contexts with their odd numbers, one user information."""
_MAX_SUB_ITEMS = 10_000
"""128 contexts with all 60 transfer syntaxes of PS3.6 have 7,808; decoding one takes some microseconds."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ: the numbers of PS3.8 table 9-21."""

    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        """The whole PDU."""
        return struct.pack(">BBLBBBB", 3, 0, 4, 0, self.result, self.source, self.reason)


NO_SUCH_APPLICATION_CONTEXT = Rejection(1, 1, 2)
CALLING_AE_NOT_RECOGNIZED = Rejection(1, 1, 3)
CALLED_AE_NOT_RECOGNIZED = Rejection(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An A-ASSOCIATE-AC, and what it says."""

    pdu: bytes
    contexts: dict[int, Context]
    max_send_bytes: int
    """Longest P-DATA-TF that the peer takes, without the PDU's header; 0: any length (PS3.8 section D.1)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded A-ASSOCIATE-RQ."""

    calling_ae: str
    called_ae: str
    protocol_version: int
    primitive: A_ASSOCIATE


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
        # the requestor may be a user of the service and not a provider (PS3.7 section D.3.3.4)
        context.scu_role, context.scp_role = True, False
        supported.append(context)
    return supported


def decode_request(pdu: bytes) -> Request:
    """Read an A-ASSOCIATE-RQ.

    Raises
    ------
    CannotUnderstand
        It is none.
    """
    _check_items(pdu[6:])
    try:
        decoded = A_ASSOCIATE_RQ()
        decoded.decode(pdu)
        primitive = decoded.to_primitive()
        return Request(
            str(primitive.calling_ae_title).strip(),
            str(primitive.called_ae_title).strip(),
            decoded.protocol_version,
            primitive,
        )
    except Exception as error:  # pynetdicom has as many errors for a malformed PDU as there are ways to malform it
        raise CannotUnderstand(f"The association request cannot be decoded: {type(error).__name__}.") from None


def _check_items(body: bytes) -> None:
    """Count the items before they are decoded, which costs a thousand times more."""
    at, items, sub_items = _FIXED_BYTES, 0, 0
    if len(body) < at:
        raise CannotUnderstand("The association request is too short.")
    while at < len(body):
        items += 1
        kind, length = body[at], int.from_bytes(body[at + 2 : at + 4], "big")
        end = at + 4 + length
        if end > len(body) or items > _MAX_ITEMS:
            raise CannotUnderstand("The association request has too many items, or one longer than itself.")
        inner = at + (8 if kind == 0x20 else 4)
        while kind in (0x20, 0x50) and inner + 4 <= end:
            sub_items += 1
            inner += 4 + int.from_bytes(body[inner + 2 : inner + 4], "big")
        if sub_items > _MAX_SUB_ITEMS:
            raise CannotUnderstand("The association request has too many items.")
        at = end


def accept(request: Request, max_receive_bytes: int) -> Acceptance:
    """Answer a request that nothing speaks against.

    Raises
    ------
    CannotUnderstand
        What it proposes makes no sense.
    """
    try:
        return _accept(request.primitive, max_receive_bytes)
    except Exception as error:  # as in decode_request: some of what was decoded is looked at only here
        raise CannotUnderstand(f"The association request makes no sense: {type(error).__name__}.") from None


def _accept(proposed: A_ASSOCIATE, max_receive_bytes: int) -> Acceptance:
    items: list[Any] = proposed.user_information
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in items
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    contexts = proposed.presentation_context_definition_list
    results, role_answers = negotiate_as_acceptor(contexts, supported_contexts(contexts), cast(Any, roles))
    accepted = {
        cast(int, result.context_id): Context(str(result.abstract_syntax), str(result.transfer_syntax[0]))
        for result in results
        if result.result == 0
    }
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT)
    answer.calling_ae_title = proposed.calling_ae_title
    answer.called_ae_title = proposed.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    stored = {context.abstract_syntax for context in accepted.values()} - {VERIFICATION}
    answer.user_information = [*_own_items(max_receive_bytes), *role_answers, *_answers_to(items, stored)]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    lengths = [item.maximum_length_received for item in items if isinstance(item, MaximumLengthNotification)]
    return Acceptance(pdu.encode(), accepted, lengths[0] if lengths else 0)


def _own_items(max_receive_bytes: int) -> list[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_receive_bytes
    class_uid = ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, class_uid, version]


def _answers_to(items: Iterable[Any], stored: set[str]) -> list[Any]:
    """Answers to what else was proposed.

    None to a user identity: it is not looked at, which is said by not answering (PS3.7 section D.3.3.7). None to
    common extended negotiation either, which has no answer (D.3.3.6).
    """
    answers: list[Any] = []
    for item in items:
        if isinstance(item, AsynchronousOperationsWindowNegotiation):
            window = AsynchronousOperationsWindowNegotiation()
            window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 1
            answers.append(window)
        elif isinstance(item, SOPClassExtendedNegotiation) and str(item.sop_class_uid) in stored:
            extended = SOPClassExtendedNegotiation()
            extended.sop_class_uid = item.sop_class_uid
            extended.service_class_application_information = _STORAGE_LEVEL_0
            answers.append(extended)
    return answers
