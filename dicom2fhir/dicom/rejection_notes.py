"""Rejection notes (IHE RAD-66): key object selections that state that instances must no longer be used.

The codes are the document titles of PS3.16 CID 7031. What a note states holds for the instances that it names in its
evidence sequences, by study and SOP Instance UID, whether they come before or after the note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from dicom2fhir.dicom.decode import is_usable_uid
from dicom2fhir.document_references import EVIDENCE, referenced_by
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Attrs, Code, InstanceRecord, RejectedInstance, RejectionNote, items_of, texts_of
from dicom2fhir.sop_classes import KEY_OBJECT_SELECTION

QUALITY = "113001"
RETENTION_EXPIRED = "113039"
"""An instance that is stored again was imported again, and is rejected no more."""
GRAVEST_FIRST = ("113037", "113038", QUALITY, RETENTION_EXPIRED)
"""Patient safety, incorrect worklist entry, quality, data retention policy."""

_DOCUMENT_TITLE_MODIFIER = "113011"
_LONGEST_CODE, _LONGEST_MEANING = 16, 64
"""Of SH and LO (PS3.5 table 6.2-1)."""
_MOST_MODIFIERS = 16
"""As many as PS3.16 CID 7011 has, because each rejected instance keeps them."""

_OF_REFERENCES = frozenset(
    {
        *EVIDENCE,
        "StudyInstanceUID",
        "ReferencedSeriesSequence",
        "ReferencedSOPSequence",
        "ReferencedSOPInstanceUID",
    }
)


def rejection_note(record: InstanceRecord, is_applied: bool) -> RejectionNote | None:
    """The rejection note that an instance is; None if it is none.

    Parameters
    ----------
    is_applied
        Whether its origin may reject instances.

    Raises
    ------
    CannotUnderstand
        It is to be applied, and not all of the instances that it names are known: it would be applied in part.
    """
    code = title_of(record)
    if not code:
        return None
    if not is_applied:
        return RejectionNote(record.sop_uid, code, {}, is_applied=False)
    instances = _named(record)
    named = {*instances, *(uid for uids in instances.values() for uid in uids)}
    if not instances or not all(map(is_usable_uid, named)):
        raise CannotUnderstand("The rejection note names no instances, or instances without their UIDs or study.")
    if any(note.where in _OF_REFERENCES for note in record.notes):
        raise CannotUnderstand(
            "The rejection note is too large or damaged: not all instances that it names can be read, and it is not"
            " applied in part. Raise receiver.max_elements, or send several smaller notes."
        )
    return RejectionNote(record.sop_uid, code, instances, modifiers=_modifiers(record))


def title_of(record: InstanceRecord) -> str:
    """The title of a rejection note; empty for other instances."""
    if record.instance.get("SOPClassUID") != KEY_OBJECT_SELECTION:
        return ""
    return next((code for code in _names(record.instance) if code in GRAVEST_FIRST), "")


def _names(attrs: Attrs) -> Iterable[str]:
    """The concept name of a document or a content item, if it is a code of DCM."""
    for item in items_of(attrs.get("ConceptNameCodeSequence")):
        if texts_of(item.get("CodingSchemeDesignator")) == ["DCM"]:
            yield from texts_of(item.get("CodeValue"))


def _modifiers(record: InstanceRecord) -> tuple[Code, ...]:
    """The Document Title Modifiers (PS3.16 TID 2010), without doubles and in a fixed order."""
    found = {
        Code(value, scheme, meaning[:_LONGEST_MEANING])
        for item in items_of(record.instance.get("ContentSequence"))
        if _DOCUMENT_TITLE_MODIFIER in _names(item)
        for code in items_of(item.get("ConceptCodeSequence"))
        for value, scheme, meaning in [_texts(code, "CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        if value and len(value) <= _LONGEST_CODE and len(scheme) <= _LONGEST_CODE
    }
    return tuple(sorted(found))[:_MOST_MODIFIERS]


def _texts(attrs: Attrs, *keywords: str) -> list[str]:
    """The first value of each; empty without one."""
    return [next(iter(texts_of(attrs.get(keyword))), "") for keyword in keywords]


def _named(record: InstanceRecord) -> dict[str, tuple[str, ...]]:
    """Study Instance UID -> the SOP Instance UIDs in the evidence sequences; empty text for a UID that is missing."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for reference in referenced_by(record.instance, EVIDENCE):
        found[reference.study_uid].add(reference.uid)
    return {uid: tuple(sorted(uids)) for uid, uids in sorted(found.items())}


class Remaining(NamedTuple):
    """What remains of a study.

    Attributes
    ----------
    records
        The instances that are left.
    code
        Why all are rejected: the gravest code; empty if any is left.
    modifiers
        Those of the notes with this code.
    instances, notes
        SOP Instance UIDs of the rejected instances, arrived or not, and of the notes in the study.
    """

    records: Sequence[InstanceRecord]
    code: str
    modifiers: tuple[Code, ...]
    instances: frozenset[str]
    notes: frozenset[str]


def remaining(records: Collection[InstanceRecord], rejections: Iterable[RejectedInstance]) -> Remaining:
    """Take the rejected instances out of a study.

    A note about quality stays beside what remains, and other notes leave. Notes in a study of their own stay.
    """
    codes: defaultdict[str, set[str]] = defaultdict(set)
    modifiers: defaultdict[str, set[Code]] = defaultdict(set)
    notes: dict[str, str] = {}
    for each in rejections:
        if each.uid == each.note:
            notes[each.uid] = each.code
        else:
            codes[each.uid].add(each.code)
            modifiers[each.code].update(each.modifiers)
    own = [record for record in records if record.sop_uid not in notes]
    left = [record for record in own if record.sop_uid not in codes]
    said = {code for record in own for code in codes.get(record.sop_uid, ())}
    code = "" if left else next((code for code in GRAVEST_FIRST if code in said), "")
    stay = {uid for uid, of_note in notes.items() if uid not in codes and (not own or of_note == QUALITY)}
    kept = [] if code else [record for record in records if record.sop_uid in stay]
    return Remaining([*left, *kept], code, tuple(sorted(modifiers[code])), frozenset(codes), frozenset(notes))
