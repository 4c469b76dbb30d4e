"""A daemon whose store is damaged, as its operator sees it."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom2fhir.synthetic import instance, make_uid
from tests.daemon_process import ROOT, DaemonProcess, environment, run_command
from tests.integration.test_one_bad_file import send
from tests.integration.test_upkeep_commands import STUDY, of

DAMAGE = {
    "cut": "UPDATE instance SET body = substr(body, 1, length(body) - 1) WHERE study_id = :study",
    "other JSON": "UPDATE instance SET body = CAST('[1]' AS BLOB) WHERE study_id = :study",
    "number": "UPDATE instance SET body = 7 WHERE study_id = :study",
    "not UTF-8": "UPDATE instance SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE study_id = :study",
    "shared": "UPDATE attrs SET body = CAST('{' AS BLOB) WHERE study_id = :study",
    "shared is a list": "UPDATE attrs SET body = CAST('[]' AS BLOB) WHERE study_id = :study",
    "no shared rows": "DELETE FROM attrs WHERE study_id = :study",
    "no series": "DELETE FROM series WHERE study_id = :study",
    "series not UTF-8": "UPDATE series SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE study_id = :study",
    "notes": "UPDATE instance SET notes = CAST('[[1]]' AS BLOB) WHERE study_id = :study",
    "study not UTF-8": "UPDATE study SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE id = :study",
}
"""What happens to the rows of a study of this name."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    settings = f"[destinations.files]\ntype = 'file'\ndirectory = '{tmp_path / 'out'}'\n"
    made = DaemonProcess(tmp_path / "daemon", ("--quiet-period", "0"), settings)
    yield made
    made.clean_up()


def test_a_study_whose_rows_are_damaged_is_refused_and_the_others_go_on(daemon: DaemonProcess) -> None:
    daemon.start()
    studies = [make_uid(name) for name in DAMAGE]
    assert send(daemon, *(instance("CT", name) for name in (*DAMAGE, "good"))) == [0] * (len(DAMAGE) + 1)
    daemon.settled()
    assert daemon.terminate() == 0
    with closing(sqlite3.connect(daemon.store_path)) as connection:
        for change, study in zip(DAMAGE.values(), studies, strict=True):
            (number,) = connection.execute("SELECT id FROM study WHERE uid = ?", [study]).fetchone()
            connection.execute(change, {"study": number})
        connection.execute("UPDATE delivery SET state = 'waiting', due_at = 0")
        connection.commit()
    daemon.start()
    stats = daemon.settled()
    assert (stats.refused, stats.delivered) == (len(DAMAGE), 1)
    reasons = [one.deliveries[0].reason for one in daemon.studies().values() if one.deliveries[0].reason]
    assert len(reasons) == len(DAMAGE)
    assert "Secret" not in daemon.log_path.read_text(errors="replace") + "".join(reasons)
    assert daemon.status()["daemon"]["running"]


def test_a_daemon_whose_store_is_taken_away_ends_and_says_why(daemon: DaemonProcess) -> None:
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    daemon.store_path.unlink()
    assert daemon.ended() == 74
    assert f"{daemon.store_path} was removed or replaced" in daemon.end_of_log()
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert "missing" in damage["reason"]
    assert Path(f"{damage['aside']}-wal").stat().st_size > 0


def typed(daemon: DaemonProcess, archive: Path, backup: Path) -> Iterator[str]:
    """What docs/store-damaged.md has typed, with the places of this test; systemd's part is played by the test."""
    text = (ROOT / "docs" / "store-damaged.md").read_text("utf-8")
    commands = re.findall(r"^ {4,7}(sudo .*)$", text, flags=re.MULTILINE)
    assert len(commands) == 10
    for command in commands:
        line = command.replace("sudo ", "")
        line = line.replace("/var/lib/dicom2fhir", str(daemon.state_dir)).replace("/archive", str(archive))
        line = line.replace("/backup", str(backup))
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
    assert daemon.terminate() == 0
    shutil.copy(daemon.store_path, backup)
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


def test_status_tells_of_a_damage_until_it_is_acknowledged(daemon: DaemonProcess) -> None:
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    assert daemon.terminate() == 0
    daemon.store_path.write_bytes(b"")
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert Path(damage["aside"]).read_bytes() == b""
    place = ("--state-dir", daemon.state_dir)
    told = run_command("status", "--check", "--acknowledge", *place)
    assert told.returncode == 1
    assert "no SQLite header" in " ".join(told.stdout.decode().split())
    assert run_command("status", "--check", *place).returncode == 0
    assert daemon.status()["damages"] == []
    assert send(daemon, of("one", 1)) == [0]
    assert run_command("status", "1.2", "--acknowledge", *place).returncode == 2
