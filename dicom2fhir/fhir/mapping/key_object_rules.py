"""The rule tables of the resources for key objects: ImagingSelection, and before R4 ImagingManifest and
ImagingObjectSelection. R4 and R4B have an ImagingSelection as a Basic (:mod:`dicom2fhir.fhir.version.cross_version`).
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.document_references import EVIDENCE
from dicom2fhir.fhir.mapping import endpoints, imaging_study, key_objects, related, sr_documents, subject
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.key_objects import instance_of, series_of
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.selection import SelectedInstance, SelectedSeries
from dicom2fhir.fhir.mapping.study_reference import study_reference
from dicom2fhir.fhir.version.datatypes import DICOM_UID, deterministic_id, identifier, oid
from dicom2fhir.model import Resource

_TITLE = ("ConceptNameCodeSequence",)
_MOMENT = ("ContentDate", "ContentTime", "TimezoneOffsetFromUTC")
_OBSERVERS = ("ContentSequence", *related.EQUIPMENT)
_ALL_OF_THEM = (*EVIDENCE, "ContentSequence")


def selection_id(document: str, series: SelectedSeries) -> str:
    """The id of the ImagingSelection for one series that a document refers to."""
    return deterministic_id("ImagingSelection", document, series.study_uid, series.uid)


def _identifiers(source: MappingSource) -> list[Resource]:
    """That of the document, which its selections share, and one by which only this selection is found."""
    series = series_of(source)
    own = related.identifier_of(selection_id(series.document, series))
    return [identifier(oid(series.document), DICOM_UID), own]


def _number_of_series(source: MappingSource) -> int | None:
    held = series_of(source).held
    return imaging_study.number(MappingSource(source.context, held, held.attrs), "SeriesNumber") if held else None


def _body_site(source: MappingSource) -> object:
    held = series_of(source).held
    return imaging_study.body_site(MappingSource(source.context, held, held.attrs)) if held else None


def _number_of_instance(source: MappingSource) -> int | None:
    held = instance_of(source).held
    return imaging_study.number(MappingSource(source.context, held, held.attrs), "InstanceNumber") if held else None


def _url(source: MappingSource) -> str | None:
    """The WADO-RS URL of a selected study, series or instance (PS3.18 section 10.4)."""
    base, node = source.context.options.dicomweb_url, source.node
    if not base:
        return None
    if isinstance(node, SelectedInstance):
        return f"{base}/studies/{node.study_uid}/series/{node.series_uid}/instances/{node.uid}"
    if isinstance(node, SelectedSeries):
        return f"{base}/studies/{node.study_uid}/series/{node.uid}"
    return f"{base}/studies/{node.uid}"


def _frames(source: MappingSource) -> Resource | None:
    """The frames with their WADO-RS URL (PS3.18 section 10.4)."""
    frames, url = instance_of(source).frames, _url(source)
    if not frames or not url:
        return None
    listed: Resource = {"url": f"{url}/frames/{','.join(map(str, frames))}"}
    source.context.dialect.put(listed, "ImagingObjectSelection.study.series.instance.frames.number", list(frames))
    return listed


SELECTION_RULES = (
    Rule(
        "ImagingSelection.identifier",
        ("SOPInstanceUID", *EVIDENCE),
        _identifiers,
        "the document's UID as urn:oid:; one made of it and of the UIDs of study and series",
    ),
    Rule("ImagingSelection.status", (), lambda source: "available", "`available`; `entered-in-error` once it is gone"),
    Rule("ImagingSelection.category", ("ContentSequence",), key_objects.modifiers, "Document Title Modifier (113011)"),
    Rule(
        "ImagingSelection.code",
        (*_TITLE, "ContentSequence"),
        key_objects.purpose,
        "the document title; as its text the Key Object Description (113012)",
    ),
    Rule("ImagingSelection.subject", (), subject.subject, "as the study's"),
    Rule("ImagingSelection.issued", _MOMENT, sr_documents.issued, "if the time and its zone are known"),
    Rule(
        "ImagingSelection.performer",
        _OBSERVERS,
        key_objects.performers,
        "persons that observed (121008) PRF; the observing device (121012 to 121016) and the equipment DEV; "
        "institution LOC",
    ),
    Rule(
        "ImagingSelection.basedOn",
        ("ReferencedRequestSequence", "AccessionNumber"),
        sr_documents.orders,
        "the orders of the document, else the study's",
    ),
    Rule(
        "ImagingSelection.derivedFrom",
        EVIDENCE,
        key_objects.from_study,
        "the ImagingStudy; that of another study if the server has it, else by identifier",
    ),
    Rule("ImagingSelection.studyUid", EVIDENCE, lambda source: series_of(source).study_uid, "unchanged"),
    Rule("ImagingSelection.seriesUid", EVIDENCE, lambda source: series_of(source).uid, "one resource for each series"),
    Rule("ImagingSelection.seriesNumber", ("SeriesNumber",), _number_of_series, "if the series is in the same study"),
    Rule(
        "ImagingSelection.bodySite",
        ("AnatomicRegionSequence", "BodyPartExamined"),
        _body_site,
        "as the series', if it is in the same study",
    ),
    Rule("ImagingSelection.endpoint", (), endpoints.dicomweb, "DICOMweb Endpoint if `pacs.dicomweb_url` is set"),
)

SELECTED_INSTANCE_RULES = (
    Rule("ImagingSelection.instance.uid", _ALL_OF_THEM, lambda source: source.node.uid, "unchanged"),
    Rule(
        "ImagingSelection.instance.number",
        ("InstanceNumber",),
        _number_of_instance,
        "if the instance is in the same study",
    ),
    Rule(
        "ImagingSelection.instance.sopClass",
        _ALL_OF_THEM,
        lambda source: instance_of(source).sop_class,
        "as urn:oid:",
    ),
    Rule(
        "ImagingSelection.instance.subset",
        ("ContentSequence",),
        lambda source: [str(frame) for frame in instance_of(source).frames],
        "the numbers of the selected frames",
    ),
)

MANIFEST_RULES = (
    Rule(
        "ImagingManifest.identifier",
        ("SOPInstanceUID",),
        lambda source: identifier(oid(source.node.uid), DICOM_UID),
        "the document's UID as urn:oid:",
    ),
    Rule("ImagingManifest.patient", (), subject.subject, "as the study's"),
    Rule(
        "ImagingManifest.authoringTime", _MOMENT, sr_documents.authored, "the day, with the time if its zone is known"
    ),
    Rule(
        "ImagingManifest.author", ("ContentSequence",), key_objects.author, "the person that observed, else the device"
    ),
    Rule(
        "ImagingManifest.description",
        (*_TITLE, "ContentSequence"),
        key_objects.title_and_description,
        "the document title and its modifiers, then the Key Object Description (113012)",
    ),
)

MANIFEST_STUDY_RULES = (
    Rule("ImagingManifest.study.uid", EVIDENCE, lambda source: source.node.uid, "as urn:oid:"),
    Rule(
        "ImagingManifest.study.imagingStudy",
        EVIDENCE,
        lambda source: study_reference(source.context, source.node.uid),
        "the ImagingStudy; that of another study if the server has it, else by identifier",
    ),
    Rule("ImagingManifest.study.endpoint", (), endpoints.dicomweb, "as the study's"),
)

MANIFEST_SERIES_RULES = (
    Rule("ImagingManifest.study.series.uid", EVIDENCE, lambda source: source.node.uid, "as urn:oid:"),
)

MANIFEST_INSTANCE_RULES = (
    Rule("ImagingManifest.study.series.instance.uid", _ALL_OF_THEM, lambda source: source.node.uid, "as urn:oid:"),
    Rule(
        "ImagingManifest.study.series.instance.sopClass",
        _ALL_OF_THEM,
        lambda source: instance_of(source).sop_class,
        "as urn:oid:",
    ),
)

OBJECT_SELECTION_RULES = (
    Rule("ImagingObjectSelection.uid", ("SOPInstanceUID",), lambda source: source.node.uid, "as urn:oid:"),
    Rule("ImagingObjectSelection.patient", (), subject.subject, "as the study's"),
    Rule("ImagingObjectSelection.title", _TITLE, key_objects.title, "the document title"),
    Rule(
        "ImagingObjectSelection.description",
        ("ContentSequence",),
        key_objects.description,
        "the Key Object Description (113012)",
    ),
    Rule(
        "ImagingObjectSelection.author",
        ("ContentSequence",),
        key_objects.author,
        "the person that observed, else the device",
    ),
    Rule(
        "ImagingObjectSelection.authoringTime",
        _MOMENT,
        sr_documents.authored,
        "the day, with the time if its zone is known",
    ),
)

OBJECT_SELECTION_STUDY_RULES = (
    Rule("ImagingObjectSelection.study.uid", EVIDENCE, lambda source: source.node.uid, "as urn:oid:"),
    Rule("ImagingObjectSelection.study.url", (), _url, "WADO-RS"),
    Rule(
        "ImagingObjectSelection.study.imagingStudy",
        EVIDENCE,
        lambda source: study_reference(source.context, source.node.uid),
        "the ImagingStudy, if it is the document's own study",
    ),
)

OBJECT_SELECTION_SERIES_RULES = (
    Rule("ImagingObjectSelection.study.series.uid", EVIDENCE, lambda source: source.node.uid, "as urn:oid:"),
    Rule("ImagingObjectSelection.study.series.url", (), _url, "WADO-RS"),
)

OBJECT_SELECTION_INSTANCE_RULES = (
    Rule(
        "ImagingObjectSelection.study.series.instance.sopClass",
        _ALL_OF_THEM,
        lambda source: instance_of(source).sop_class,
        "as urn:oid:",
    ),
    Rule(
        "ImagingObjectSelection.study.series.instance.uid",
        _ALL_OF_THEM,
        lambda source: source.node.uid,
        "as urn:oid:",
    ),
    Rule("ImagingObjectSelection.study.series.instance.url", (), _url, "WADO-RS; without it, nothing is written"),
    Rule(
        "ImagingObjectSelection.study.series.instance.frames",
        ("ContentSequence",),
        _frames,
        "the numbers of the selected frames, and their WADO-RS URL",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "ImagingSelection": SELECTION_RULES,
    "ImagingSelection.instance": SELECTED_INSTANCE_RULES,
    "ImagingManifest": MANIFEST_RULES,
    "ImagingManifest.study": MANIFEST_STUDY_RULES,
    "ImagingManifest.study.series": MANIFEST_SERIES_RULES,
    "ImagingManifest.study.series.instance": MANIFEST_INSTANCE_RULES,
    "ImagingObjectSelection": OBJECT_SELECTION_RULES,
    "ImagingObjectSelection.study": OBJECT_SELECTION_STUDY_RULES,
    "ImagingObjectSelection.study.series": OBJECT_SELECTION_SERIES_RULES,
    "ImagingObjectSelection.study.series.instance": OBJECT_SELECTION_INSTANCE_RULES,
}
"""As :data:`dicom2fhir.fhir.mapping.rules.RULES`."""
