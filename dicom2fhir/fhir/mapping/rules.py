"""The rule tables: for each resource type, the source attributes and the meaning of each element.

A rule returns *meaning* (a :class:`~dicom2fhir.fhir.version.datatypes.Concept`, a reference, text, a number); the
dialect converts it to JSON. Rules are in the order of the elements. The mapping tables of the documentation are
generated from them, and ``explain`` shows the result of each.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.fhir.mapping import (
    document_rules,
    dose_report_rules,
    endpoints,
    identification,
    imaging_study,
    key_object_rules,
    measurement_rules,
    procedures,
    related,
    subject,
)
from dicom2fhir.fhir.mapping.rule import Rule, text
from dicom2fhir.model import Series

_UID = "unchanged, or as urn:oid: if the datatype is oid"

STUDY_RULES = (
    Rule("uid", ("StudyInstanceUID",), lambda source: source.node.uid, "as urn:oid:"),
    Rule(
        "accession",
        ("AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestAttributesSequence"),
        identification.accession,
        "as ACSN with its issuer's system",
        elsewhere=("identifier", "basedOn"),
    ),
    Rule(
        "identifier",
        (
            "StudyInstanceUID",
            "AccessionNumber",
            "IssuerOfAccessionNumberSequence",
            "RequestAttributesSequence",
            "StudyID",
        ),
        identification.identifiers,
        "the identifiers of the version: the UID as urn:oid: under urn:dicom:uid; accession numbers as ACSN with their "
        "issuers' systems (up to 3.2.0 those after the first, from R5 on if `fhir.accession_identifier` is "
        "set); Study ID as secondary",
    ),
    Rule(
        "status",
        ("InstanceAvailability", "PerformedProcedureStepStatus"),
        imaging_study.status,
        "`available`, because an instance was received, unless all are UNAVAILABLE; before the first instance "
        "`registered`, or `cancelled` if all procedure steps (MPPS) are DISCONTINUED; if all instances are rejected, "
        "by the title of the rejection note",
    ),
    Rule(
        "statusReason",
        (),
        imaging_study.rejection_reason,
        "extension, if all instances are rejected: the title of the rejection note (PS3.16 CID 7031) and its modifiers "
        "(113011)",
    ),
    Rule(
        "availability",
        ("InstanceAvailability",),
        imaging_study.availability,
        "the least available of the instances, as notifications (IAN) state, else the instances; if none states it, "
        "`pacs.availability`; if all are rejected, UNAVAILABLE",
    ),
    Rule(
        "statedAvailability",
        ("InstanceAvailability",),
        imaging_study.stated_availability,
        "extension, if a notification (IAN) or an instance states it: the least available; if all are rejected, "
        "UNAVAILABLE",
    ),
    Rule(
        "modality",
        ("Modality",),
        imaging_study.modalities,
        "the distinct values of the series; up to R4B those of CID 29 only",
    ),
    Rule(
        "subject",
        (
            "PatientID",
            "IssuerOfPatientID",
            "IssuerOfPatientIDQualifiersSequence",
            "OtherPatientIDsSequence",
            "PatientName",
            "PatientSex",
            "PatientBirthDate",
            "PatientSpeciesDescription",
            "PatientSpeciesCodeSequence",
            "QualityControlSubject",
        ),
        subject.subject,
        "Patient by identifier (linked, ensured or upserted); a contained Device of type Phantom for a quality control "
        "subject",
    ),
    Rule(
        "encounter",
        ("AdmissionID", "IssuerOfAdmissionIDSequence"),
        related.encounter,
        "the Encounter that the server has by its visit number (VN), else a logical reference",
    ),
    Rule(
        "started",
        ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"),
        imaging_study.study_started,
        "with the data set's offset, else the configured zone, else the date alone; else the earliest series",
    ),
    Rule(
        "basedOn",
        ("AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestAttributesSequence"),
        identification.orders,
        "the order (ServiceRequest; ProcedureRequest in STU3, DiagnosticOrder up to 1.4.0) that the server has by each "
        "accession number, else a logical reference, up to 1.4.0 to a contained one",
    ),
    Rule(
        "performedProcedure",
        (),
        procedures.performed,
        "the Procedure of each procedure step (MPPS) by its identifier, if `resources.procedures` is `auto`; in R4 and "
        "R4B of the first one",
    ),
    Rule(
        "referrer",
        ("ReferringPhysicianName", "ReferringPhysicianIdentificationSequence"),
        imaging_study.referrer,
        "Practitioner",
    ),
    Rule(
        "interpreter",
        ("NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence"),
        imaging_study.interpreters,
        "Practitioners",
    ),
    Rule(
        "endpoint",
        (),
        endpoints.endpoints,
        "DICOMweb Endpoint if `pacs.dicomweb_url` is set; a contained Endpoint of the web viewer if `pacs.viewer_url`"
        " is set",
    ),
    Rule("url", (), endpoints.url, "WADO-RS, if `pacs.dicomweb_url` is set"),
    Rule("numberOfSeries", (), lambda source: len(source.context.study.series), "counted"),
    Rule(
        "numberOfInstances",
        (),
        lambda source: sum(len(series.instances) for series in source.context.study.series),
        "counted",
    ),
    Rule(
        "procedure", ("ProcedureCodeSequence",), imaging_study.procedures, "each code once; up to 1.4.0 only its text"
    ),
    Rule(
        "location",
        ("InstitutionalDepartmentName", "InstitutionalDepartmentTypeCodeSequence", "PerformedLocation"),
        related.location,
        "Location: the room, part of the department",
    ),
    Rule(
        "reason",
        (
            "ReasonForTheRequestedProcedure",
            "ReasonForRequestedProcedureCodeSequence",
            "ReasonForPerformedProcedureCodeSequence",
            "RequestAttributesSequence",
        ),
        imaging_study.reasons,
        "codes, with their text",
    ),
    Rule("note", ("StudyComments",), text("StudyComments"), "Annotation"),
    Rule("description", ("StudyDescription",), text("StudyDescription"), "unchanged"),
)


SERIES_RULES = (
    Rule("series.uid", ("SeriesInstanceUID",), lambda source: source.node.uid, _UID),
    Rule(
        "series.number",
        ("SeriesNumber",),
        lambda source: imaging_study.number(source, "SeriesNumber"),
        "0 to 2147483647, else left out",
    ),
    Rule(
        "series.modality",
        ("Modality",),
        imaging_study.series_modality,
        "DCM code; the first of several; OT if missing",
    ),
    Rule("series.description", ("SeriesDescription",), text("SeriesDescription"), "unchanged"),
    Rule(
        "series.numberOfInstances",
        (),
        lambda source: len(source.node.instances) if isinstance(source.node, Series) else None,
        "counted",
    ),
    Rule(
        "series.availability",
        ("InstanceAvailability",),
        imaging_study.availability,
        "the least available of the instances, as notifications (IAN) state, else the instances; if none states it, "
        "`pacs.availability`",
    ),
    Rule(
        "series.statedAvailability",
        ("InstanceAvailability",),
        imaging_study.stated_availability,
        "extension, if a notification (IAN) or an instance states it: the least available",
    ),
    Rule(
        "series.endpoint",
        ("RetrieveURL", "RetrieveLocationUID", "RetrieveAETitle"),
        endpoints.series_endpoints,
        "as notifications (IAN) state: the DICOMweb Endpoint, else a logical reference by Retrieve Location UID or AE "
        "title",
        elsewhere=("series.url",),
    ),
    Rule(
        "series.url",
        ("RetrieveURL",),
        endpoints.url,
        "WADO-RS, if `pacs.dicomweb_url` is set or a notification (IAN) states it",
    ),
    Rule(
        "series.bodySite",
        ("AnatomicRegionSequence", "BodyPartExamined"),
        imaging_study.body_site,
        "the region's code, else Body Part Examined by PS3.16 Annex L as SNOMED CT, else its text",
    ),
    Rule(
        "series.laterality",
        ("Laterality", "ImageLaterality", "AnatomicRegionSequence"),
        imaging_study.laterality,
        "SNOMED CT; Image Laterality, else the regions' modifiers, when all images agree",
    ),
    Rule(
        "series.specimen",
        ("SpecimenDescriptionSequence", "SpecimenIdentifier", "IssuerOfTheSpecimenIdentifierSequence"),
        related.specimens,
        "logical reference by identifier",
    ),
    Rule(
        "series.started",
        (
            "SeriesDate",
            "SeriesTime",
            "TimezoneOffsetFromUTC",
            "AcquisitionDateTime",
            "AcquisitionDate",
            "AcquisitionTime",
            "ContentDate",
            "ContentTime",
            "PerformedProcedureStepStartDate",
            "PerformedProcedureStepStartTime",
        ),
        imaging_study.series_started,
        "Series Date, else the earliest acquisition, content, or procedure step; not before the study (R6, FHIR-53726)",
    ),
    Rule(
        "series.performer",
        (
            "PerformingPhysicianName",
            "PerformingPhysicianIdentificationSequence",
            "OperatorsName",
            "OperatorIdentificationSequence",
            *related.EQUIPMENT,
        ),
        imaging_study.performers,
        "performing physicians PRF, operators SPRF, equipment DEV, institution LOC",
    ),
)


INSTANCE_RULES = (
    Rule("instance.uid", ("SOPInstanceUID",), lambda source: source.node.uid, _UID),
    Rule("instance.sopClass", ("SOPClassUID",), text("SOPClassUID"), "as urn:oid:"),
    Rule(
        "instance.number",
        ("InstanceNumber",),
        lambda source: imaging_study.number(source, "InstanceNumber"),
        "as for series",
    ),
    Rule(
        "instance.type",
        ("SOPClassUID",),
        imaging_study.record_type,
        "the Directory Record Type of the SOP class",
        elsewhere=("instance.sopClass",),
    ),
    Rule(
        "instance.title",
        ("ContentLabel", "ContentSequence", "ConceptNameCodeSequence", "DocumentTitle", "ImageType"),
        imaging_study.title,
        "the first of these that has a value; of the content, the Key Object Description (113012)",
    ),
    Rule("instance.content", (), imaging_study.content, "WADO-RS, if `pacs.dicomweb_url` is set"),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "ImagingStudy": STUDY_RULES,
    "ImagingStudy.series": SERIES_RULES,
    "ImagingStudy.series.instance": INSTANCE_RULES,
    "Patient": subject.PATIENT_RULES,
    "Device": related.DEVICE_RULES,
    "Endpoint": endpoints.ENDPOINT_RULES,
    "Endpoint of the web viewer": endpoints.VIEWER_RULES,
    **key_object_rules.RULES,
    **document_rules.RULES,
    **dose_report_rules.RULES,
    **measurement_rules.RULES,
    **procedures.RULES,
}
"""A resource type, or the path of an element with child elements -> the rules for its child elements."""
