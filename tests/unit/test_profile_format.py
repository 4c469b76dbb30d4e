"""The reference of profile files names every key, and its example is a profile that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from inspect import get_annotations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from dicom2fhir.cli import cli
from dicom2fhir.fhir.mapping.engine import map_study
from dicom2fhir.fhir.profile import model, template
from dicom2fhir.fhir.profile.apply import conform
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.fhir.version.validate import check
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Study
from dicom2fhir.wiring import options
from testdata.make_cases import study_and_options
from tests import profile_helpers as helpers
from tests.invariants import violations

PAGE = (Path(__file__).parents[2] / "docs" / "profile-format.md").read_text("utf-8")
URL = "https://network.example/fhir/StructureDefinition"
SECONDS = {"unit": "s", "system": "http://unitsofmeasure.org", "code": "s"}
TABLES = [
    found
    for found in {**vars(template), **vars(model)}.values()
    if isinstance(found, type) and issubclass(found, BaseModel) and found.model_fields
]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return profile_of("An example", tmp_path / "network.toml")


def profile_of(section: str, file: Path) -> Path:
    """The first profile of a section of the page, as a file."""
    found = re.search(r"```toml\n(.*?)```", PAGE.partition(f"## {section}\n")[2], re.DOTALL)
    assert found
    file.write_text(found[1], "utf-8")
    return file


def test_the_profile_of_ten_minutes_does_what_its_comments_say(tmp_path: Path) -> None:
    profile = options.profile(str(profile_of("A profile in ten minutes", tmp_path / "region.toml")))
    described = {"CTDIvol": "8.5", "BodyPartExamined": "CHEST"}
    made = of_patient(helpers.study(described, RequestedProcedureDescription="CT chest"), PatientBirthDate="19640229")
    resource = helpers.imaging_study(profile, made)
    assert helpers.claims(resource) and resource["description"] == "CT chest"
    (series,) = resource["series"]
    assert series["bodySite"]["code"] == "43799004"
    (dose,) = series["extension"]
    assert dose["url"] == "https://region.example/fhir/StructureDefinition/dose"
    assert (dose["valueQuantity"]["value"], dose["valueQuantity"]["code"]) == (8.5, "mGy")
    other = helpers.study({"BodyPartExamined": "KNEE"}, StudyDescription="MR")
    result = helpers.conformed(profile, other)
    assert "bodySite" not in result.entries[0].resource["series"][0]
    assert result.unclaimed == "does not claim profile region: Patient.birthDate is missing"


def of_patient(made: Study, **patient: str) -> Study:
    return replace(made, patient={**made.patient, **patient})


def keys_of(value: Any) -> Iterator[str]:
    """The keys that are set in a profile, as ``ElementRule.path``, and ``when_known``."""
    if isinstance(value, BaseModel):
        for base in type(value).__mro__:
            yield from (f"{base.__name__}.{name}" for name in value.model_fields_set & get_annotations(base).keys())
        for name in value.model_fields_set:
            yield from keys_of(getattr(value, name))
    elif isinstance(value, dict):
        yield from ["when_known"] if getattr(value, "when_known", False) else []
        for inner in value.values():
            yield from keys_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from keys_of(inner)


def conformed(profile: Profile, case: str) -> Mapped:
    study, policy = study_and_options(case)
    dialect = DIALECTS["R4"]
    return conform(profile, map_study(study, dialect, policy), study, dialect, policy)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_is_described(table: type[BaseModel]) -> None:
    for name, field in table.model_fields.items():
        assert field.description, f"{table.__name__}.{name} has no description"
        assert f"| `{field.alias or name}` |" in PAGE, "a table of the profile is missing in docs/make_docs.py"
        assert field.description in PAGE, "run `make docs`"


def test_the_example_is_sound(example: Path) -> None:
    said = CliRunner().invoke(cli, ["profiles", "check", str(example)])
    assert said.exit_code == 0, said.output


def test_the_example_has_every_key(example: Path) -> None:
    every = {f"{table.__name__}.{name}" for table in TABLES for name in get_annotations(table)}
    assert {"when_known", *every} - set(keys_of(options.profile(str(example)))) == set()


@pytest.mark.parametrize("case", ["ct", "contrast", "pet-ct", "mr", "patient-empty"])
def test_what_the_example_makes_is_valid(case: str, example: Path) -> None:
    result = conformed(options.profile(str(example)), case)
    assert violations(result, "R4") == []
    assert [note for entry in result.entries for note in check(entry.resource, "R4")] == []


def test_the_example_does_what_its_comments_say(example: Path) -> None:
    study = conformed(options.profile(str(example)), "pet-ct").entries[0].resource
    assert study["meta"]["profile"] == [f"{URL}/network-imagingstudy"]
    made = {resource["resourceType"]: resource for resource in study["contained"]}
    assert study["reasonReference"] == [{"reference": f"#{made['Observation']['id']}", "type": "Observation"}]
    assert made["MedicationAdministration"]["effectiveDateTime"].startswith("2024-03-11T08:15:00")
    dose = made["MedicationAdministration"]["dosage"]["dose"]
    assert (dose["value"], dose["unit"], dose["code"]) == (320, "megabecquerel", "MBq")
    extensions = {url: value for series in study["series"] for url, *value in map(dict.values, series["extension"])}
    kvp, geometry, tracer = (extensions[f"{URL}/{name}"] for name in ("kvp", "geometry", "tracer"))
    assert kvp[0]["value"] == 120
    assert geometry[0][0] == {"url": "spacing", "valueString": "[0.7, 0.7]"}
    assert tracer[0][1]["valueQuantity"] == {"value": 3911, **SECONDS}
