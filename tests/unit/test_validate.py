"""fhir.resources accepts whatever the bridge makes, and what it finds is told without values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.demo.synthetic import studies as demo_studies
from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.fhir.version.validate import ValidationMode, Validator, check
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Note, Study
from testdata.make_cases import studies_of
from testdata.make_dicom import CASES, encode, encoded
from tests.any_data_set import SCRIPTS, any_file
from tests.examples import examples
from tests.invariants import violations

ACCEPTED = [case.name for case in CASES.values() if case.outcome == "accepted"]
EVERY_TYPE = frozenset({"Practitioner", "Organization", "Location", "Device"})
POLICIES = [
    MappingOptions(patient=patient, referenced=referenced, dicomweb_url="https://pacs.example/dicom-web")
    for patient in (Write.LINK, Write.ENSURE)
    for referenced in (frozenset[str](), EVERY_TYPE)
]


def results(study: Study) -> Iterator[tuple[str, Mapped]]:
    for name, dialect in DIALECTS.items():
        for policy in POLICIES:
            with suppress(NotExpressible):  # UIDs that are no oid: test_mapping says when
                yield name, map_study(study, dialect, policy)


def assert_valid(study: Study) -> None:
    checked: set[tuple[str, str]] = set()
    for name, mapped in results(study):
        assert violations(mapped, name) == []
        for entry in mapped.entries:
            if (key := (name, json.dumps(entry.resource))) not in checked:
                checked.add(key)
                assert check(entry.resource, name) == []


@pytest.mark.parametrize("case", ACCEPTED)
def test_every_generated_study_is_valid(case: str) -> None:
    for study in studies_of(encoded(case)):
        assert_valid(study)


def test_every_study_of_the_demo_is_valid() -> None:
    for _, instances in demo_studies():
        (study,) = studies_of(encode(made) for made in instances)
        assert_valid(study)


@examples(60)
@given(charset=st.sampled_from(sorted(SCRIPTS)), seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
def test_a_study_of_any_content_is_valid(charset: str, seeds: list[int]) -> None:
    (study,) = studies_of(any_file(charset, seed) for seed in seeds)
    assert_valid(study)


@pytest.mark.parametrize("version", ["R4", "R4B", "R5"])
def test_findings_name_the_place_and_never_the_value(version: str) -> None:
    resource = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"display": "Doe^Jane", "surname": "Doe"},
        "contained": [{"resourceType": "Patient", "id": "p", "birthDate": "1999-02-31"}],
        "series": [{"uid": "1 2", "numberOfInstances": -4}, {"uid": "1 2"}],
    }
    notes = check(resource, version)
    assert Note("warning", "ImagingStudy.series.modality", "is not valid: missing") in notes
    assert {note.where for note in notes} == {
        "ImagingStudy.contained.birthDate",
        "ImagingStudy.series.modality",
        "ImagingStudy.series.uid",
        "ImagingStudy.series.numberOfInstances",
        "ImagingStudy.subject.surname",
    }
    assert len(notes) == len(set(notes)), "what is wrong with every series is told once"
    assert not any(value in note.text for note in notes for value in ("1999", "1 2", "-4", "Doe"))


INVALID = Mapped((Entry({"resourceType": "Endpoint", "id": "e"}, Write.UPSERT),))


@pytest.mark.parametrize(
    ("mode", "first", "checked"),
    [
        ("always", False, [True, True, True, True, True, True, True]),
        ("sample", True, [True, False, False, True, False, False, True]),
        ("sample", False, [False, False, True, False, False, True, False]),
        ("never", True, [False, False, False, False, False, False, False]),
    ],
)
def test_how_often_is_checked(mode: ValidationMode, first: bool, checked: list[bool]) -> None:
    validator = Validator(mode, every=3, first=first)
    assert [bool(validator.findings(INVALID, "R4")) for _ in checked] == checked
