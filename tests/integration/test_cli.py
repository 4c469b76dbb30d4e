"""The command line as its users meet it: what goes to stdout and stderr, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import termios
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir import __version__
from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection
from testdata.make_dicom import ct_instances
from tests.command_line import Run
from tests.daemon_process import ROOT, environment, run_command
from tests.scripted_server import Resource, ScriptedServer
from tests.store_contract.bench import claimed, delivered

pytestmark = pytest.mark.usefixtures("logging_as_before")

NOBODY = "http://127.0.0.1:1/fhir"
"""Nobody can listen on port 1 but root, and root does not."""


def write(path: Path, modality: str = "CT", study: str = "cli", number: int = 1, **attributes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    instance(modality, study, 1, number, **attributes).save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two studies (2 instances and 1), a text, and a DICOM file that is cut off."""
    made = tmp_path / "in"
    write(made / "a" / "1.dcm", number=1)
    write(made / "a" / "2.dcm", number=2)
    whole = write(made / "b" / "x", "MR", "other").read_bytes()
    (made / "notes.txt").write_text("Not DICOM.\n" * 50)
    (made / "cut.dcm").write_bytes(whole[: whole.index(b"\x20\x00\x0e\x00UI") + 12])
    return made


@pytest.fixture
def good(folder: Path) -> Path:
    """The same without the file that is cut off."""
    (folder / "cut.dcm").unlink()
    return folder


def resources(bundles: list[Any], kind: str) -> list[Any]:
    found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


# convert


def test_convert_gives_one_bundle_a_line_for_each_study(run: Run, good: Path) -> None:
    result = run("convert", good)
    assert result.status == 0
    assert [bundle["type"] for bundle in result.lines] == ["transaction", "transaction"]
    assert sorted(study["numberOfInstances"] for study in resources(result.lines, "ImagingStudy")) == [1, 2]
    assert len(resources(result.lines, "Patient")) == 2
    assert result.stderr.splitlines() == [
        "Standard output is NDJSON: one Bundle per line.",
        "3 instances of 2 studies, 1 other file skipped",
    ]


def test_convert_says_nothing_when_there_is_nothing_to_say(run: Run, good: Path) -> None:
    result = run("convert", good / "b" / "x")
    assert (result.status, result.stderr) == (0, "")


def test_convert_says_once_what_the_version_has_no_element_for(run: Run, good: Path) -> None:
    result = run("convert", good, "--fhir", "STU3")
    assert result.status == 0
    said = [line for line in result.stderr.splitlines() if line.startswith("STU3 has no ")]
    assert "STU3 has no element for location (2 studies)" in said
    assert len(set(said)) == len(said)
    explained = json.loads(run("explain", good / "b" / "x", "--fhir", "STU3", "--json").stdout)
    texts = [note["text"] for note in explained["notes"] if note["level"] == "version"]
    assert texts.count("STU3 has no element for location") == 1


def test_convert_names_what_it_cannot_read_and_goes_on(run: Run, folder: Path) -> None:
    result = run("convert", folder / "gone.dcm", folder / "notes.txt", folder)
    assert result.status == 1
    assert sorted(study["numberOfInstances"] for study in resources(result.lines, "ImagingStudy")) == [1, 2]
    told = dict(line.split(": ", 1) for line in result.stderr.splitlines()[:-2])
    assert told.keys() == {str(folder / name) for name in ("gone.dcm", "notes.txt", "cut.dcm")}
    assert told[str(folder / "gone.dcm")] == "No such file or directory"
    assert told[str(folder / "notes.txt")] == "Not a DICOM data set."
    assert "(0020,000E)" in told[str(folder / "cut.dcm")]
    assert result.stderr.endswith("3 instances of 2 studies, 1 other file skipped, 3 problems\n")


def test_convert_counts_an_instance_once_however_many_files_hold_it(run: Run, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    result = run("convert", good, tmp_path / "copy", "-o", tmp_path / "out")
    assert result.stderr.startswith("3 instances of 2 studies, 2 other files skipped; written to ")


ODD_NAMES = [
    b"new\nline",
    b"carriage\rreturn",
    b"escape\x1b[31m",
    b"next\xc2\x85line",
    b"separator\xe2\x80\xa8",
    b"caf\xe9",
]


@pytest.fixture
def oddly_named(folder: Path, tmp_path: Path) -> Path:
    """Damaged files whose names hold what would break a line."""
    made = tmp_path / "new\nfolder"
    made.mkdir()
    for name in ODD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(made), name))).write_bytes((folder / "cut.dcm").read_bytes())
    return made


