"""``settle`` and ``forget`` as commands, beside a daemon that runs and delivers."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.command_line import run_here
from tests.daemon_process import ROOT, SETTLES_WITHIN_S, DaemonProcess, environment, wait_until
from tests.integration.test_one_bad_file import send

STUDY = make_uid("s")
RIGHT, WRONG, THIRD = "Canary-1", "Finch-2", "Robin-3"


def of(patient: str, number: int) -> Dataset:
    return instance("CT", "s", 1, number, PatientID=patient, PatientName=f"Name^{patient}")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    settings = f"[destinations.files]\ntype = 'file'\ndirectory = '{tmp_path / 'out'}'\n"
    made = DaemonProcess(tmp_path / "daemon", (), settings)
    made.start()
    yield made
    made.clean_up()


class Commands:
    """What is given at the command line beside a daemon."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.place = ("--config", daemon.config_path, "--state-dir", daemon.state_dir)

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = run_here(arguments[0], *self.place, *arguments[1:])
        assert done.status == status, done.stderr
        return done.stdout.decode() if status == 0 else done.stderr


def newest(folder: Path) -> dict[str, Any]:
    written = max(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    found: dict[str, Any] = json.loads(written.read_bytes())
    return found


def state(daemon: DaemonProcess) -> str:
    (delivery,) = daemon.studies()[STUDY].deliveries
    return str(delivery.state)


def test_a_conflict_is_settled_and_the_study_delivered(daemon: DaemonProcess, tmp_path: Path) -> None:
    run = Commands(daemon)
    send(daemon, of(RIGHT, 1), of(WRONG, 2), of(WRONG, 3))
    wait_until(lambda: state(daemon) == "refused", SETTLES_WITHIN_S, "the conflict is refused")
    shown = run("settle", STUDY)
    assert "Patient 1: 1 instance, not resolved" in shown
    assert "Patient 2: 2 instances, not resolved" in shown
    assert "PatientID: C*****-*" in shown
    assert "different PatientIDs" in shown
    assert RIGHT not in shown
    assert RIGHT in run("settle", STUDY, "--show-identifiers")
    assert "--keep" in run("settle", STUDY, "--drop", "1", "--drop", "2", status=2)
    assert "no patient 3" in run("settle", STUDY, "--keep", "3", status=2)
    assert run("settle", "1.2.3", status=1).endswith(f"no study 1.2.3 in {daemon.store_path}\n")
    settled = json.loads(run("settle", STUDY, "--keep", "1", "--json"))
    assert settled["conflict"] == ""
    assert [one["verdict"] for one in settled["patients"]] == ["right", "wrong"]
    wait_until(lambda: state(daemon) == "delivered", SETTLES_WITHIN_S, "it is delivered")
    content = json.dumps(newest(tmp_path / "out"))
    assert RIGHT in content
    assert WRONG not in content
    send(daemon, of(WRONG, 4))
    wait_until(lambda: len(daemon.instances()[STUDY]) == 4, SETTLES_WITHIN_S, "a later one came")
    daemon.settled()
    assert state(daemon) == "delivered"
    send(daemon, of(THIRD, 5))
    wait_until(lambda: state(daemon) == "refused", SETTLES_WITHIN_S, "a third patient is a conflict again")
    run("settle", STUDY, "--keep", "1", "--drop", "3")
    wait_until(lambda: state(daemon) == "delivered", SETTLES_WITHIN_S, "it is delivered")
    assert newest(tmp_path / "out")["entry"][0]["resource"]["numberOfInstances"] == 4
    assert "There is no conflict." in run("settle", STUDY)
    run("settle", STUDY, "--undo")
    wait_until(lambda: state(daemon) == "refused", SETTLES_WITHIN_S, "nothing is settled any more")
    log = daemon.log_path.read_text()
    assert not any(name in log for name in (RIGHT, WRONG, THIRD))


def test_one_patient_is_nothing_to_settle(daemon: DaemonProcess) -> None:
    send(daemon, of(RIGHT, 1))
    assert "no conflict to resolve" in Commands(daemon)("settle", STUDY, "--keep", "1", status=1)


def test_a_study_is_forgotten_and_comes_again(daemon: DaemonProcess, tmp_path: Path) -> None:
    run = Commands(daemon)
    send(daemon, of(RIGHT, 1), of(RIGHT, 2))
    wait_until(lambda: state(daemon) == "delivered", SETTLES_WITHIN_S, "it is delivered")
    assert "no study 1.2.3" in run("forget", STUDY, "1.2.3", status=1)
    assert STUDY in daemon.studies()
    before = sorted(file.name for file in (tmp_path / "out").iterdir())
    gone = json.loads(run("forget", STUDY, "--json"))
    assert gone["forgotten"] == [{"study_uid": STUDY, "series": 1, "instances": 2, "stays_at": ["files"]}]
    assert daemon.studies() == {}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == before
    assert daemon.status()["stats"]["instances"] == 0
    send(daemon, of(RIGHT, 3))
    wait_until(lambda: STUDY in daemon.studies() and state(daemon) == "delivered", SETTLES_WITHIN_S, "it came again")
    assert len(daemon.instances()[STUDY]) == 1
    assert "files" in run("forget", STUDY)


@pytest.mark.parametrize(("answer", "status"), [(b"n\n", 130), (b"y\n", 0)])
def test_a_person_at_a_terminal_is_asked(daemon: DaemonProcess, answer: bytes, status: int) -> None:
    send(daemon, of(RIGHT, 1))
    wait_until(lambda: STUDY in daemon.studies() and state(daemon) == "delivered", SETTLES_WITHIN_S, "it is delivered")
    terminal, other_end = pty.openpty()
    try:
        command = [sys.executable, "-m", "dicom2fhir", "forget", *map(str, Commands(daemon).place), STUDY]
        with subprocess.Popen(command, stdin=other_end, stderr=subprocess.PIPE, cwd=ROOT, env=environment()) as asking:
            os.write(terminal, answer)
            _, told = asking.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(other_end)
    assert b"Remove 1 study (1 instance)" in told
    assert asking.returncode == status
    assert (STUDY in daemon.studies()) is (status != 0)
