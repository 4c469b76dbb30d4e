"""An exception that nobody foresaw is the fault of one file or study alone, on every road.

The program under test is the real one with mistakes put in (``tests.faulty``), each in processes of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.store.statuses import State
from tests.command_line import run_here
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, folder_to_files, run_command, wait_until

FAULTY = "tests.faulty"
MISTAKES = ("RuntimeError", "RecursionError", "KeyError", "UnicodeError")
NUMBERS = count()
NAME = "Canary^Yellow"
CONFIG = "[store]\nmin_free_bytes = 0\nquiet_period_s = 0\n[fhir]\nvalidation = 'never'\n"


def data_set(description: str) -> Dataset:
    """A study of its own."""
    return instance("CT", str(next(NUMBERS)), StudyDescription=description, PatientName=NAME)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Files that go wrong, in the order of their names before, between and after good ones."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number, description in enumerate(["good", *MISTAKES, "MemoryError", "assemble KeyError", "good"]):
        data_set(description).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def test_convert_goes_on(archive: Path, tmp_path: Path) -> None:
    done = run_command("convert", archive, "-o", tmp_path / "out", module=FAULTY)
    assert done.returncode == 1, done.stderr.decode()
    assert len(list((tmp_path / "out").iterdir())) == 2
    told = done.stderr.decode()
    for number, mistake in enumerate(MISTAKES, start=1):
        assert f"{number}.dcm: The bridge failed: {mistake} at " in told
    assert "not enough memory" in told
    assert "The bridge failed: KeyError at " in told
    assert "Traceback" not in told
    assert "Canary" not in told


@pytest.mark.parametrize("number", range(1, 5))
def test_explain_says_where_it_failed(archive: Path, number: int) -> None:
    done = run_command("explain", archive / f"{number}.dcm", module=FAULTY)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"dicom2fhir: The bridge failed: {MISTAKES[number - 1]} at ")
    assert b"Canary" not in done.stderr + done.stdout


def test_backfill_goes_on_and_status_knows(archive: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    data_set("not to be kept").save_as(archive / "8.dcm", enforce_file_format=True)
    place = ("--config", config, "--state-dir", tmp_path / "state")
    done = run_command("backfill", "--json", "--workers", "2", *place, archive, module=FAULTY)
    assert done.returncode == 1, done.stderr.decode()
    summary = json.loads(done.stdout)
    assert (summary["files"], summary["taken"], summary["failed"]) == (9, 3, 6)
    status: dict[str, Any] = run_here("status", "--json", *place).json
    refused = {Path(one["path"]).name: one for one in status["rejections"]}
    assert refused.pop("8.dcm")["kind"] == "cannot-understand"
    assert sorted(refused) == ["1.dcm", "2.dcm", "3.dcm", "4.dcm"]  # for want of memory a file is tried again
    assert {one["kind"] for one in refused.values()} == {"bridge-fault"}
    assert all(MISTAKES[int(name[0]) - 1] in one["reason"] for name, one in refused.items())
    assert b"Canary" not in done.stderr + done.stdout
    shown = run_here("status", *place).stdout.decode()
    assert "bridge-fault: The bridge failed: " in " ".join(shown.split())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    settings = folder_to_files(tmp_path)
    made = DaemonProcess(tmp_path / "daemon", (), settings, module=FAULTY)
    made.start()
    yield made
    made.clean_up()


def send(daemon: DaemonProcess, *data_sets: Dataset) -> list[int]:
    """Send over one association; the statuses."""
    ae = AE(ae_title="SENDER")
    ae.add_requested_context(data_sets[0].SOPClassUID, data_sets[0].file_meta.TransferSyntaxUID)
    association = ae.associate(*daemon.address, ae_title="DICOM2FHIR")
    assert association.is_established
    statuses = [association.send_c_store(each).Status for each in data_sets]
    association.release()
    return statuses


def test_the_daemon_goes_on_and_status_knows(daemon: DaemonProcess, archive: Path, tmp_path: Path) -> None:
    statuses = send(daemon, *map(data_set, ("good", *MISTAKES, "MemoryError", "good")))
    assert statuses == [0x0000, *[0x0110] * len(MISTAKES), 0xA700, 0x0000]
    for file in archive.iterdir():
        if file.name != "5.dcm":
            file.rename(tmp_path / "inbox" / file.name)

    def refused() -> list[dict[str, Any]]:
        rejections: list[dict[str, Any]] = daemon.status()["rejections"]
        return rejections if len(rejections) == 2 * len(MISTAKES) else []

    found = wait_until(refused, SETTLES_WITHIN_S, "all mistakes are in status")
    assert sorted(one["origin"] for one in found) == ["dimse"] * 4 + ["folder"] * 4
    assert {one["kind"] for one in found} == {"bridge-fault"}
    daemon.settled()
    states = {study["study_uid"]: study["deliveries"][0] for study in daemon.status()["studies"]}
    assert sorted(one["state"] for one in states.values()) == [State.DELIVERED] * 4 + [State.REFUSED]
    (reason,) = [one["reason"] for one in states.values() if one["state"] == State.REFUSED]
    assert reason.startswith("The bridge failed: KeyError at ")
    assert "Canary" not in daemon.log_path.read_text()
    rejected = [line for line in daemon.log_lines() if line["event"] == "instance.rejected"]
    assert len(rejected) == 2 * len(MISTAKES)
    assert all(line["kind"] == "bridge-fault" and line["level"] == "error" and line["frames"] for line in rejected)