def assert_one_line_each(text: str) -> None:
    lines = [line for line in text.splitlines() if "(0020,000E)" in line]
    assert len(lines) == len(ODD_NAMES)
    assert all("new\\nfolder" in line and line.isprintable() for line in lines)


def test_a_file_name_stays_on_one_line(run: Run, oddly_named: Path, tmp_path: Path) -> None:
    assert_one_line_each(run("convert", oddly_named).stderr)
    state = ("--state-dir", tmp_path / "state")
    assert_one_line_each(run("backfill", *state, oddly_named).stderr)
    status = run("status", *state).stdout.decode()
    assert "new\\nfolder/new\\nline" in status.replace("\n", "")
    assert all(line.isprintable() for line in status.split("\n"))


def test_convert_of_nothing_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("convert", tmp_path / "empty")
    assert (result.status, result.stdout) == (1, b"")
    assert "no SOP instance found" in result.stderr


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_convert_reads_zip_archives(run: Run, good: Path, tmp_path: Path, way: str) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(good.rglob("*")):
            made.write(path, path.relative_to(good))
    result = run("convert", archive) if way == "file" else run("convert", "-", stdin=archive.read_bytes())
    assert result.status == 0
    assert result.lines == run("convert", good).lines


def test_convert_says_that_a_zip_archive_is_not_whole(run: Run, good: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(good, "one.dcm")
    archive.write_bytes(archive.read_bytes()[:-30])
    result = run("convert", archive)
    assert result.status == 1
    assert "damaged or incomplete" in result.stderr


def test_convert_says_once_that_a_zip_archive_is_encrypted(run: Run, good: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(5):
            made.write(good / "b" / "x", f"x{number}")
    data = bytearray(archive.read_bytes())
    encrypted, unknown = [m.start() for m in re.finditer(rb"PK\x01\x02", data)][:2], data.rindex(b"PK\x01\x02")
    for at in encrypted:
        data[at + 8] |= 1  # general purpose bit 0
    data[unknown + 10] = 93  # compression method: Zstandard
    archive.write_bytes(data)
    result = run("convert", archive)
    assert (result.status, len(result.lines)) == (1, 1)
    told = result.stderr.splitlines()
    assert told[0].startswith(f"{archive}: 2 files of the archive cannot be read: encrypted")
    assert told[1].startswith(f"{archive}: 1 file of the archive cannot be read: compression method 93")
    assert told[2:] == ["1 instance of 1 study, 2 problems"]


def test_convert_names_the_bad_member_of_a_zip_archive(run: Run, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(folder / "cut.dcm", "deep/cut.dcm")
        made.write(folder / "b" / "x", "deep/x")
    result = run("convert", archive)
    assert (result.status, len(result.lines)) == (1, 1)
    assert result.stderr.startswith(f"{archive}:deep/cut.dcm: ")


def test_convert_reads_a_file_from_stdin(run: Run, good: Path) -> None:
    file = good / "b" / "x"
    result = run("convert", "-", stdin=file.read_bytes())
    assert result.status == 0
    assert result.lines == run("convert", file).lines


def test_convert_writes_one_file_for_each_study(run: Run, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = run("convert", good, "-o", out)
    assert (result.status, result.stdout) == (0, b"")
    assert str(out) in result.stderr
    bundles = {file.stem: json.loads(file.read_bytes()) for file in out.iterdir()}
    studies = resources(list(bundles.values()), "ImagingStudy")
    assert {study["id"] for study in studies} == bundles.keys()
    assert len(studies) == 2


def test_convert_as_resources_is_bulk_data(run: Run, good: Path) -> None:
    result = run("convert", good, "--as", "resources")
    assert result.status == 0
    kinds = [resource["resourceType"] for resource in result.lines]
    assert sorted(kinds) == ["ImagingStudy", "ImagingStudy", "Patient", "Patient"]
    patients = {f"Patient/{one['id']}" for one in result.lines if one["resourceType"] == "Patient"}
    assert {one["subject"]["reference"] for one in result.lines if one["resourceType"] == "ImagingStudy"} == patients


def test_convert_only_links_the_patient_where_asked(run: Run, good: Path) -> None:
    bundles = run("convert", good, "--patient", "link").lines
    assert resources(bundles, "Patient") == []
    assert all("identifier" in study["subject"] for study in resources(bundles, "ImagingStudy"))


@pytest.mark.parametrize("version", ["R4", "R4B", "R5"])
def test_convert_speaks_the_version_that_it_is_told(run: Run, good: Path, version: str) -> None:
    (study,) = resources(run("convert", "--fhir", version, good / "b" / "x").lines, "ImagingStudy")
    assert ("coding" in study["modality"][0]) == (version == "R5")


def test_convert_to_a_folder_that_cannot_be_is_an_io_error(run: Run, good: Path) -> None:
    result = run("convert", good, "-o", good / "notes.txt" / "out")
    assert result.status == 74
    assert "notes.txt" in result.stderr


def test_convert_takes_names_that_are_no_text(run: Run, good: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"[red]\xff\x1b[2J.dcm")
    odd.write_bytes((good / "notes.txt").read_bytes())
    result = run("convert", odd)
    assert result.status == 1
    assert "[red]" in result.stderr
    assert "\x1b" not in result.stderr


def test_convert_on_a_terminal_shows_its_progress_on_stderr_only(good: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, 80))
        command = [sys.executable, "-m", "dicom2fhir", "convert", str(good)]
        env = {**environment(), "TERM": "xterm"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, env=env, check=True, timeout=60)
        shown = os.read(ours, 1 << 20).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 2
    assert "mapping" in shown
    assert "3 instances of 2 studies" in shown


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    for made in ct_instances(60, studies=60):
        (tmp_path / made.sop_instance).write_bytes(made.file)
    command = [sys.executable, "-m", "dicom2fhir", "convert", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


# status, retry


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A store with a study that was delivered, one that was refused, and something that was rejected."""
    folder = tmp_path / "state"
    store = SqliteStore(folder / "store.db", quiet_period_s=0, min_free_bytes=0, reader=fingerprint())
    try:
        store.set_destinations(["main"])
        for made in ct_instances(3, studies=2):
            origin = Origin("dimse", calling_ae="CT1", peer="10.0.0.7")
            store.add(
                decode_instance(
                    Received(scan(made.header, made.transfer_syntax, WANTED), made.transfer_syntax, origin)
                ),
                origin,
            )
        first, second = claimed(store, "main", "me", 60), claimed(store, "main", "me", 60)
        assert first is not None
        assert second is not None
        delivered(store, first, first.revision, b"")
        store.refuse(second, second.revision, "HAPI-0821: [no]\nsuch \x1b[2Jprofile")
        store.reject(Rejection(1_700_000_000.0, Origin("folder", path="/in/[bold]x\x1b[2J.dcm"), "Not good."))
    finally:
        store.close()
    return folder


def test_status_as_json(run: Run, state_dir: Path) -> None:
    result = run("status", "--json", "--state-dir", state_dir)
    assert result.status == 0
    stats = result.json["stats"]
    assert [stats[key] for key in ("studies", "instances", "delivered", "refused", "rejected")] == [2, 3, 1, 1, 1]
    assert sorted(study["deliveries"][0]["state"] for study in result.json["studies"]) == ["delivered", "refused"]
    assert result.json["rejections"][0]["at"] == "2023-11-14T22:13:20+00:00"
    assert result.json["rejections"][0]["reason"] == "Not good."

    (refused,) = run("status", "--json", "--state", "refused", "--state-dir", state_dir).json["studies"]
    assert run("status", "--json", refused["study_uid"], "--state-dir", state_dir).json == {
        "store": str(state_dir / "store.db"),
        **refused,
        "without_content": 0,  # is not counted for a list
    }


def test_status_for_people_fits_80_columns_and_hurts_no_terminal(run: Run, state_dir: Path) -> None:
    result = run("status", "--state-dir", state_dir)
    assert result.status == 0
    text = result.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    for study in run("status", "--json", "--state-dir", state_dir).json["studies"]:
        assert f"\n{study['study_uid']}\n" in text
    assert "HAPI-0821: [no]" in text
    assert "/in/[bold]x\\x1b[2J.dcm" in text
    assert "\x1b" not in text


def test_status_of_an_unknown_study(run: Run, state_dir: Path) -> None:
    result = run("status", "1.2.3", "--state-dir", state_dir)
    assert (result.status, result.stdout) == (1, b"")
    assert "there is no study with this UID or Accession Number in " in result.stderr


def test_status_of_a_study_that_the_store_has_forgotten_says_so(run: Run, state_dir: Path) -> None:
    (uid,) = (
        study["study_uid"]
        for study in run("status", "--json", "--state-dir", state_dir).json["studies"]
        if study["deliveries"][0]["state"] == "delivered"
    )
    store = SqliteStore(state_dir / "store.db", min_free_bytes=0)
    try:
        assert store.forget_delivered(1e-6) == [uid]
    finally:
        store.close()
    told = run("status", uid, "--state-dir", state_dir)
    assert (told.status, told.stdout.decode().split(" on ")[0]) == (0, f"{uid} was forgotten")
    assert run("status", uid, "--json", "--state-dir", state_dir).json["forgotten_at"]
    assert run("retry", uid, "--state-dir", state_dir).status == 1


def test_retry_makes_refused_studies_due(run: Run, state_dir: Path) -> None:
    assert run("retry", "--all", "--state-dir", state_dir).stdout == b"1 delivery is due now\n"
    assert run("status", "--json", "--state-dir", state_dir).json["stats"]["refused"] == 0

    studies = [study["study_uid"] for study in run("status", "--json", "--state-dir", state_dir).json["studies"]]
    assert run("retry", *studies, "--state-dir", state_dir).stdout == b"2 deliveries are due now\n"
    assert run("status", "--json", "--state-dir", state_dir).json["stats"]["waiting"] == 2


def test_retry_of_what_is_not_there_fails(run: Run, state_dir: Path) -> None:
    result = run("retry", "1.2.3", "--state-dir", state_dir)
    assert (result.status, result.stdout) == (1, b"")
    assert "Error: there is no study 1.2.3 in " in result.stderr
    before = run("status", "--json", "--state-dir", state_dir).json["studies"]
    studies = [study["study_uid"] for study in before]
    for asked in ([*studies, "1.2.3"], [*studies, "--destination", "mian"], ["--all", "--destination", "mian"]):
        assert run("retry", *asked, "--state-dir", state_dir).status == 1
    assert (
        "there is no destination mian in "
        in run("retry", "--all", "--destination", "mian", "--state-dir", state_dir).stderr
    )
    assert run("status", "--json", "--state-dir", state_dir).json["studies"] == before
    assert run("retry", "--state-dir", state_dir).status == 2
    assert run("retry", "--all", "1.2.3", "--state-dir", state_dir).status == 2


def test_pause_and_resume(run: Run, state_dir: Path) -> None:
    def at(command: str, name: str = "main") -> tuple[int, str, str]:
        done = run(command, name, "--state-dir", state_dir)
        return done.status, done.stdout.decode(), done.stderr

    assert at("pause")[:2] == (0, "main is paused; continue with `dicom2fhir resume main`\n")
    assert at("pause")[1] == "main was paused already; continue with `dicom2fhir resume main`\n"
    status = run("status", "--json", "--state-dir", state_dir).json
    assert status["destinations"][0]["paused_at"]
    assert any("continue with `dicom2fhir resume main`" in line for line in status["attention"])
    assert "paused since" in run("status", "--state-dir", state_dir).stdout.decode()
    assert at("resume")[:2] == (0, "main is no longer paused\n")
    assert at("resume")[1] == "main was not paused\n"
    assert run("status", "--json", "--state-dir", state_dir).json["destinations"][0]["paused_at"] is None
    for command in ("pause", "resume"):
        code, _, told = at(command, "mian")
        assert code == 1 and "there is no destination mian in " in told and "known: main" in told


def test_store_backup_and_restore(run: Run, state_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "monday.db"
    made = run("store", "backup", copy, "--state-dir", state_dir)
    assert made.status == 0
    assert made.stdout.startswith(f"{state_dir / 'store.db'} was copied to {copy}; ".encode())
    again = run("store", "backup", copy, "--state-dir", state_dir)
    assert (again.status, "exists already" in again.stderr) == (78, True)
    before = run("status", "--json", "--state-dir", state_dir).json["studies"]
    assert run("forget", before[0]["study_uid"], "--yes", "--state-dir", state_dir).status == 0
    restored = run("store", "restore", copy, "--yes", "--state-dir", state_dir)
    assert restored.status == 0 and b"The store before it is " in restored.stdout
    assert run("status", "--json", "--state-dir", state_dir).json["studies"] == before
    store = SqliteStore(state_dir / "store.db", min_free_bytes=0)
    try:
        refused = run("store", "restore", copy, "--yes", "--state-dir", state_dir)
        assert refused.status == 74 and "is using the store" in refused.stderr
    finally:
        store.close()


def test_status_tells_what_was_made_with_another_mapping_and_retry_sends_it_anew(run: Run, state_dir: Path) -> None:
    assert run("status", "--json", "--state-dir", state_dir).json["destinations"] == [
        {"name": "main", "mapping": "", "other_mappings": {}, "paused_at": None}
    ]
    store = SqliteStore.attach(state_dir / "store.db")
    store.set_mapping_fingerprint("main", "R4 osiris@1f0c9a2b")
    store.close()
    assert run("status", "--json", "--state-dir", state_dir).json["destinations"] == [
        {"name": "main", "mapping": "R4 osiris@1f0c9a2b", "other_mappings": {"": 1}, "paused_at": None}
    ]
    remap = "dicom2fhir retry --all --remap --destination main"
    text = run("status", "--state-dir", state_dir).stdout.decode()
    assert "1 delivery was made with another mapping: 1 with an unknown one" in " ".join(text.split())
    assert remap in text
    assert max(map(len, text.splitlines())) <= 80

    assert run("retry", "--remap", "--state-dir", state_dir).status == 2
    assert run("retry", "1.2.3", "--remap", "--state-dir", state_dir).status == 2
    assert run(*remap.split()[1:], "--state-dir", state_dir).stdout == b"2 deliveries are due now\n"
    after = run("status", "--json", "--state-dir", state_dir).json
    assert (after["stats"]["waiting"], after["destinations"][0]["other_mappings"]) == (2, {})
    assert remap not in run("status", "--state-dir", state_dir).stdout.decode()


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"]])
def test_without_a_store(run: Run, tmp_path: Path, command: list[str]) -> None:
    result = run(*command, "--state-dir", tmp_path / "nowhere")
    assert (result.status, result.stdout) == (74, b"")
    assert str(tmp_path / "nowhere") in result.stderr
    assert not (tmp_path / "nowhere").exists()


# explain


def test_explain_as_json(run: Run, good: Path) -> None:
    result = run("explain", good / "b" / "x", "--json")
    assert result.status == 0
    elements = {element["element"]: element for element in result.json["elements"]}
    assert elements["description"]["given"] == ["StudyDescription"]
    assert elements["description"]["value"] == "Synthetic study other"
    assert "reasonCode" in elements
    assert "reason" in {
        e["element"] for e in run("explain", good / "b" / "x", "--json", "--fhir", "R5").json["elements"]
    }


def test_explain_for_people_breaks_no_keyword_and_no_uid_at_80_columns(run: Run, good: Path) -> None:
    result = run("explain", good / "b" / "x")
    assert result.status == 0
    text = result.stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    words = set(text.replace(",", " ").split())
    assert {
        "PhysiciansReadingStudyIdentificationSequence",
        f"urn:oid:{make_uid('other')}",
        make_uid("other", 1),
    } <= words


def test_explain_shows_what_was_dropped(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "odd.dcm", study="odd", PatientBirthDate="19640231")
    (note,) = (n for n in run("explain", file, "--json").json["notes"] if n["where"] == "PatientBirthDate")
    assert note["level"] == "warning"
    text = " ".join(run("explain", file).stdout.decode().split())
    assert f"PatientBirthDate {note['text']}" in text


def test_explain_of_something_else(run: Run, good: Path) -> None:
    assert run("explain", good / "notes.txt").status == 1
    assert run("explain", good / "gone.dcm").status == 2


# check-config


def config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_check_config_names_the_key_and_the_value(run: Run, tmp_path: Path) -> None:
    result = run("check-config", "--config", config(tmp_path / "c.toml", "[receiver]\nport = 70000\nprot = 1\n"))
    assert (result.status, result.stdout) == (78, b"")
    assert "receiver.port = 70000" in result.stderr
    assert "receiver.prot" in result.stderr


def test_check_config_misses_a_way_out_as_serve_does(run: Run, tmp_path: Path) -> None:
    result = run("check-config", "--config", config(tmp_path / "c.toml", "[receiver]\nport = 0\n"))
    assert result.status == 78
    assert "no output is configured" in result.stderr


def test_check_config_without_the_server(run: Run, tmp_path: Path) -> None:
    file = config(tmp_path / "c.toml", f'[destinations.main]\nurl = "{NOBODY}"\n')
    assert run("check-config", "--config", file).status == 0
    result = run("check-config", "--config", file, "--online")
    assert result.status == 69
    assert NOBODY in result.stdout.decode()
    plans = run("check-config", "--config", file, "--online", "--json")
    assert plans.status == 69
    assert plans.json["destinations"][0]["error"]


class Guarded(ScriptedServer):
    """Has ``/metadata`` for everybody, and one status for every search."""

    search = 200

    def get(self, path: str) -> tuple[int, Resource]:
        if "?" not in path or self.search == 200:
            return super().get(path)
        issue = {"severity": "error", "code": "login", "diagnostics": "your token has expired"}
        return self.search, {"resourceType": "OperationOutcome", "issue": [issue]}


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    server = Guarded()
    yield server
    server.close()


@pytest.mark.parametrize("status", [401, 403, 500])
def test_check_config_finds_that_the_server_does_not_let_us_in(
    run: Run, tmp_path: Path, guarded: Guarded, status: int
) -> None:
    guarded.search = status
    file = config(tmp_path / "c.toml", f'[destinations.main]\nurl = "{guarded.url}"\n')
    result = run("check-config", "--config", file, "--online", "--json")
    (plan,) = result.json["destinations"]
    assert (result.status, plan["version"]) == (69, "R4")
    assert f"HTTP {status}: " in plan["error"] and plan["error"].endswith(
        "; the server says: error: your token has expired"
    )
    words = " ".join(run("check-config", "--config", file, "--online").stdout.decode().split())
    assert f"HTTP {status}" in words


@pytest.mark.parametrize("status", [200, 400, 422])
def test_check_config_asks_for_no_more_than_to_be_known(
    run: Run, tmp_path: Path, guarded: Guarded, status: int
) -> None:
    guarded.search = status
    file = config(tmp_path / "c.toml", f'[destinations.main]\nurl = "{guarded.url}"\n')
    assert run("check-config", "--config", file, "--online").status == 0


@pytest.mark.parametrize(("version", "name"), [("r4", "R4"), ("r5", "R5")])
def test_check_config_says_what_the_server_is(
    run: Run, hapi: Callable[[str], str], tmp_path: Path, version: str, name: str
) -> None:
    file = config(tmp_path / "c.toml", f'[destinations.main]\nurl = "{hapi(version)}"\n')
    result = run("check-config", "--config", file, "--online", "--json")
    assert result.status == 0
    (plan,) = result.json["destinations"]
    assert (plan["version"], plan["error"], plan["ids"]) == (name, "", "ours unless refused")
    assert "HAPI" in plan["server"]
    assert "HAPI" in run("check-config", "--config", file, "--online").stdout.decode()


# echo


@pytest.fixture
def receiver() -> Iterator[tuple[str, int]]:
    scp = StorageSCP(
        Listen(port=0),
        on_received=lambda *_: None,
        on_created=lambda _: None,
        on_set=lambda _: None,
        on_rejected=lambda *_: None,
        on_association_ended=lambda _: None,
    )
    scp.start()
    yield scp.address
    scp.stop(10)


def test_echo(run: Run, receiver: tuple[str, int]) -> None:
    host, port = receiver
    done = run("echo", "--host", host, "--port", str(port))
    assert (done.status, done.stderr) == (0, "")
    assert f"DICOM2FHIR at {host}:{port} responded in " in done.stdout.decode()

    done = run("echo", "--port", str(port), "--called-ae", "SOMEONE")
    assert (done.status, done.stdout) == (69, b"")
    assert "SOMEONE" in done.stderr
    assert "--called-ae" in done.stderr


def test_echo_to_nobody(run: Run, free_port: int) -> None:
    done = run("echo", "--port", str(free_port))
    assert (done.status, done.stdout) == (69, b"")
    (said,) = done.stderr.splitlines()
    assert "connection refused; check that it is running" in said


# serve


@pytest.mark.parametrize(
    ("flags", "status", "named"),
    [
        (["--bogus"], 2, "--bogus"),
        (["--port", "many"], 2, "--port"),
        (["--port", "70000"], 78, "receiver.port = 70000"),
        (["--fhir-url", "nowhere"], 78, "destinations.server.url"),
        (["--fhir-url", NOBODY, "--fhir-version", "R9"], 78, "fhir.version"),
        (["--host", "0.0.0.0", "--fhir-url", NOBODY], 78, "networks"),
        (["--config", "/nowhere/c.toml"], 78, "/nowhere/c.toml"),
        ([], 78, "destinations"),
    ],
)
def test_serve_with_unusable_flags(run: Run, tmp_path: Path, flags: list[str], status: int, named: str) -> None:
    result = run("serve", "--state-dir", tmp_path / "state", *flags)
    assert (result.status, result.stdout) == (status, b"")
    assert named in result.stderr
    assert not (tmp_path / "state").exists()


def test_serve_where_somebody_listens_already(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run_command(
            *("serve", "--port", str(port), "--state-dir", tmp_path / "state", "--output-dir", tmp_path / "out")
        )
    assert (done.returncode, done.stdout) == (74, b"")
    assert str(port) in done.stderr.decode().splitlines()[-1]


# the program


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout.decode().split()[-1] == __version__
    text = run("--help").stdout.decode()
    for command in ("serve", "convert", "demo", "check-config", "status", "retry", "explain", "echo"):
        assert command in text
        assert run(command, "--help").status == 0


def test_unknown_commands_and_options_are_wrong_usage(run: Run) -> None:
    for arguments in (["bogus"], ["--bogus"], ["convert"], ["status", "--bogus"]):
        result = run(*arguments)
        assert (result.status, result.stdout) == (2, b"")


def test_demo_ends_by_itself_and_leaves_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "theirs.json").write_text("[]")
    done = run_command("demo", "--output-dir", out)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode()
    assert '"resourceType": "ImagingStudy"' in said
    assert str(out) in said
    studies = [json.loads(file.read_bytes()) for file in out.iterdir() if file.name != "theirs.json"]
    assert len(studies) >= 7
    assert all(bundle["type"] == "transaction" for bundle in studies)


# What is loaded -------------------------------------------------------------------------------------------------------

RUN_AND_TELL = """
import json, sys
from dicom2fhir import cli

try:
    cli.main()
except SystemExit as ended:
    print(json.dumps([ended.code, *sys.modules]))
"""


def test_convert_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    file, out = write(tmp_path / "a.dcm"), tmp_path / "out"
    command = [sys.executable, "-c", RUN_AND_TELL, "convert", str(file), "-o", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=True)
    status, *loaded = json.loads(done.stdout)
    assert status == 0
    for package in (
        "asyncio",
        "fhir.resources",
        "pydantic_settings",
        "pynetdicom",
        "requests",
        "rich",
        "sqlite3",
        "structlog",
    ):
        assert package not in loaded


def test_the_version_loads_no_settings() -> None:
    command = [sys.executable, "-c", RUN_AND_TELL, "--version"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=True)
    status, *loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert not {"pydantic", "dicom2fhir.config", "structlog"} & set(loaded)


# FHIR versions by any of their names


@pytest.mark.parametrize(
    ("said", "name"),
    [("r4", "R4"), ("4.0", "R4"), ("r4b", "R4B"), ("3.0.2", "STU3"), ("dstu2", "DSTU2"), ("6.0.0-ballot3", "R6")],
)
def test_a_version_is_known_by_name_and_number(run: Run, good: Path, said: str, name: str) -> None:
    file = good / "b" / "x"
    assert run("convert", "--fhir", said, file).stdout == run("convert", "--fhir", name, file).stdout
    assert (
        run("explain", "--json", "--fhir", said, file).stdout == run("explain", "--json", "--fhir", name, file).stdout
    )


@pytest.mark.parametrize("said", ["4", "R7", "4.0.x", "6.0.0", "6.0.0-ballot9", "5.0.0-ballot", "4.0.1.1"])
def test_a_version_that_nobody_knows_is_wrong_usage(run: Run, good: Path, said: str) -> None:
    assert run("convert", "--fhir", said, good / "b" / "x").status == 2
