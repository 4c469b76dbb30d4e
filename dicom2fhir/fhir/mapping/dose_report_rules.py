"""The rule table of the Observation for a radiation dose report, after HL7's Radiation Dose Summary for Diagnostic
Procedures on FHIR 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.document_references import PREDECESSORS
from dicom2fhir.fhir.mapping import dose_reports, sr_documents, subject
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.dose_reports import value_of
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.study_reference import study_reference
from dicom2fhir.fhir.version.datatypes import DICOM_UID, Coding, Concept, oid
from dicom2fhir.model import Resource

_GUIDE = "http://hl7.org/fhir/uv/radiation-dose-summary"
PROFILE = f"{_GUIDE}/StructureDefinition/radiation-dose-summary"
_EXPOSURE = Concept(
    (
        Coding(
            "73569-6",
            "http://loinc.org",
            "Radiation exposure and protection information [Description] Document Diagnostic imaging",
        ),
    )
)
_PERFORMERS = ("ContentSequence", "PerformingPhysicianName", "PerformingPhysicianIdentificationSequence")
_MOMENT = ("ContentDate", "ContentTime", "TimezoneOffsetFromUTC")


def _identifier(type_: str, uid: str) -> Resource:
    kind = {"system": f"{_GUIDE}/CodeSystem/dicom-identifier-type", "code": type_}
    return {"type": {"coding": [kind]}, "system": DICOM_UID, "value": oid(uid)}


def _study(source: MappingSource) -> list[Resource]:
    """The ImagingStudy, also by its identifier."""
    uid = source.context.study.uid
    found = study_reference(source.context, uid)
    return [{**found, "identifier": _identifier("study-instance-uid", uid)}] if found else []


def _claim(source: MappingSource) -> Resource | None:
    """The profile, whose subject is a Patient, and which requires the time and the person that authorized."""
    is_patient = source.context.study.patient.get("QualityControlSubject") != "YES"
    is_complete = dose_reports.performers(source) and dose_reports.started(source)
    return {"profile": [PROFILE]} if is_patient and is_complete else None


DOSE_RULES = (
    Rule("Observation.profile", _PERFORMERS, _claim, f"`{PROFILE}`, if it has a performer and the time"),
    Rule(
        "Observation.identifier",
        ("SOPInstanceUID",),
        lambda source: _identifier("sop-instance-uid", source.node.uid),
        "the report's UID as urn:oid:",
    ),
    Rule(
        "Observation.basedOn",
        ("ReferencedRequestSequence", "AccessionNumber"),
        sr_documents.orders,
        "the orders of the report, else the study's",
    ),
    Rule("Observation.partOf", (), _study, "the ImagingStudy"),
    Rule(
        "Observation.status",
        ("CompletionFlag", "PreliminaryFlag", *PREDECESSORS),
        dose_reports.status,
        "`preliminary` if PARTIAL or PRELIMINARY, else `final`; `entered-in-error` once the report is gone, or "
        "another one of the study names it as its predecessor",
    ),
    Rule("Observation.code", (), lambda source: _EXPOSURE, "LOINC 73569-6"),
    Rule("Observation.subject", (), subject.subject, "as the study's"),
    Rule("Observation.focus", (), _study, "the ImagingStudy"),
    Rule(
        "Observation.effective",
        ("ContentSequence", *_MOMENT),
        dose_reports.started,
        "Start of X-Ray Irradiation (113809), else the earliest time of the irradiation events or administrations "
        "(111526, 123003), else the moment of the report",
    ),
    Rule("Observation.issued", _MOMENT, sr_documents.issued, "if the time and its zone are known"),
    Rule(
        "Observation.performer",
        _PERFORMERS,
        dose_reports.performers,
        "the person (113870) whose role is Irradiation Authorizing (113850), else the first performing physician",
    ),
    Rule(
        "Observation.text",
        ("ContentSequence",),
        dose_reports.summary,
        "Procedure reported (121058) and the values of all components",
    ),
    Rule(
        "Observation.device",
        ("ContentSequence", "Manufacturer", "ManufacturerModelName", "StationName"),
        dose_reports.device,
        "the observing device (121012 to 121016), else the equipment",
    ),
    Rule("Observation.derivedFrom", (), _study, "the ImagingStudy"),
)

_CONTENT = ("ContentSequence",)
VALUE_RULES = (
    Rule(
        "Observation.component.code",
        _CONTENT,
        lambda source: value_of(source).name,
        "the totals of CT (113811): 113813, 113812; of projection X-ray and mammography (113702): 113722, 113725, "
        "113726, 113727, 113730, 113731, 111637; of administrations (113502): 113507, 123005, and 349358000, 89457008, "
        "410675002 (SNOMED CT); Scope of Accumulation (113705); the text names Acquisition Plane (113764) and "
        "Laterality",
    ),
    Rule(
        "Observation.component.quantity",
        _CONTENT,
        lambda source: value_of(source).quantity,
        "Numeric Value with its unit; without a unit the component is left out",
    ),
    Rule("Observation.component.concept", _CONTENT, lambda source: value_of(source).code, "the code"),
    Rule(
        "Observation.component.absent",
        _CONTENT,
        lambda source: value_of(source).absent,
        "Numeric Value Qualifier (CID 42), if there is no number",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {"Observation": DOSE_RULES, "Observation.component": VALUE_RULES}
"""As :data:`dicom2fhir.fhir.mapping.rules.RULES`."""
