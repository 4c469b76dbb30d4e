"""The content that is read of some SOP classes: what a structured report or a key object selection says.

:data:`CONTENT` lists the sequences, for each SOP class that a rule of the mapping uses. They are taken from data sets
of these classes only, are decoded like other sequences, and are stored with the instance. The mapping decides what they
mean.

pydicom and highdicom read structured reports, too, but they need the whole data set in memory, and do not limit the
time and the memory that a hostile one takes. The walk over a header reads it in pieces, within its budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dicom2fhir.dicom.attributes import CODE, ISSUER, Attribute, Documents
from dicom2fhir.dicom.data_elements import ENCAPSULATED_DOCUMENT
from dicom2fhir.sop_classes import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENCAPSULATED_DOCUMENTS,
    ENHANCED_SR,
    KEY_OBJECT_SELECTION,
    RADIOPHARMACEUTICAL_RADIATION_DOSE_SR,
    X_RAY_RADIATION_DOSE_SR,
)

_SOP_CLASS = Attribute("ReferencedSOPClassUID", 0x00081150, "UI")
_SOP_INSTANCE = Attribute("ReferencedSOPInstanceUID", 0x00081155, "UI")


def _sequence(keyword: str, tag: int, *items: Attribute) -> Attribute:
    return Attribute(keyword, tag, "SQ", items=items, is_content=True)


_REFERENCED_IMAGES = replace(
    _sequence(
        "ReferencedSOPSequence",
        0x00081199,
        _SOP_CLASS,
        _SOP_INSTANCE,
        Attribute("ReferencedFrameNumber", 0x00081160, "IS", many=True),
    ),
    noted_as="ContentSequence",  # what is left out here is not missing in the evidence
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
)
"""Document Content Macro, PS3.3 table C.17-5."""

_DATE_TIME = Attribute("DateTime", 0x0040A120, "DT")
_MEASURED = (
    _DATE_TIME,
    Attribute(
        "MeasuredValueSequence",
        0x0040A300,
        "SQ",
        items=(
            Attribute("NumericValue", 0x0040A30A, "DS"),
            Attribute("FloatingPointValue", 0x0040A161, "FD"),
            Attribute("MeasurementUnitsCodeSequence", 0x004008EA, "SQ", items=CODE),
        ),
    ),
    Attribute("NumericValueQualifierCodeSequence", 0x0040A301, "SQ", items=CODE),
)
"""DATETIME and NUM (PS3.3 tables C.17-5 and C.18.1-1)."""

_IRRADIATION_EVENTS = (("113706", (_DATE_TIME,)), ("113819", (_DATE_TIME,)))
"""Irradiation Event X-Ray Data and CT Acquisition: of their items only the times are taken, because a report may have
hundreds of events with dozens of items each."""


def _content_tree(
    depth: int, *items: Attribute, in_concepts: tuple[tuple[str, tuple[Attribute, ...]], ...] = ()
) -> Attribute:
    """Content Sequence with content items up to a depth; ``in_concepts`` is that of the second level."""
    inner = _content_tree(depth - 1, *items) if depth > 1 else None
    below = (replace(inner, in_concepts=in_concepts),) if inner else ()
    return _sequence("ContentSequence", 0x0040A730, *_CONTENT_ITEM, *items, *below)


_REQUESTS = _sequence(
    "ReferencedRequestSequence",
    0x0040A370,
    Attribute("AccessionNumber", 0x00080050, "SH"),
    Attribute("IssuerOfAccessionNumberSequence", 0x00080051, "SQ", items=ISSUER),
)
"""The orders of a document (PS3.3 tables C.17-2 and C.17.6-2)."""
_KEY_OBJECTS = (
    _REQUESTS,
    _sequence("CurrentRequestedProcedureEvidenceSequence", 0x0040A375, *_EVIDENCE),
    _sequence("PertinentOtherEvidenceSequence", 0x0040A385, *_EVIDENCE),
    _content_tree(2, _REFERENCED_IMAGES),  # TID 2010 has one level; its observers may have another
)
_DOSE_REPORT = (
    _sequence("PredecessorDocumentsSequence", 0x0040A360, *_EVIDENCE),
    _REQUESTS,
    _content_tree(3, *_MEASURED, in_concepts=_IRRADIATION_EVENTS),  # root > total > number > its laterality
)

_REFERENCED_OBJECTS = _sequence(
    "ReferencedSOPSequence",
    0x00081199,
    _SOP_CLASS,
    _SOP_INSTANCE,
    Attribute("ReferencedFrameNumber", 0x00081160, "IS", many=True),
    Attribute("ReferencedSegmentNumber", 0x0062000B, "US", many=True),
)
"""Image Reference Macro with segments."""
_REPORTS = Documents("1500", ("126000", "126001", "126002", "126003", "113701", "113500"))
"""Measurement Report (PS3.16 TID 1500), the titles of CID 7021, and those of dose reports (TID 10001, 10011 and 10021),
which some devices write in general SOP classes."""
_MEASUREMENT_ITEM = (
    Attribute("RelationshipType", 0x0040A010, "CS"),
    Attribute("ObservationDateTime", 0x0040A032, "DT"),
    Attribute("ObservationUID", 0x0040A171, "UI"),
    *_MEASURED,
    _REFERENCED_OBJECTS,
    Attribute("PixelOriginInterpretation", 0x00480301, "CS"),
    Attribute("GraphicData", 0x00700022, "FL", many=True, is_whole=True),
    Attribute("GraphicType", 0x00700023, "CS"),
    Attribute("ReferencedFrameOfReferenceUID", 0x30060024, "UI"),
)
"""Of a measurement, and of the coordinates that it was made from (PS3.3 tables C.17-6, C.18.6-1 and C.18.9-1)."""
_GENERAL_REPORT = (
    _sequence("VerifyingObserverSequence", 0x0040A073, Attribute("VerifyingObserverName", 0x0040A075, "PN")),
    _sequence("PredecessorDocumentsSequence", 0x0040A360, *_EVIDENCE),
    _REQUESTS,
    _sequence("CurrentRequestedProcedureEvidenceSequence", 0x0040A375, *_EVIDENCE),
    _sequence("PertinentOtherEvidenceSequence", 0x0040A385, *_EVIDENCE),
    _sequence(
        "ContentTemplateSequence",
        0x0040A504,
        Attribute("MappingResource", 0x00080105, "CS"),
        Attribute("TemplateIdentifier", 0x0040DB00, "CS"),
    ),
    # root > measurements > group > measurement > coordinates > their image
    replace(_content_tree(5, *_MEASUREMENT_ITEM, in_concepts=_IRRADIATION_EVENTS), of_documents=_REPORTS),
)

_ENCAPSULATED = (
    _sequence("PredecessorDocumentsSequence", 0x0040A360, *_EVIDENCE),
    Attribute("EncapsulatedDocument", ENCAPSULATED_DOCUMENT, "OB"),  # only as far as the budget says
)

CONTENT: Mapping[str, tuple[Attribute, ...]] = {
    KEY_OBJECT_SELECTION: _KEY_OBJECTS,
    X_RAY_RADIATION_DOSE_SR: _DOSE_REPORT,
    RADIOPHARMACEUTICAL_RADIATION_DOSE_SR: _DOSE_REPORT,
    **dict.fromkeys((ENHANCED_SR, COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR), _GENERAL_REPORT),
    **dict.fromkeys(ENCAPSULATED_DOCUMENTS, _ENCAPSULATED),
}
"""SOP Class UID -> the content that is read, each at the top level of the data set."""
