"""The subject of a study: the Patient (PS3.3 C.7.1.1), or the Device for a quality control image."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.related import device_name, own_id, search_by
from dicom2fhir.fhir.mapping.rule import Rule, apply
from dicom2fhir.fhir.version.datatypes import (
    SNOMED_CT,
    Coding,
    Concept,
    concept,
    deterministic_id,
    fhir_date,
    first_item,
    gender,
    human_names,
    identifier,
    issuer_system,
    one,
)
from dicom2fhir.fhir.version.dialect import codeable_concept
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Attrs, Resource


def subject(source: MappingSource) -> Resource:
    """The reference to the Patient, or to the Device."""
    context = source.context
    patient = MappingSource(context, context.study, context.study.patient)
    if patient.text("QualityControlSubject").upper() == "YES":
        if "Device" in context.dialect.elements["subject"].types:
            return _phantom(patient)
        context.lacks(
            "ImagingStudy.subject", "subject of type Device; the quality control subject is written as a Patient"
        )
    resource: Resource = {"resourceType": "Patient"}
    apply(PATIENT_RULES, patient, resource)
    identifiers = resource.get("identifier", [])
    if identifiers:
        resource["id"] = own_id("Patient", identifiers[0])
        # if a Reference cannot have an identifier, a patient that the server does not have is contained
        inside = "" if "identifier" in context.dialect.reference_parts else "patient"
        entry = Entry(resource, context.options.patient, search_by(identifiers[0]), inside)
        return {**context.add(entry), "identifier": identifiers[0]}
    context.note("warning", "PatientID", "is missing; the patient cannot be identified")
    if len(resource) == 1:
        return {"type": "Patient", "display": "Unknown"}
    if context.options.patient is Write.LINK:
        return context.contain(resource)
    resource["id"] = deterministic_id("Patient of study", context.study.uid)
    return context.add(Entry(resource, context.options.patient, inside="patient"))


def _phantom(patient: MappingSource) -> Resource:
    """The Device for a subject that (0010,0200) Quality Control Subject marks: it is not a patient."""
    resource: Resource = {"resourceType": "Device"}
    if patient.text("PatientID"):
        own = _identifier(patient.context, patient.attrs, "MR")
        resource["identifier"] = [own | {"type": {"text": "Phantom"}}]
    patient.context.dialect.put(resource, "Device.type", _PHANTOM)
    name = " ".join(patient.text("PatientName").replace("^", " ").split())
    patient.context.dialect.put(resource, "Device.name", device_name(patient, name))
    return patient.context.contain(resource)


_PHANTOM = Concept((Coding("706342009", SNOMED_CT, "Phantom"),))
"""Of PS3.16 CID 4051 General Device."""

_CARRIERS = frozenset({"RFID", "BARCODE"})
"""(0010,0022) Type of Patient ID: the carrier of the identifier. HL7 has no code for it; TEXT has no information."""


def _identifiers(patient: MappingSource) -> list[Resource]:
    """The distinct identifiers."""
    found: dict[tuple[str | None, str], Resource] = {}
    for own in _all_identifiers(patient):
        found.setdefault((own.get("system"), own["value"]), own)
    return list(found.values())


def _all_identifiers(patient: MappingSource) -> Iterator[Resource]:
    """Patient ID, a medical record number unless its type is given, and Other Patient IDs, whose type is not known."""
    if patient.text("PatientID"):
        yield _identifier(patient.context, patient.attrs, "MR")
    for other in patient.items("OtherPatientIDsSequence"):
        if one(other.get("PatientID")):
            carrier = one(other.get("TypeOfPatientID")).upper()
            yield _identifier(patient.context, other, carrier if carrier in _CARRIERS else "")


def _identifier(context: MappingContext, attrs: Attrs, otherwise: str) -> Resource:
    """An identifier of the type that its issuer's qualifiers give, else of the type ``otherwise``."""
    qualifiers = first_item(attrs, "IssuerOfPatientIDQualifiersSequence")
    local = one(attrs.get("IssuerOfPatientID"))
    system, issuer = issuer_system(context.options.systems.patient_id, local, qualifiers)
    type_code = " ".join(one((qualifiers or {}).get("IdentifierTypeCode")).split()) or otherwise
    return identifier(one(attrs["PatientID"]), system, type_code, issuer)


def _gender(patient: MappingSource) -> str | None:
    sex = patient.text("PatientSex")
    found = gender(sex)
    if sex and not found and sex.upper() != "U":
        patient.note("PatientSex", "is not M, F or O; left out")
    return found


def _birth_date(patient: MappingSource) -> str | None:
    birth = patient.text("PatientBirthDate")
    day = fhir_date(birth) if birth else None
    if birth and not day:
        patient.note("PatientBirthDate", "is not a date; left out")
    return day


def _species(patient: MappingSource) -> Resource | None:
    """The species of an animal; None for people."""
    code, words = patient.item("PatientSpeciesCodeSequence"), patient.text("PatientSpeciesDescription")
    found = concept(code, patient.context.schemes) if code else None
    if not found and words:
        found = Concept(text=words)
    return codeable_concept(found) if found else None


def _animal_extension(patient: MappingSource) -> Resource | None:
    species = _species(patient)
    return {"url": _ANIMAL, "extension": [{"url": "species", "valueCodeableConcept": species}]} if species else None


def _animal(patient: MappingSource) -> Resource | None:
    species = _species(patient)
    return {"species": species} if species else None


_ANIMAL = "http://hl7.org/fhir/StructureDefinition/patient-animal"
_OF_SPECIES = ("PatientSpeciesCodeSequence", "PatientSpeciesDescription")

PATIENT_RULES = (
    Rule(
        "Patient.identifier",
        ("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence"),
        _identifiers,
        "with the system of the issuer; Patient ID as MR unless the issuer's qualifiers give a type",
    ),
    Rule(
        "Patient.name",
        ("PatientName",),
        lambda patient: human_names(patient.text("PatientName")),
        "a HumanName for each representation: alphabetic, ideographic, phonetic",
    ),
    Rule("Patient.gender", ("PatientSex",), _gender, "M, F, O; any other value is left out"),
    Rule("Patient.birthDate", ("PatientBirthDate",), _birth_date, "left out when it is not a date"),
    Rule(
        "Patient.extension",
        _OF_SPECIES,
        _animal_extension,
        "patient-animal: the code of the species, otherwise its text",
    ),
    Rule("Patient.animal", _OF_SPECIES, _animal, "the code of the species, otherwise its text"),
)
