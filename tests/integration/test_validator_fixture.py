"""The official validator finds what is wrong, in each version that it knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.servers.validator.validator import VERSIONS, Question, Validator, together

GOOD: dict[str, Any] = {"resourceType": "Patient", "gender": "female", "birthDate": "1999-02-28"}
BROKEN = {
    "unknown element": {**GOOD, "surname": "Doe"},
    "type": {**GOOD, "birthDate": "1999-02-31"},
    "required code": {**GOOD, "gender": "f"},
    "cardinality": {**GOOD, "communication": [{"preferred": True}]},
    "list": {**GOOD, "gender": ["female"]},
    "reference type": {**GOOD, "managingOrganization": {"reference": "Patient/x"}},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_good_is_good_and_each_fault_is_found(validator: Validator, version: str) -> None:
    good, *broken = validator.check_all(Question(version, resource) for resource in (GOOD, *BROKEN.values()))
    assert good.errors == ()
    assert [fault for fault, findings in zip(BROKEN, broken, strict=True) if not findings.errors] == []


def test_a_file_of_xml_can_be_checked(validator: Validator, tmp_path: Path) -> None:
    path = tmp_path / "patient.xml"
    path.write_text('<Patient xmlns="http://hl7.org/fhir"><gender value="x"/></Patient>')
    assert {error.location for error in validator.check("R4", path).errors} == {"Patient.gender"}


def test_a_profile_that_is_not_known_is_an_error(validator: Validator) -> None:
    assert validator.check("R4", GOOD, ["http://example.com/StructureDefinition/nowhere"]).errors


def test_a_version_without_validator_is_refused_and_the_next_question_answered(validator: Validator) -> None:
    with pytest.raises(RuntimeError, match=r"no official validator for 3\.2\.0"):
        validator.check("3.2.0", GOOD)
    assert validator.check("R4", GOOD).errors == ()


def test_the_target_of_a_reference_is_judged_by_the_profiles_that_the_element_allows(
    validator: Validator, tmp_path: Path
) -> None:
    for name, facts in {"born": {"birthDate": 1}, "any": {}}.items():
        _define(tmp_path, name, "Patient", facts)
    _define(tmp_path, "one", "ImagingStudy", {}, subject=["born"])
    _define(tmp_path, "either", "ImagingStudy", {}, subject=["born", "any"])
    study = {
        "resourceType": "ImagingStudy",
        "id": _STUDY,
        "status": "available",
        "subject": {"reference": f"urn:uuid:{_PATIENT}"},
    }
    patient = {"resourceType": "Patient", "id": _PATIENT, "gender": "female"}

    def errors(profile: str, **of_patient: str) -> list[str]:
        claiming = {**study, "meta": {"profile": [f"{_OWN}{profile}"]}}
        question = Question("R4", together([claiming, {**patient, **of_patient}]), definitions=[tmp_path])
        return [str(error) for error in validator.check_all([question])[0].errors]

    assert errors("one", birthDate="1999-02-28") == []
    (error,) = errors("one")
    assert error.startswith("ImagingStudy.subject: ")
    assert "Patient.birthDate: minimum required = 1" in error
    assert errors("either") == []


_STUDY, _PATIENT = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
_OWN = "http://example.com/StructureDefinition/"


def _define(folder: Path, name: str, type_: str, required: dict[str, int], subject: Sequence[str] = ()) -> None:
    """Write a profile that requires elements, and of a subject that it conforms to one of these profiles."""
    elements: list[dict[str, Any]] = [{"id": type_, "path": type_}]
    elements += [{"id": f"{type_}.{path}", "path": f"{type_}.{path}", "min": least} for path, least in required.items()]
    if subject:
        targets = [f"{_OWN}{target}" for target in subject]
        path = f"{type_}.subject"
        elements.append({"id": path, "path": path, "type": [{"code": "Reference", "targetProfile": targets}]})
    definition = {
        "resourceType": "StructureDefinition",
        "url": f"{_OWN}{name}",
        "name": name,
        "status": "draft",
        "kind": "resource",
        "abstract": False,
        "type": type_,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{type_}",
        "derivation": "constraint",
        "differential": {"element": elements},
    }
    (folder / f"{name}.json").write_text(json.dumps(definition))
