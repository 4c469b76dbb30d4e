"""``status`` beside a daemon that runs, one that was killed and one whose server is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicom2fhir.demo.synthetic import instance
from tests.command_line import Result, run_here
from tests.daemon_process import DaemonProcess, wait_until
from tests.scripted_server import ScriptedServer, scripted_server


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


@pytest.fixture
def start(tmp_path: Path, server: ScriptedServer) -> Iterator[Callable[..., DaemonProcess]]:
    daemons: list[DaemonProcess] = []

    def started(**store: float) -> DaemonProcess:
        flags = [word for name, value in store.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        daemon = DaemonProcess(tmp_path / "daemon", tuple(flags), f'[destinations.main]\nurl = "{server.url}"\n')
        daemons.append(daemon)
        daemon.start()
        return daemon

    yield started
    for daemon in daemons:
        daemon.clean_up()


def check(daemon: DaemonProcess) -> Result:
    return run_here("status", "--check", "--state-dir", daemon.state_dir)


def text_of(daemon: DaemonProcess) -> str:
    return " ".join(check(daemon).stdout.decode().split())


def send(daemon: DaemonProcess, study: str, called: str = "DICOM2FHIR") -> bool:
    ae = AE("SENDER")
    ae.add_requested_context(CTImageStorage)
    association = ae.associate(*daemon.address, ae_title=called)
    if not association.is_established:
        return False
    status = association.send_c_store(instance("CT", study))
    association.release()
    return bool(status.Status == 0)


def destination(daemon: DaemonProcess) -> dict[str, Any]:
    (found,) = daemon.status()["destinations"]
    return dict(found)


def test_a_daemon_that_is_well_and_then_killed(start: Callable[..., DaemonProcess]) -> None:
    daemon = start(quiet_period=0)
    facts = daemon.status()
    assert facts["attention"] == []
    assert facts["daemon"]["running"] and facts["daemon"]["listening"].endswith(f":{daemon.address[1]}")
    assert facts["daemon"]["pid"] != 0 and facts["daemon"]["started_at"] <= facts["at"]
    assert not facts["daemon"]["disk"]["intake_stopped"]
    assert destination(daemon)["state"] == "untried"
    assert send(daemon, "one") and not send(daemon, "two", called="SOMEBODY")
    daemon.settled()
    up = wait_until(lambda: (one := destination(daemon))["written"] and one, 30, "the daemon has said it")
    assert (up["state"], up["reason"], up["until"]) == ("up", "", None)
    assert daemon.status()["daemon"]["refused"] == {"association: called AE title not recognized": 1}
    assert check(daemon).status == 0
    assert "1 x association: called AE title not recognized" in text_of(daemon)
    daemon.kill()
    facts = daemon.status()
    assert not facts["daemon"]["running"]
    assert "state" not in facts["destinations"][0], "nobody can know it"
    assert "The daemon is not running; last report at" in facts["attention"][0]
    assert check(daemon).status == 1


def test_a_daemon_that_was_stopped(start: Callable[..., DaemonProcess]) -> None:
    daemon = start()
    assert daemon.terminate() == 0
    assert "The daemon is not running; it stopped at" in text_of(daemon)
    assert check(daemon).status == 1


def test_a_server_that_is_away_and_comes_back(start: Callable[..., DaemonProcess], server: ScriptedServer) -> None:
    server.is_away = True
    daemon = start(quiet_period=0)
    assert send(daemon, "one")
    down = wait_until(lambda: (one := destination(daemon))["state"] == "down" and one, 30, "it is down")
    assert "HTTP 503" in down["reason"] and down["until"]
    (study,) = daemon.status()["studies"]
    why = study["deliveries"][0]["why"]
    assert why.startswith(f"destination down: {down['reason']}; next try at")
    result = check(daemon)
    assert result.status == 1 and b"Destination main is down since" in result.stdout
    server.is_away = False
    wait_until(lambda: destination(daemon)["state"] == "up", 90, "it is up again")
    assert check(daemon).status == 0


def test_a_server_of_another_version_is_paused(start: Callable[..., DaemonProcess], server: ScriptedServer) -> None:
    server.fhir_version = "2.9.9"
    daemon = start(quiet_period=0)
    assert send(daemon, "one")
    paused = wait_until(lambda: (one := destination(daemon))["state"] == "paused" and one, 30, "it is paused")
    assert "2.9.9" in paused["reason"] and paused["refused"] == 0


def test_too_little_space_is_told(start: Callable[..., DaemonProcess]) -> None:
    daemon = start(quiet_period=60)
    daemon.terminate()
    text = daemon.config_path.read_text().replace("min_free_bytes = 0", f"min_free_bytes = {1 << 60}")
    daemon.config_path.write_text(text)
    daemon.start()
    assert not send(daemon, "one")
    facts = daemon.status()
    assert facts["daemon"]["disk"]["intake_stopped"]
    assert facts["attention"][0].startswith("Reception is stopped:")
    wait_until(lambda: "message: A700" in str(daemon.status()["daemon"]["refused"]), 30, "the sender was told A700")


def test_the_quiet_period_is_why_a_study_waits(start: Callable[..., DaemonProcess]) -> None:
    daemon = start(quiet_period=600)
    assert send(daemon, "one")

    def quiet() -> bool:
        (study,) = daemon.status()["studies"]
        return str(study["deliveries"][0]["why"]).startswith("quiet period until")

    wait_until(quiet, 30, "the association has ended")
    (study,) = daemon.status()["studies"]
    shown = run_here("status", study["study_uid"], "--state-dir", daemon.state_dir)
    assert b"quiet period until" in shown.stdout
    alone = run_here("status", study["study_uid"], "--json", "--state-dir", daemon.state_dir)
    assert alone.json["deliveries"][0]["why"].startswith("quiet period until")


def test_a_folder_that_is_not_there_is_told(start: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    daemon = start()
    daemon.terminate()
    inbox = tmp_path / "inbox"
    with daemon.config_path.open("a") as file:
        file.write(f'[folders.inbox]\npath = "{inbox}"\npoll_s = 0.2\n')
    daemon.start()
    assert daemon.status()["attention"] == ["Folder inbox is not read: No such file or directory."]
    inbox.mkdir()
    wait_until(lambda: daemon.status()["daemon"]["folders"] == {"inbox": ""}, 30, "it is watched")
    assert daemon.status()["attention"] == []
