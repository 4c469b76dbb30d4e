"""A daemon whose store is damaged, as its operator sees it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.store.sqlite.late_check import _CHECKED_AT_START_BYTES
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.command_line import run_here
from tests.daemon_process import ROOT, DaemonProcess, environment
from tests.integration.test_interventions import STUDY, of
from tests.integration.test_one_bad_file import send
from tests.store_contract.bench import FOLDER, record

PAGE = 4096


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    settings = f"[destinations.files]\ntype = 'file'\ndirectory = '{tmp_path / 'out'}'\n"
    made = DaemonProcess(tmp_path / "daemon", (), settings)
    yield made
    made.clean_up()


def typed(daemon: DaemonProcess, archive: Path, backup: Path) -> Iterator[str]:
    """What docs/store-damaged.md has typed, with the places of this test; systemd's part is played by the test.

    The copy that is restored was made before the damage.
    """
    text = (ROOT / "docs" / "store-damaged.md").read_text("utf-8")
    commands = re.findall(r"^ {4,7}(sudo .*)$", text, flags=re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        line = command.replace("sudo ", "")
        line = line.replace("/var/lib/dicom2fhir", str(daemon.state_dir)).replace("/archive", str(archive))
        line = line.replace("/backup", str(backup)).replace("store-2026-11-27.db", "before.db")
        program = f"{sys.executable} -m dicom2fhir "
        place = f" --config {daemon.config_path} --state-dir {daemon.state_dir}"
        yield f"{program}{line.removeprefix('dicom2fhir ')}{place}" if line.startswith("dicom2fhir ") else line


def test_the_page_can_be_followed_word_for_word(daemon: DaemonProcess, tmp_path: Path) -> None:
    archive, backup = tmp_path / "archive", tmp_path / "backup"
    archive.mkdir()
    backup.mkdir()
    instance("CT", "two").save_as(archive / "1.dcm", enforce_file_format=True)
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    made = run_here("store", "backup", backup / "before.db", "--state-dir", daemon.state_dir)
    assert made.status == 0
    assert daemon.terminate() == 0
    daemon.store_path.write_bytes(b"")
    daemon.start()
    assert len(daemon.status()["damages"]) == 1
    for line in typed(daemon, archive, backup):
        if line == "systemctl stop dicom2fhir":
            assert set(daemon.studies()) == {make_uid("two")}
            assert daemon.status()["damages"] == []
            assert daemon.terminate() == 0
        elif line == "systemctl start dicom2fhir":
            daemon.start()
        else:
            subprocess.run(["bash", "-c", line], check=True, capture_output=True, cwd=ROOT, env=environment())
    assert set(daemon.studies()) == {STUDY}
    assert daemon.status()["damages"] == []


def fill(daemon: DaemonProcess) -> None:
    """More than is checked at the start."""
    store = SqliteStore(daemon.store_path, min_free_bytes=0, reader=fingerprint())
    try:
        long = "x" * 1_000_000
        for number in range(_CHECKED_AT_START_BYTES // len(long) + 8):
            store.add_many([record(number, study=f"1.{number}", Long=long)], FOLDER)
    finally:
        store.close()
    assert daemon.store_path.stat().st_size > _CHECKED_AT_START_BYTES


def test_a_large_store_is_checked_while_the_daemon_runs(daemon: DaemonProcess) -> None:
    fill(daemon)
    daemon.start()
    daemon.says(("store.checked",))
    assert daemon.status()["damages"] == []
    assert daemon.terminate() == 0
    with daemon.store_path.open("r+b") as file:
        file.seek(_CHECKED_AT_START_BYTES // 2 // PAGE * PAGE)
        file.write(b"\xff" * PAGE)
    begin = daemon.launch()
    assert daemon.ended() == 74
    events = {line["event"]: line for line in daemon.log_lines(begin)}
    assert re.search("damaged|malformed", events["store.failed"]["reason"]), "by the check, or by another reader"
    assert "daemon.started" in events
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert Path(damage["aside"]).stat().st_size > _CHECKED_AT_START_BYTES
    assert send(daemon, of("one", 1)) == [0]


def test_status_tells_of_a_damage_until_it_is_acknowledged(daemon: DaemonProcess) -> None:
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    assert daemon.terminate() == 0
    daemon.store_path.write_bytes(b"")
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert Path(damage["aside"]).read_bytes() == b""
    place = ("--state-dir", daemon.state_dir)
    told = run_here("status", "--check", "--acknowledge", *place)
    assert told.status == 1
    assert "no SQLite header" in " ".join(told.stdout.decode().split())
    assert run_here("status", "--check", *place).status == 0
    assert daemon.status()["damages"] == []
    assert send(daemon, of("one", 1)) == [0]
    assert run_here("status", "1.2", "--acknowledge", *place).status == 2
