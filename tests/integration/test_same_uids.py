"""The same SOP Instance UID in two series of one study, in both orders and on every road."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.command_line import run_here
from tests.daemon_process import DaemonProcess, run_command
from tests.integration.test_one_bad_file import send

UID = make_uid("same", 9, 9)


@pytest.fixture(params=[1, -1], ids=["one after the other", "the other way round"])
def step(request: pytest.FixtureRequest) -> int:
    """In which order the two come."""
    found: int = request.param
    return found


def data_sets(study: str, step: int) -> list[Dataset]:
    return [instance("CT", study, series, 1, SOPInstanceUID=UID) for series in (1, 2)][::step]


def save(folder: Path, study: str, step: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number, made in enumerate(data_sets(study, step)):
        made.save_as(folder / f"{study}-{number}.dcm", enforce_file_format=True)
    return folder


def series_of(bundle: bytes) -> tuple[str, list[tuple[str, list[str]]]]:
    """Study and, of each series, the instances."""
    resource: dict[str, Any] = json.loads(bundle)["entry"][0]["resource"]
    series = [(one["uid"], [each["uid"] for each in one["instance"]]) for one in resource["series"]]
    return resource["identifier"][0]["value"], sorted(series)


def wanted(study: str) -> tuple[str, list[tuple[str, list[str]]]]:
    return f"urn:oid:{make_uid(study)}", sorted((make_uid(study, series), [UID]) for series in (1, 2))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    (tmp_path / "inbox").mkdir()
    settings = f"""
[folders.inbox]
path = "{tmp_path / "inbox"}"
stable_s = 0.1
[destinations.files]
type = "file"
directory = "{tmp_path / "out"}"
"""
    made = DaemonProcess(tmp_path / "daemon", (), settings)
    made.start()
    yield made
    made.clean_up()


def test_converted(step: int, tmp_path: Path) -> None:
    done = run_here("convert", save(tmp_path / "files", "converted", step))
    assert done.status == 0, done.stderr
    assert series_of(done.stdout) == wanted("converted")


def test_sent_found_in_a_folder_and_backfilled(daemon: DaemonProcess, step: int, tmp_path: Path) -> None:
    assert send(daemon, *data_sets("sent", step)) == [0x0000, 0x0000]
    save(tmp_path / "inbox", "found", step)
    archive = save(tmp_path / "archive", "backfilled", step)
    done = run_command("backfill", "--config", daemon.config_path, "--state-dir", daemon.state_dir, archive)
    assert done.returncode == 0, done.stderr.decode()
    daemon.holds(6)
    daemon.settled()
    written = sorted((tmp_path / "out").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    found = dict(series_of(file.read_bytes()) for file in written)  # the newest of each study
    assert found == dict(map(wanted, ("sent", "found", "backfilled")))
