"""Files that end within their pixel data, as ``convert``, ``explain`` and ``backfill`` read them."""

from __future__ import annotations

import json
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from dicom2fhir.model import Note
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_files
from tests.command_line import run_here
from tests.daemon_process import run_command

NOTE = Note("warning", "PixelData", "the file ends within it, or within what follows it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two instances of one study, the second without its last pixel."""
    folder = tmp_path / "files"
    _, cut = ct_files(folder, 2)
    cut.write_bytes(cut.read_bytes()[:-2])
    return folder


def test_convert_keeps_the_header(folder: Path) -> None:
    done = run_here("convert", folder, "--as", "resources")
    assert done.status == 0, done.stderr
    (study,) = [one for one in done.lines if one["resourceType"] == "ImagingStudy"]
    assert study["numberOfInstances"] == 2


def test_explain_notes_it(folder: Path) -> None:
    whole, cut = (run_here("explain", "--json", file).json for file in sorted(folder.rglob("*.dcm")))
    texts = [[note["text"] for note in shown["notes"]] for shown in (whole, cut)]
    assert [NOTE.text in each for each in texts] == [False, True]


def test_backfill_keeps_the_header_and_notes_it(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[store]\nmin_free_bytes = 0\n")
    done = run_command("backfill", "--json", "--config", config, "--state-dir", tmp_path / "state", folder)
    assert (done.returncode, json.loads(done.stdout)["taken"]) == (0, 2), done.stderr.decode()
    with closing(SqliteStore(tmp_path / "state" / "store.db", min_free_bytes=0)) as store:
        (study,) = store.studies()
        found = store.study(study.study_uid)
    assert found is not None
    assert NOTE in found.notes


def test_members_of_archives_are_not_looked_at_beyond_their_headers(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "files.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for file in folder.rglob("*.dcm"):
            made.write(file, file.name)
    done = run_here("convert", archive, "--as", "resources")
    assert done.status == 0, done.stderr
