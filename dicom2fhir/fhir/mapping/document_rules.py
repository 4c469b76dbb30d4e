"""The rule tables of DocumentReference and DiagnosticReport, for encapsulated documents."""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.document_references import PREDECESSORS
from dicom2fhir.fhir.mapping import documents, related, sr_documents, subject
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.rule import Rule, text
from dicom2fhir.fhir.mapping.study_reference import study_reference

_MOMENT = ("ContentDate", "ContentTime", "TimezoneOffsetFromUTC")
_VISIT = ("AdmissionID", "IssuerOfAdmissionIDSequence")
_STUDY = "the ImagingStudy"
_ENCOUNTER = "as the study's"


def _study(source: MappingSource) -> object:
    return study_reference(source.context, source.context.study.uid)


DOCUMENT_RULES = (
    Rule(
        "DocumentReference.masterIdentifier",
        ("SOPInstanceUID",),
        documents.master_identifier,
        "the document's UID as urn:oid:",
        elsewhere=("DocumentReference.identifier",),
    ),
    Rule(
        "DocumentReference.identifier",
        ("SOPInstanceUID", "HL7InstanceIdentifier"),
        documents.identifiers,
        "the document's UID as urn:oid: if there is no masterIdentifier; of a CDA, its HL7 Instance Identifier",
    ),
    Rule(
        "DocumentReference.status",
        PREDECESSORS,
        documents.status,
        "`current`; `superseded` if another document of the study names it as its predecessor; `entered-in-error` once "
        "it is gone",
    ),
    Rule("DocumentReference.docStatus", ("VerificationFlag",), documents.doc_status, "`final` if VERIFIED"),
    Rule(
        "DocumentReference.type",
        ("ConceptNameCodeSequence", "DocumentTitle", "SOPClassUID"),
        documents.document_type,
        "the code; else the title, else the name of the SOP class, as text",
    ),
    Rule("DocumentReference.subject", (), subject.subject, "as the study's"),
    Rule("DocumentReference.created", _MOMENT, sr_documents.authored, "the day, with the time if its zone is known"),
    Rule(
        "DocumentReference.indexed",
        (*_MOMENT, "SeriesDate", "SeriesTime", "StudyDate", "StudyTime"),
        documents.indexed,
        "the first of these with a time whose zone is known; without one the document is not written",
    ),
    Rule("DocumentReference.date", _MOMENT, sr_documents.issued, "if the time and its zone are known"),
    Rule("DocumentReference.author", related.EQUIPMENT, related.equipment, "the equipment that made the document"),
    Rule(
        "DocumentReference.custodian",
        ("InstitutionName", "InstitutionCodeSequence"),
        related.institution,
        "the institution of the equipment",
    ),
    Rule(
        "DocumentReference.relatesTo",
        ("PredecessorDocumentsSequence",),
        documents.replaced_documents,
        "`replaces` each encapsulated document in it, also of another study, by its identifier",
    ),
    Rule("DocumentReference.description", ("SeriesDescription",), text("SeriesDescription"), "unchanged"),
    Rule("DocumentReference.encounter", _VISIT, documents.encounter, _ENCOUNTER),
    Rule("DocumentReference.event", ("StudyInstanceUID",), _study, _STUDY),
    Rule(
        "DocumentReference.content",
        ("SOPClassUID", "DocumentTitle", "ConceptNameCodeSequence", "AcquisitionDateTime", "EncapsulatedDocument"),
        documents.content,
        "one attachment: `contentType` of the SOP class; `title`, else the meaning of its code; `creation` of what was "
        "scanned (Acquisition DateTime); `url` WADO-RS (rendered) if `pacs.dicomweb_url` is set; `data`, `hash` "
        "and, up to R4B, `size` if the document is not larger than `fhir.embed_documents`",
    ),
)

CONTEXT_RULES = (
    Rule("DocumentReference.context.encounter", _VISIT, documents.encounter, _ENCOUNTER),
    Rule("DocumentReference.context.related", ("StudyInstanceUID",), _study, _STUDY),
)

REPORT_RULES = (
    Rule(
        "DiagnosticReport.identifier",
        ("SOPInstanceUID",),
        documents.master_identifier,
        "the document's UID as urn:oid:",
    ),
    Rule(
        "DiagnosticReport.basedOn",
        ("AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestAttributesSequence"),
        documents.orders,
        "the study's orders",
    ),
    Rule(
        "DiagnosticReport.status",
        ("VerificationFlag",),
        documents.doc_status,
        "`final`: only what is VERIFIED becomes a report; `entered-in-error` once it is gone",
    ),
    Rule(
        "DiagnosticReport.code",
        ("ConceptNameCodeSequence",),
        documents.document_type,
        "the code, if it is one of PS3.16 CID 7000; else the document is no report",
    ),
    Rule("DiagnosticReport.subject", (), subject.subject, "as the study's"),
    Rule("DiagnosticReport.encounter", _VISIT, documents.encounter, _ENCOUNTER),
    Rule("DiagnosticReport.issued", _MOMENT, sr_documents.issued, "if the time and its zone are known"),
    Rule(
        "DiagnosticReport.resultsInterpreter",
        ("NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence"),
        documents.interpreters,
        "Practitioners",
    ),
    Rule("DiagnosticReport.study", ("StudyInstanceUID",), _study, _STUDY),
    Rule(
        "DiagnosticReport.presentedForm",
        ("SOPClassUID", "DocumentTitle", "ConceptNameCodeSequence", "AcquisitionDateTime", "EncapsulatedDocument"),
        documents.presented_form,
        "the attachment of the DocumentReference",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "DocumentReference": DOCUMENT_RULES,
    "DocumentReference.context": CONTEXT_RULES,
    "DiagnosticReport": REPORT_RULES,
}
"""As :data:`dicom2fhir.fhir.mapping.rules.RULES`."""
