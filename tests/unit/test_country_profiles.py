"""The profiles of countries: what each asks for beyond R4, and what becomes of a study that lacks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Study
from dicom2fhir.wiring import options
from tests.profile_helpers import DCM, claims, conformed, contained, imaging_study, study

ARCHIVE = "https://pacs.example/dicom-web"
ISSUER = [{"UniversalEntityID": "https://hospital.example/patient", "UniversalEntityIDType": "URI"}]
KNOWN: dict[str, Any] = {
    "PatientID": "P1",
    "IssuerOfPatientIDQualifiersSequence": ISSUER,
    "PatientName": "Doe^Jane",
    "PatientSex": "F",
    "PatientBirthDate": "19640229",
}
MODALITIES = Path(__file__).parents[2] / "dicom2fhir" / "fhir" / "version" / "data" / "modalities.json"


def of(patient: dict[str, Any], made: Study | None = None) -> Study:
    made = made or study()
    return Study(made.uid, 1, patient, made.attrs, made.series)


def without(*keywords: str) -> dict[str, Any]:
    return {keyword: value for keyword, value in KNOWN.items() if keyword not in keywords}


def result(name: str, made: Study, missing: Any = None, url: str = ARCHIVE, **policy: Any) -> Mapped:
    return conformed(options.profile(name), made, missing, dicomweb_url=url, **policy)


@pytest.mark.parametrize("name", ["us-core", "jp-core", "kr-core", "tw-core", "in-abdm"])
def test_a_study_of_a_known_patient_claims_the_profile_and_so_does_the_patient(name: str) -> None:
    first, patient, *_ = result(name, of(KNOWN), patient=Write.ENSURE).entries
    assert claims(first.resource)
    assert patient.resource["resourceType"] == "Patient" and claims(patient.resource)


@pytest.mark.parametrize(
    ("name", "keyword", "lacking"),
    [
        ("us-core", "IssuerOfPatientIDQualifiersSequence", "Patient.identifier.system"),
        ("us-core", "PatientID", "Patient.identifier"),
        ("us-core", "PatientName", "Patient.name"),
        ("jp-core", "PatientID", "Patient.identifier"),
        ("kr-core", "PatientID", "Patient.identifier"),
        ("kr-core", "IssuerOfPatientIDQualifiersSequence", "Patient.identifier.system"),
        ("kr-core", "PatientName", "Patient.name"),
        ("kr-core", "PatientSex", "Patient.gender"),
        ("kr-core", "PatientBirthDate", "Patient.birthDate"),
        ("tw-core", "PatientID", "Patient.identifier"),
        ("tw-core", "IssuerOfPatientIDQualifiersSequence", "Patient.identifier.system"),
        ("tw-core", "PatientSex", "Patient.gender"),
        ("tw-core", "PatientBirthDate", "Patient.birthDate"),
        ("in-abdm", "PatientID", "Patient.identifier"),
    ],
)
def test_a_patient_that_lacks_something_required_costs_the_claim(name: str, keyword: str, lacking: str) -> None:
    found = result(name, of(without(keyword)))
    assert not claims(found.entries[0].resource)
    assert found.unclaimed == f"does not claim profile {name}: {lacking} is missing"
    with pytest.raises(NotExpressible, match=lacking):
        result(name, of(without(keyword)), "refuse")


# US Core --------------------------------------------------------------------------------------------------------------


def test_us_core_wants_an_endpoint_and_an_acquisition_modality() -> None:
    assert result("us-core", of(KNOWN), url="").unclaimed.endswith("ImagingStudy.endpoint is missing")
    report = of(KNOWN, study({"Modality": "SR"}))
    assert result("us-core", report).unclaimed.endswith("ImagingStudy.modality is missing")


@pytest.mark.parametrize(("name", "claimed"), [("Doe", True), ("^Jane", True), ("^^^Dr.", False)])
def test_us_core_wants_a_family_or_a_given_name(name: str, claimed: bool) -> None:
    assert claims(result("us-core", of({**KNOWN, "PatientName": name})).entries[0].resource) is claimed


def test_us_core_wants_a_type_of_the_subject_only_if_it_is_a_device() -> None:
    phantom = of({**KNOWN, "QualityControlSubject": "YES"}, study({"Manufacturer": "Acme"}))
    made = result("us-core", phantom).entries[0].resource
    subject, scanner = contained(made, "Device")
    assert claims(made) and claims(subject)
    assert "type" not in scanner and not claims(scanner)


# Japan ----------------------------------------------------------------------------------------------------------------

NOT_IN_JAPAN = {
    *("ASMT", "CFM", "CTPROTOCOL", "DMS", "DOC", "EEG", "EMG", "EOG", "FID", "IOL", "M3D", "OPTBSV", "OPTENF", "PA"),
    *("PLAN", "POS", "RESP", "RWV", "STAIN", "TEXTUREMAP"),
}


def test_japan_has_fifty_four_modalities_and_every_other_one_is_ot() -> None:
    known = json.loads(MODALITIES.read_text("utf-8"))
    (include,) = options.profile("jp-core").codes["JP_DICOMModality_VS"].include
    assert len(include.codes) == len(set(include.codes)) == 54
    assert set(include.codes) | NOT_IN_JAPAN <= {*known["acquisition"], *known["others"]}
    assert not set(include.codes) & NOT_IN_JAPAN
    for modality in (*include.codes, *NOT_IN_JAPAN):
        made = result("jp-core", of(KNOWN, study({"Modality": modality}))).entries[0].resource
        written = modality if modality in include.codes else "OT"
        assert made["series"][0]["modality"] == {"system": DCM, "code": written}
        if modality in known["acquisition"]:
            assert made["modality"] == [{"system": DCM, "code": written}]


# Korea and Taiwan -----------------------------------------------------------------------------------------------------


def test_korea_has_no_studies_of_devices() -> None:
    phantom = of({**KNOWN, "QualityControlSubject": "YES"})
    assert result("kr-core", phantom).unclaimed.endswith("ImagingStudy.subject of type Patient is missing")
    assert not result("tw-core", phantom).unclaimed


@pytest.mark.parametrize("name", ["kr-core", "tw-core"])
def test_korea_and_taiwan_may_say_that_sex_and_birth_date_are_unknown(name: str) -> None:
    made = of(without("PatientSex", "PatientBirthDate"))
    patient = result(name, made, "sentinel", patient=Write.ENSURE).entries[1].resource
    assert claims(patient) and patient["gender"] == "unknown" and "birthDate" not in patient
    assert patient["_birthDate"]["extension"][0]["valueCode"] == "unknown"
    updated = result(name, made, "sentinel", patient=Write.UPSERT).entries[1].resource
    assert "gender" not in updated and not claims(updated), "it would replace the server's"


# India ----------------------------------------------------------------------------------------------------------------

SNOMED = {"CodingSchemeDesignator": "SCT"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (
            [{"CodeValue": "77477000", "CodeMeaning": "CT", **SNOMED}],
            {"coding": [{"system": "http://snomed.info/sct", "code": "77477000", "display": "CT"}]},
        ),
        ([{"CodeValue": "77477000", **SNOMED}], {"text": "77477000"}),
        ([{"CodeValue": "30746-2", "CodingSchemeDesignator": "LN", "CodeMeaning": "CT chest"}], {"text": "CT chest"}),
        ([{"CodeValue": "X1", "CodingSchemeDesignator": "99A"}], {"text": "X1"}),
    ],
)
def test_india_has_codes_of_snomed_ct_with_displays_and_the_others_as_text(items: Any, expected: Any) -> None:
    found = result("in-abdm", of(KNOWN, study(ProcedureCodeSequence=items)))
    assert found.entries[0].resource["procedureCode"] == [expected]
    noted = [note for note in found.notes if note.where == "ImagingStudy.procedureCode"]
    assert bool(noted) is ("coding" not in expected)


def test_india_keeps_the_words_of_a_code_beside_the_text() -> None:
    request: dict[str, Any] = {
        "ReasonForTheRequestedProcedure": "Since May",
        "ReasonForRequestedProcedureCodeSequence": [
            {"CodeValue": "R05", "CodingSchemeDesignator": "I10", "CodeMeaning": "Cough"}
        ],
    }
    made = result("in-abdm", of(KNOWN, study(**request))).entries[0].resource
    assert made["reasonCode"] == [{"text": "Since May; Cough"}]


def test_india_names_people_without_a_code_and_types_the_identifiers_of_the_others() -> None:
    person = {"PersonIdentificationCodeSequence": [{"CodeValue": "D7", "CodingSchemeDesignator": "99A"}]}
    made = study(
        {"PerformingPhysicianName": "Doc^A", "InstitutionName": "Clinic"},
        ReferringPhysicianName="Refer^R",
        NameOfPhysiciansReadingStudy="Read^R",
        PhysiciansReadingStudyIdentificationSequence=[person],
    )
    found = imaging_study(options.profile("in-abdm"), of(KNOWN, made))
    assert claims(found)
    assert found["referrer"] == {"type": "Practitioner", "display": "R Refer"}
    performer, institution = (one["actor"] for one in found["series"][0]["performer"])
    assert performer == {"type": "Practitioner", "display": "A Doc"}
    assert institution == {"type": "Organization", "display": "Clinic"}
    (reader,) = found["contained"]
    assert reader["identifier"] == [{"value": "D7", "type": {"text": "Person Identification Code"}}]
    assert found["interpreter"][0]["reference"] == f"#{reader['id']}"


def test_india_has_displays_of_the_types_of_patients_identifiers() -> None:
    other = [
        {"PatientID": "P2"},
        {"PatientID": "P3", "IssuerOfPatientIDQualifiersSequence": [{"IdentifierTypeCode": "SS"}]},
    ]
    patient = of({**KNOWN, "OtherPatientIDsSequence": other})
    record, unknown, insured = result("in-abdm", patient, patient=Write.ENSURE).entries[1].resource["identifier"]
    (code,) = record["type"]["coding"]
    assert (code["code"], code["display"]) == ("MR", "Medical record number")
    assert unknown["type"] == {"text": "Patient ID"}
    assert insured["type"] == {"text": "SS"}, "a code without a display is text"
