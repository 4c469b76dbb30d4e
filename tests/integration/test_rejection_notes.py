"""Rejection notes in files: what commands do with them, what ``explain`` says, and how many instances they may name."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.rejection_notes import rejection_note as note_of
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Origin
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import MOTION_BLUR, rejection_note
from tests.command_line import Run
from tests.daemon_process import run_command

NAME = "rejected in files"
SLICES = [instance("CT", NAME, number=number) for number in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two slices and a note that rejects both."""
    made = tmp_path / "in"
    made.mkdir()
    for number, one in enumerate([*SLICES, rejection_note(NAME, "113037", SLICES)]):
        one.save_as(made / f"{number}.dcm", enforce_file_format=True)
    return made


@pytest.mark.parametrize("ignored", [False, True], ids=["applied", "ignored"])
def test_convert_applies_them_unless_told_otherwise(run: Run, folder: Path, ignored: bool) -> None:
    result = run("convert", *(["--ignore-rejection-notes"] if ignored else []), folder)
    assert result.status == 0, result.stderr
    study = next(entry["resource"] for entry in result.json["entry"] if "ImagingStudy" in str(entry["request"]))
    assert (study["status"], study["numberOfInstances"]) == (("available", 3) if ignored else ("entered-in-error", 0))


@pytest.mark.parametrize("ignored", [False, True], ids=["applied", "ignored"])
def test_backfill_applies_them_unless_told_otherwise(folder: Path, tmp_path: Path, ignored: bool) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[store]\nmin_free_bytes = 0\n")
    flags = ["--ignore-rejection-notes"] if ignored else []
    done = run_command(
        "backfill", "--config", config, "--state-dir", tmp_path / "state", "--workers", "1", *flags, folder
    )
    assert done.returncode == 0, done.stderr.decode()
    store = SqliteStore.open_readonly(tmp_path / "state" / "store.db")
    try:
        study, status = store.study(make_uid(NAME)), store.study_status(make_uid(NAME))
    finally:
        store.close()
    assert study is not None
    assert status is not None
    assert study.rejected_for == ("" if ignored else "113037")
    assert (status.rejected, status.asked_to_reject) == ((0, 1) if ignored else (2, 0))


def explained(run: Run, file: Path, config: Path, *options: str) -> Any:
    result = run("explain", "--config", config, "--json", *options, file)
    assert result.status == 0, result.stderr
    return result.json["rejection_note"]


def test_explain_says_what_a_note_does_and_from_whom_it_is_applied(run: Run, folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    assert explained(run, folder / "2.dcm", config) == {
        "code": "113037",
        "modifiers": [],
        "problem": "",
        "instances": 2,
        "studies": 1,
        "status": "entered-in-error",
        "calling_ae_titles": [],
        "folders": [],
        "not_applied_at": [],
    }
    assert "nobody: receiver.rejection_notes_from is empty" in run("explain", folder / "2.dcm").stdout.decode()
    config.write_text(
        '[receiver]\nrejection_notes_from = ["ARCHIVE"]\n'
        f'[folders.inbox]\npath = "{tmp_path}/inbox"\n[folders.old]\npath = "{tmp_path}/old"\nrejection_notes = false\n'
        f'[destinations.files]\ntype = "file"\ndirectory = "{tmp_path}/out"\nresources.rejection_notes = "never"\n'
    )
    seen = explained(run, folder / "2.dcm", config, "--fhir", "DSTU2")
    assert (seen["calling_ae_titles"], seen["folders"], seen["not_applied_at"]) == (["ARCHIVE"], ["inbox"], ["files"])
    assert seen["status"] == ""
    text = " ".join(run("explain", "--config", config, folder / "2.dcm").stdout.decode().split())
    assert "applied from ARCHIVE" in text
    assert "2 instances of 1 study" in text
    assert explained(run, folder / "1.dcm", config) is None


def test_explain_says_why_the_title_of_a_note_says_so(run: Run, tmp_path: Path) -> None:
    note = rejection_note(NAME, "113001", SLICES, [MOTION_BLUR])
    note.save_as(tmp_path / "note.dcm", enforce_file_format=True)
    text = " ".join(run("explain", tmp_path / "note.dcm").stdout.decode().split())
    assert "Rejection note 113001 (Motion blur): 2 instances of 1 study" in text


def test_explain_says_why_a_note_is_refused(run: Run, tmp_path: Path) -> None:
    note = rejection_note(NAME, "113001", SLICES)
    del note.CurrentRequestedProcedureEvidenceSequence
    note.save_as(tmp_path / "note.dcm", enforce_file_format=True)
    text = " ".join(run("explain", tmp_path / "note.dcm").stdout.decode().split())
    assert "Rejection note 113001 that is refused: The rejection note names no instances" in text


def test_a_note_is_applied_as_a_whole_up_to_a_number_of_instances() -> None:
    """Whatever is left out of its content, which names the same instances."""
    numbers = range(10, 80)
    applied = [named(number, Budgets(elements=3_000)) for number in numbers]
    most = max(found for found in applied if found is not None)
    assert applied == [number if number <= most else None for number in numbers]
    assert numbers[0] < most < numbers[-1]


def test_a_note_that_is_too_large_is_refused_with_the_name_of_the_limit() -> None:
    with pytest.raises(CannotUnderstand, match=r"receiver\.max_elements"):
        named(80, Budgets(elements=3_000), or_none=False)


def named(number: int, budgets: Budgets, *, or_none: bool = True) -> int | None:
    """How many instances a note rejects that names so many; None if it is refused."""
    slices = [SLICES[0]] * number
    note = rejection_note(NAME, "113037", slices)
    of_series = note.CurrentRequestedProcedureEvidenceSequence[0]
    references = of_series.ReferencedSeriesSequence[0]
    references.ReferencedSOPSequence = [reference(each) for each in range(number)]
    note.CurrentRequestedProcedureEvidenceSequence = [of_series]
    written = BytesIO()
    note.save_as(written, enforce_file_format=True)
    written.seek(0)
    reader = InstanceReader(budgets)
    record = reader.decode(reader.read_file(written).received(Origin("file")))
    try:
        found = note_of(record, is_applied=True)
    except CannotUnderstand:
        if or_none:
            return None
        raise
    assert found is not None
    return sum(map(len, found.instances.values()))


def reference(number: int) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = SLICES[0].SOPClassUID
    made.ReferencedSOPInstanceUID = make_uid(NAME, "named", str(number))
    return made
