"""The official validator finds what is wrong, in each version that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers.validator.validator import VERSIONS, Question, ValidatorProcess

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
def test_what_is_good_is_good_and_each_fault_is_found(validator: ValidatorProcess, version: str) -> None:
    good, *broken = validator.check_all(Question(version, resource) for resource in (GOOD, *BROKEN.values()))
    assert good.errors == ()
    assert [fault for fault, findings in zip(BROKEN, broken, strict=True) if not findings.errors] == []


def test_a_file_of_xml_can_be_checked(validator: ValidatorProcess, tmp_path: Path) -> None:
    path = tmp_path / "patient.xml"
    path.write_text('<Patient xmlns="http://hl7.org/fhir"><gender value="x"/></Patient>')
    assert {error.location for error in validator.check("R4", path).errors} == {"Patient.gender"}


def test_a_profile_that_is_not_known_is_an_error(validator: ValidatorProcess) -> None:
    assert validator.check("R4", GOOD, ["http://example.com/StructureDefinition/nowhere"]).errors


def test_a_version_without_validator_is_refused_and_the_next_question_answered(validator: ValidatorProcess) -> None:
    with pytest.raises(RuntimeError, match=r"no official validator for 3\.2\.0"):
        validator.check("3.2.0", GOOD)
    assert validator.check("R4", GOOD).errors == ()
