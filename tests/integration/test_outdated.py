"""Files that an earlier version read: what an upgrade says of them, and reading them again.

The earlier version is this one with another READER_REVISION and another rule (``tests.earlier``), in processes of its
own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.command_line import run_here
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, folder_to_files, run_command, wait_until
from tests.integration.test_one_bad_file import CONFIG

EARLIER = "tests.earlier"
STUDIES = [make_uid(name) for name in "ab"]


@pytest.fixture
def place(tmp_path: Path) -> tuple[str | Path, ...]:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG + "[destinations.files]\ntype = 'file'\ndirectory = '/nowhere'\n")
    return "--config", config, "--state-dir", tmp_path / "state"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in "ab":
        for number in (1, 2):
            file = folder / f"{name}{number}.dcm"
            instance("CT", name, 1, number).save_as(file, enforce_file_format=True)
    (folder / "c.txt").write_bytes(b"Not DICOM.\n" * 20)
    instance("CT", "d", StudyInstanceUID=None).save_as(folder / "d.dcm", enforce_file_format=True)
    return folder


def backfill(place: tuple[str | Path, ...], *arguments: str | Path, module: str = "dicom2fhir") -> dict[str, Any]:
    command = ("backfill", "--json", "--workers", "1", *place, *arguments)
    if module == EARLIER:
        done = run_command(*command, module=module)
        status, stdout = done.returncode, done.stdout
    else:
        here = run_here(*command)
        status, stdout = here.status, here.stdout
    assert status == 1  # one file is refused
    summary: dict[str, Any] = json.loads(stdout)
    return {name: summary[name] for name in ("done_before", "outdated", "taken", "unchanged", "skipped", "failed")}


def outdated(place: tuple[str | Path, ...]) -> list[str]:
    found = run_here("status", "--outdated", "--json", *place).json
    assert found["outdated"] == len(found["studies"])
    return sorted(found["studies"])


def test_an_upgrade_says_what_wants_to_be_read_again(place: tuple[str | Path, ...], archive: Path) -> None:
    first = backfill(place, archive, module=EARLIER)
    assert first == {"done_before": 0, "outdated": 0, "taken": 4, "unchanged": 0, "skipped": 1, "failed": 1}
    assert outdated(place) == sorted(STUDIES)
    told = run_here("retry", "--all", "--remap", *place).stdout.decode()
    assert "2 studies were read by another version" in told
    assert all(uid in told for uid in STUDIES)
    # what was not taken is tried again by itself, what was taken is not
    second = backfill(place, archive)
    assert second == {"done_before": 4, "outdated": 4, "taken": 0, "unchanged": 0, "skipped": 1, "failed": 1}
    third = backfill(place, archive)
    assert third == {"done_before": 5, "outdated": 4, "taken": 0, "unchanged": 0, "skipped": 0, "failed": 1}
    assert "--again reads all files again" in run_here("backfill", *place, archive).stderr
    # a study is up to date when the last of its files was read
    elsewhere = archive.parent / "part"
    elsewhere.mkdir()
    for name in ("a1.dcm", "a2.dcm", "b1.dcm"):
        shutil.copy(archive / name, elsewhere / name)
    assert run_here("backfill", "--json", "--workers", "1", *place, elsewhere).json["unchanged"] == 3
    assert outdated(place) == STUDIES[1:]
    again = backfill(place, archive, "--again")
    assert again == {"done_before": 0, "outdated": 0, "taken": 4, "unchanged": 4, "skipped": 1, "failed": 1}
    assert outdated(place) == []
    assert "another version" not in run_here("retry", "--all", "--remap", *place).stdout.decode()
    assert backfill(place, archive)["outdated"] == 0


@pytest.fixture
def folder_daemon(tmp_path: Path) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """The same daemon in the earlier version and in this one."""
    settings = folder_to_files(tmp_path)
    earlier = DaemonProcess(tmp_path / "earlier", (), settings, module=EARLIER)
    later = DaemonProcess(tmp_path / "later", (), settings)
    later.state_dir, later.store_path = earlier.state_dir, earlier.store_path
    yield earlier, later
    earlier.clean_up()
    later.clean_up()


def test_a_watched_folder_tries_again_what_an_earlier_version_refused(
    folder_daemon: tuple[DaemonProcess, DaemonProcess], archive: Path, tmp_path: Path
) -> None:
    earlier, later = folder_daemon
    earlier.start()
    for file in archive.iterdir():
        shutil.copy(file, tmp_path / "inbox" / file.name)
    earlier.holds(4)
    wait_until(lambda: earlier.status()["stats"]["rejected"] == 1, SETTLES_WITHIN_S, "one is refused")
    assert earlier.terminate() == 0
    later.start()
    wait_until(lambda: later.status()["stats"]["rejected"] == 2, SETTLES_WITHIN_S, "it is tried again")
    assert later.status()["stats"]["outdated"] == 2


def test_what_an_earlier_version_wrote_is_told_and_written_anew(
    folder_daemon: tuple[DaemonProcess, DaemonProcess], tmp_path: Path
) -> None:
    earlier, later = folder_daemon
    earlier.start()
    instance("CT", "e", BodyPartExamined="CHEST").save_as(tmp_path / "inbox" / "e.dcm", enforce_file_format=True)
    earlier.holds(1)
    earlier.settled()
    assert earlier.terminate() == 0
    assert body_sites(tmp_path) == [None]
    later.start()
    (destination,) = later.status()["destinations"]
    assert list(destination["other_mappings"].values()) == [1]
    assert body_sites(tmp_path) == [None]
    run_here("retry", "--all", "--remap", "--state-dir", later.state_dir)
    later.settled()
    assert body_sites(tmp_path) == ["Chest"]
    assert later.status()["destinations"][0]["other_mappings"] == {}


def body_sites(folder: Path) -> list[str | None]:
    """Of the one series in each file of a destination."""
    studies = [json.loads(file.read_text())["entry"][0]["resource"] for file in (folder / "out").glob("*.json")]
    return [study["series"][0].get("bodySite", {}).get("display") for study in studies]
