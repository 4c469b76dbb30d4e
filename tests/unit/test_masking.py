"""What is hidden of a patient on the web page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.dicom.study import assemble
from dicom2fhir.fhir.mapping.engine import map_study
from dicom2fhir.fhir.mapping.options import MappingOptions
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.jobs import conversion
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Resource
from dicom2fhir.ops.masking import MASK, Masking, names_in

PATIENT = {"PatientName": "Ärgerlich^Ute=Argerlich^Ute", "PatientID": "MRN-77 12", "PatientBirthDate": "19700131"}
STUDY = {"AccessionNumber": "A|4711", "ReferringPhysicianName": "Wer^Klaus"}
MASKING = Masking(PATIENT, STUDY)


@pytest.mark.parametrize(
    "text",
    [
        "ute is unknown",
        "Patient ÄRGERLICH, born 1970-01-31",
        "19700131",
        "Patient?identifier=urn:x%7CMRN-77",
        "accession=A%7C4711",
        "Dr. Klaus",
    ],
)
def test_values_of_a_study_are_hidden_in_texts(text: str) -> None:
    hidden = MASKING.text(text)
    assert MASK in hidden
    assert not any(word.lower() in hidden.lower() for word in ("ute ", "Ärgerlich", "0131", "MRN", "4711", "Klaus"))


@pytest.mark.parametrize("text", ["CT chest", "1.2.840.19700131.1", "minute", "Wherever"])
def test_other_texts_stay(text: str) -> None:
    assert MASKING.text(text) == text


def test_nothing_is_hidden_of_a_study_without_values() -> None:
    assert Masking({}, {"PatientName": "^"}).text("CT^") == "CT^"


@pytest.mark.parametrize("version", DIALECTS)
def test_no_identifier_of_a_study_is_in_its_masked_resources(version: str, tmp_path: Path) -> None:
    dataset = instance("CT")
    canaries = {
        "PatientName": "Canaryname^Canarygiven",
        "PatientID": "CANARYID",
        "PatientBirthDate": "19231122",
        "AccessionNumber": "CANARYACC",
        "AdmissionID": "CANARYADM",
        "ReferringPhysicianName": "Canarydoctor^Who",
        "StudyDescription": "of Canaryname",
        "StudyID": "CANARYSTUDY",
    }
    for keyword, value in canaries.items():
        setattr(dataset, keyword, value)
    file = tmp_path / "1.dcm"
    dataset.save_as(file, enforce_file_format=True)
    record = conversion.instance_of(conversion.named_file(str(file)))
    study = assemble(record.study_uid, 1, [record])
    options = MappingOptions(patient=Write.ENSURE)
    resources = [entry["resource"] for entry in standalone(map_study(study, DIALECTS[version], options))["entry"]]
    before = json.dumps(resources)
    assert "CANARYID" in before
    masking = Masking(study.patient, study.attrs)
    after = json.dumps([masking.resource(resource) for resource in resources])
    assert "canary" not in after.lower()
    assert "1923" not in after
    assert str(dataset.SOPInstanceUID) in after
    assert json.loads(after)[0]["resourceType"] == resources[0]["resourceType"]


def test_names_and_numbers_in_a_resource_are_found() -> None:
    patient: Resource = {
        "resourceType": "Patient",
        "name": [{"family": "Former", "given": ["Anna"]}],
        "birthDate": "1970-01-31",
        "identifier": [{"system": "urn:oid:1.2", "value": "OLD-1"}, {"value": "urn:oid:1.2.3"}],
        "extension": [{"valueQuantity": {"value": 3, "unit": "mm"}}],
        "gender": "female",
    }
    found = list(names_in(patient))
    assert sorted(found) == ["1970-01-31", "Anna", "Former", "OLD-1"]
    hidden = Masking({}).with_texts(found).text("of former, born 1970-01-31 (OLD-1), female")
    assert hidden == "of ***, born *** (***), female"
