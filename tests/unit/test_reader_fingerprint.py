"""The reader's fingerprint changes with what is read, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom2fhir.dicom import reader_fingerprint as room
from dicom2fhir.dicom.attributes import LEVELS, Attribute
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from tests.data import make_reader
from tests.data.snapshots import Snapshot

FIRST, *OTHERS = LEVELS["patient"]
PRESENT = fingerprint()  # before any test puts something else in its place
NESTED = next(attribute for attribute in LEVELS["study"] if attribute.items)


def with_patient(monkeypatch: pytest.MonkeyPatch, *attributes: Attribute) -> str:
    monkeypatch.setattr(room, "LEVELS", {**LEVELS, "patient": attributes})
    return fingerprint.__wrapped__()


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param([*OTHERS], id="one less"),
        pytest.param([FIRST, *OTHERS, Attribute("PatientComments", 0x00104000, "LT")], id="one more"),
        pytest.param([replace(FIRST, vr="LO"), *OTHERS], id="another VR"),
        pytest.param([replace(FIRST, many=not FIRST.many), *OTHERS], id="other multiplicity"),
        pytest.param([replace(FIRST, items=NESTED.items), *OTHERS], id="more of each item"),
    ],
)
def test_another_table_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch, attributes: list[Attribute]) -> None:
    assert with_patient(monkeypatch, *attributes) != PRESENT


def test_which_value_stands_for_a_study_is_no_matter_of_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_patient(monkeypatch, replace(FIRST, pick="earliest", follows=""), *OTHERS) == PRESENT


def test_another_revision_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "READER_REVISION", room.READER_REVISION + 1)
    assert fingerprint.__wrapped__() != PRESENT


def test_a_reader_that_reads_differently_has_another_fingerprint() -> None:
    kept = Snapshot.read(make_reader.SNAPSHOT)
    if kept.fingerprint == PRESENT:
        assert kept.differences(make_reader.observe()) == [], (
            "files give other records: raise READER_REVISION (dicom2fhir/dicom/reader_fingerprint.py)"
        )
    else:
        pytest.fail("the reader has another fingerprint: python -m tests.data.make_reader takes the snapshot anew")
