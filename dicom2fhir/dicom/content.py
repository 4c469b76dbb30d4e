"""The content that is read of some SOP classes: what a structured report or a key object selection says.

:data:`CONTENT` lists the sequences, for each SOP class that a rule of the mapping uses. They are taken from data sets
of these classes only, are decoded like other sequences, and are stored with the instance. The mapping decides what they
mean.

pydicom and highdicom read structured reports, too, but they need the whole data set in memory, and do not limit the
time and the memory that a hostile one takes. The walk over a header reads it in pieces, within its budget.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.dicom.attributes import CODE, ISSUER, Attribute
from dicom2fhir.dicom.sop_classes import ENCAPSULATED_DOCUMENTS, KEY_OBJECT_SELECTION

_SOP_CLASS = Attribute("ReferencedSOPClassUID", 0x00081150, "UI")
_SOP_INSTANCE = Attribute("ReferencedSOPInstanceUID", 0x00081155, "UI")


def _sequence(keyword: str, tag: int, *items: Attribute) -> Attribute:
    return Attribute(keyword, tag, "SQ", items=items, is_content=True)


_REFERENCED_IMAGES = _sequence(
    "ReferencedSOPSequence",
    0x00081199,
    _SOP_CLASS,
    _SOP_INSTANCE,
    Attribute("ReferencedFrameNumber", 0x00081160, "IS", many=True),
)
"""Image Reference Macro, PS3.3 table C.18.4-1."""

_EVIDENCE = (
    Attribute("StudyInstanceUID", 0x0020000D, "UI"),
    _sequence(
        "ReferencedSeriesSequence",
        0x00081115,
        Attribute("SeriesInstanceUID", 0x0020000E, "UI"),
        _sequence("ReferencedSOPSequence", 0x00081199, _SOP_CLASS, _SOP_INSTANCE),
    ),
)
"""Hierarchical SOP Instance Reference Macro, PS3.3 table C.17-3."""

_CONTENT_ITEM = (
    Attribute("ValueType", 0x0040A040, "CS"),
    Attribute("ConceptNameCodeSequence", 0x0040A043, "SQ", items=CODE),
    Attribute("ConceptCodeSequence", 0x0040A168, "SQ", items=CODE),
    Attribute("TextValue", 0x0040A160, "UT"),
    Attribute("PersonName", 0x0040A123, "PN"),
    Attribute("UID", 0x0040A124, "UI"),
    _REFERENCED_IMAGES,
)
"""Document Content Macro, PS3.3 table C.17-5."""


def _content_tree(depth: int) -> Attribute:
    """Content Sequence with content items up to a depth."""
    inner = (_content_tree(depth - 1),) if depth > 1 else ()
    return _sequence("ContentSequence", 0x0040A730, *_CONTENT_ITEM, *inner)


_DOCUMENT = (
    _sequence(
        "ReferencedRequestSequence",
        0x0040A370,
        Attribute("AccessionNumber", 0x00080050, "SH"),
        Attribute("IssuerOfAccessionNumberSequence", 0x00080051, "SQ", items=ISSUER),
    ),
    _sequence("CurrentRequestedProcedureEvidenceSequence", 0x0040A375, *_EVIDENCE),
    _sequence("PertinentOtherEvidenceSequence", 0x0040A385, *_EVIDENCE),
)
"""Of a document (PS3.3 tables C.17-2 and C.17.6-2): its orders, and the instances that it refers to."""

_ENCAPSULATED = (_sequence("PredecessorDocumentsSequence", 0x0040A360, *_EVIDENCE),)

CONTENT: Mapping[str, tuple[Attribute, ...]] = {
    KEY_OBJECT_SELECTION: (*_DOCUMENT, _content_tree(2)),  # TID 2010 has one level; its observers may have another
    **dict.fromkeys(ENCAPSULATED_DOCUMENTS, _ENCAPSULATED),
}
"""SOP Class UID -> the sequences of content that are read, each at the top level of the data set."""
