"""The rule tables of the Observations and ImagingSelections for a measurement report, after HL7's DICOM SR to FHIR
Resource Mapping 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.fhir.mapping import measured, related, sr_documents, subject
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.key_object_rules import SELECTED_INSTANCE_RULES, SELECTION_RULES
from dicom2fhir.fhir.mapping.key_objects import instance_of
from dicom2fhir.fhir.mapping.measured import measured_of
from dicom2fhir.fhir.mapping.measurement_reports import image_id, observation_id
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.selection import MeasuredImages, Region
from dicom2fhir.fhir.version.datatypes import DICOM_UID, identifier, oid
from dicom2fhir.model import Resource

_CONTENT = ("ContentSequence",)
_MOMENT = ("ContentSequence", "ContentDate", "ContentTime", "TimezoneOffsetFromUTC")

MEASURED_RULES = (
    Rule(
        "Observation.identifier",
        ("SOPInstanceUID", *_CONTENT),
        lambda source: measured.identifiers(source, observation_id(measured_of(source))),
        "the report's UID and the Observation UID as urn:oid:; of a group, Tracking Unique Identifier (112040) and "
        "Tracking Identifier (112039); one by which only this Observation is found",
    ),
    Rule(
        "Observation.basedOn",
        ("ReferencedRequestSequence", "AccessionNumber"),
        sr_documents.orders,
        "the orders of the report, else the study's",
    ),
    Rule("Observation.partOf", (), measured.study, "the ImagingStudy"),
    Rule(
        "Observation.status",
        ("PreliminaryFlag", "VerificationFlag", "CompletionFlag", "PredecessorDocumentsSequence"),
        measured.status,
        "Preliminary Flag; without it `final` if VERIFIED, else `preliminary`; `preliminary` if PARTIAL; "
        "`entered-in-error` once the report is gone, or another one of the study names it as its predecessor",
    ),
    Rule(
        "Observation.category",
        _CONTENT,
        measured.category,
        "Measurement Group (125007), Derived Imaging Measurements (126011) or Qualitative Evaluations (C0034375 of "
        "UMLS), unless `code` says the same",
    ),
    Rule("Observation.imaging", (), measured.imaging, "`imaging`"),
    Rule(
        "Observation.code",
        ("ContentTemplateSequence", "ConceptNameCodeSequence", *_CONTENT),
        lambda source: measured_of(source).name,
        "the concept name, with Derivation (121401) in the text, in documents with template 1500 or a title of "
        "CID 7021; of a group Finding category (276214006), else Measurement Group (125007)",
    ),
    Rule("Observation.subject", (), subject.subject, "as the study's"),
    Rule(
        "Observation.effective",
        _MOMENT,
        measured.moment,
        "Observation DateTime of the item, else of those that it is in, else the moment of the content",
    ),
    Rule("Observation.issued", _MOMENT, measured.issued, "the same, if the time and its zone are known"),
    Rule(
        "Observation.performer",
        (*_CONTENT, "VerifyingObserverSequence"),
        measured.performers,
        "persons that observed (121008), else the verifying observers",
    ),
    Rule(
        "Observation.quantity",
        _CONTENT,
        lambda source: measured_of(source).quantity,
        "Numeric Value with its unit; without a unit it is no observation",
    ),
    Rule(
        "Observation.concept",
        _CONTENT,
        lambda source: measured_of(source).code,
        "the code, or the text, of an evaluation; of a group the Finding (121071)",
    ),
    Rule(
        "Observation.absent",
        _CONTENT,
        lambda source: measured_of(source).absent,
        "Numeric Value Qualifier (CID 42), if there is no number",
    ),
    Rule("Observation.interpretation", _CONTENT, measured.interpretations, "Normality (121402)"),
    Rule(
        "Observation.referenceRange",
        _CONTENT,
        lambda source: measured_of(source).normal_range,
        "Normal Range Lower Limit (385524004), Normal Range Upper Limit (371933006); as text Normal Range description "
        "(121407) and Authority (121408)",
    ),
    Rule(
        "Observation.bodySite",
        _CONTENT,
        measured.body_site,
        "Finding Site (363698007), also of the group; Laterality (272741003) and Topographical modifier (106233006) in "
        "the text, or in `bodyStructure` instead",
        elsewhere=("Observation.bodyStructure",),
    ),
    Rule(
        "Observation.bodyStructure",
        _CONTENT,
        measured.body_structure,
        "a contained BodyStructure, if the site has a modifier",
        elsewhere=("Observation.bodySite",),
    ),
    Rule("Observation.method", _CONTENT, measured.method, "Measurement Method (370129005), also of the group"),
    Rule(
        "Observation.device",
        (*_CONTENT, "Manufacturer", "ManufacturerModelName", "StationName"),
        measured.device,
        "the algorithm (111001, 111003, 122405), also of the group, else the observing device (121012 to 121016), else "
        "the equipment",
    ),
    Rule("Observation.hasMember", _CONTENT, measured.members, "the measurements and evaluations of a group"),
    Rule(
        "Observation.derivedFrom",
        _CONTENT,
        measured.derived_from,
        "the ImagingSelections of the item, else of its group; the ImagingStudy if there are none",
    ),
)


def _images_of(source: MappingSource) -> MeasuredImages:
    """The images of a rule that is applied to some."""
    if not isinstance(source.node, MeasuredImages):
        raise TypeError(source.node)
    return source.node


def _identifiers(source: MappingSource) -> list[Resource]:
    images = _images_of(source)
    return [identifier(oid(images.document), DICOM_UID), related.identifier_of(image_id(images))]


def _region(source: MappingSource, prefix: str, region: Region) -> Resource:
    target: Resource = {}
    source.context.dialect.put(target, f"{prefix}.kind", region.kind)
    source.context.dialect.put(target, f"{prefix}.coordinate", list(region.coordinates))
    return target


_OWN = ("identifier", "category", "code", "performer")
IMAGES_RULES = (
    Rule(
        "ImagingSelection.identifier",
        ("SOPInstanceUID", *_CONTENT),
        _identifiers,
        "the report's UID as urn:oid:; one by which only this ImagingSelection is found",
    ),
    Rule(
        "ImagingSelection.code",
        _CONTENT,
        lambda source: _images_of(source).purpose,
        "the concept name of the images, segments or coordinates; without one Image Region (111030) or Source of "
        "Measurement (121112)",
    ),
    *(rule for rule in SELECTION_RULES if rule.concept.partition(".")[2] not in _OWN),
    Rule(
        "ImagingSelection.frameOfReference",
        _CONTENT,
        lambda source: _images_of(source).frame_of_reference,
        "of SCOORD3D: one resource for each",
    ),
    Rule(
        "ImagingSelection.region",
        _CONTENT,
        lambda source: [_region(source, "ImagingSelection.region", region) for region in _images_of(source).regions],
        "SCOORD3D: Graphic Type in lower case, and Graphic Data",
    ),
)

MEASURED_INSTANCE_RULES = (
    *(rule for rule in SELECTED_INSTANCE_RULES if rule.concept != "ImagingSelection.instance.subset"),
    Rule(
        "ImagingSelection.instance.subset",
        _CONTENT,
        lambda source: [str(number) for number in instance_of(source).segments or instance_of(source).frames],
        "Referenced Segment Number, else Referenced Frame Number",
    ),
    Rule(
        "ImagingSelection.instance.region",
        _CONTENT,
        lambda source: [
            _region(source, "ImagingSelection.instance.region", region) for region in instance_of(source).regions
        ],
        "SCOORD: Graphic Type in lower case (MULTIPOINT: a point for each), and Graphic Data",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Observation of a measurement report": MEASURED_RULES,
    "ImagingSelection of a measurement report": IMAGES_RULES,
    "ImagingSelection of a measurement report.instance": MEASURED_INSTANCE_RULES,
}
"""As :data:`dicom2fhir.fhir.mapping.rules.RULES`."""
