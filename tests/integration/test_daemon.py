"""The daemon in this process: what it does when a part fails, and what it tells systemd."""

from __future__ import annotations

import json
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom2fhir import config
from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.errors import ConfigError, NotReady, StoreInUse, StoreUnavailable
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.study_search import StudyFilter
from tests.daemon_process import wait_until

Settings = dict[str, Any]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A daemon with every kind of part, all of it below ``tmp_path``."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return {
        "receiver": {"port": 0},
        "web": {"port": 0},
        "folders": {"inbox": {"path": str(inbox), "stable_s": 0.1, "rescan_s": 1}},
        "store": {"directory": str(tmp_path / "state"), "quiet_period_s": 0, "min_free_bytes": 0},
        "destinations": {"files": {"type": "file", "directory": str(tmp_path / "out")}},
    }


def build(settings: Settings) -> Daemon:
    return Daemon(config.load(overrides=settings, environ={}))


@contextmanager
def closing_daemon(daemon: Daemon) -> Iterator[Daemon]:
    try:
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def daemon(settings: Settings) -> Iterator[Daemon]:
    with closing_daemon(build(settings)) as made:
        yield made


def assert_nothing_is_left(settings: Settings, threads_before: set[threading.Thread]) -> None:
    """No thread, and the store belongs to nobody."""
    left = [thread.name for thread in set(threading.enumerate()) - threads_before if thread.is_alive()]
    assert left == []
    SqliteStore(Path(settings["store"]["directory"]) / "store.db", min_free_bytes=0).close()


def test_files_of_a_folder_go_through(daemon: Daemon, settings: Settings, tmp_path: Path) -> None:
    daemon.start()
    assert daemon.trouble() == ""
    instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wait_until(lambda: list((tmp_path / "out").glob("*.json")), 30, "a Bundle is there")
    wanted = StudyFilter(modality="CT", folder=str(tmp_path / "inbox"))
    wait_until(lambda: daemon.store.find_studies(wanted), 30, "the study is in the index")
    assert daemon.trouble() == ""


def test_a_rejected_file_is_logged_with_its_rule_and_uid(daemon: Daemon, tmp_path: Path) -> None:
    made = instance("CT")
    del made.SeriesInstanceUID
    with capture_logs() as logs:
        daemon.start()
        made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: list(daemon.store.rejections()), 30, "the rejection is kept")
    (rejected,) = [entry for entry in logs if entry["event"] == "instance.rejected"]
    assert (rejected["kind"], rejected["sop_instance"]) == ("missing-uid", made.SOPInstanceUID)


def test_destinations_of_three_versions_at_once(settings: Settings, hapi: Callable[[str], str], tmp_path: Path) -> None:
    settings["destinations"] = {
        "old": {"url": hapi("dstu2")},
        "new": {"url": hapi("r4")},
        "files": {"type": "file", "directory": str(tmp_path / "out"), "version": "R5"},
    }
    name = uuid.uuid4().hex
    made = instance("CT", name)
    with closing_daemon(build(settings)) as daemon:
        daemon.start()
        made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered == 3, 60, "all three have it")
        mappings = {found.name: found.fingerprint.split("@")[0] for found in daemon.store.destinations()}
        assert mappings == {"old": "DSTU2 base", "new": "R4 base", "files": "R5 base"}
    uid = f"urn:oid:{made.StudyInstanceUID}"
    (old,) = FhirClient(hapi("dstu2")).search("ImagingStudy", f"study={uid}")
    (new,) = FhirClient(hapi("r4")).search("ImagingStudy", f"identifier=urn:dicom:uid%7C{uid}")
    (file,) = (tmp_path / "out").glob("*.json")
    filed = json.loads(file.read_text())["entry"][0]["resource"]
    assert old["uid"] == uid
    assert old["modalityList"][0]["code"] == new["modality"][0]["code"] == "CT"
    assert filed["modality"][0]["coding"][0]["code"] == "CT"
    assert old["id"] == new["id"] == filed["id"]


def test_a_change_of_version_is_seen_and_everything_sent_anew(settings: Settings, tmp_path: Path) -> None:
    def sent() -> list[str]:
        return [file.read_text() for file in (tmp_path / "out").glob("*.json")]

    with closing_daemon(build(settings)) as daemon:
        daemon.start()
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered == 1, 30, "it is there")
        (before,) = daemon.store.destinations()
        assert before.others == {}
    (first,) = sent()
    settings["destinations"]["files"]["version"] = "DSTU2"
    with closing_daemon(build(settings)) as daemon:
        daemon.start()
        (known,) = daemon.store.destinations()
        assert known.fingerprint.startswith("DSTU2 base@")
        assert known.others == {before.fingerprint: 1}
        assert daemon.store.requeue(all_states=True) == 1
        wait_until(lambda: daemon.store.stats().delivered == 1, 30, "it is there again")
        (known,) = daemon.store.destinations()
        assert known.others == {}
    (second,) = sent()
    assert "modalityList" in second
    assert "modalityList" not in first


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ({"destinations": {}}, "no output is configured"),
        ({"receiver": {"enabled": False}, "folders": {}}, "no input is configured"),
    ],
)
def test_a_daemon_without_a_road_is_not_built(settings: Settings, without: Settings, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(settings | without)
    assert not Path(settings["store"]["directory"]).exists()


def test_a_port_that_is_taken_leaves_nothing_behind(settings: Settings) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings["receiver"]["port"] = listener.getsockname()[1]
        with pytest.raises(NotReady, match=str(settings["receiver"]["port"])):
            build(settings).start()
    assert_nothing_is_left(settings, before)


def test_what_others_may_see_and_who_may_send_is_warned_of_at_the_start(settings: Settings, tmp_path: Path) -> None:
    settings["receiver"] |= {"host": "0.0.0.0", "networks": ["0.0.0.0/0"]}
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    with capture_logs() as logs, closing_daemon(build(settings)) as daemon:
        daemon.start()
    exposed, open_to_all = sorted(entry["text"] for entry in logs if entry["event"] == "config.warning")
    assert exposed.startswith(f"'{tmp_path}/state' has the mode 0755")
    assert (
        open_to_all
        == "receiver.networks = 0.0.0.0/0: every address may connect; list only the networks of your senders"
    )


def test_what_comes_later_keeps_nothing_else_waiting(settings: Settings, tmp_path: Path) -> None:
    """A folder that is not mounted yet and a secret that is not written yet."""
    (tmp_path / "inbox").rmdir()
    secret = tmp_path / "password"
    settings["destinations"]["main"] = {
        "type": "fhir",
        "url": "http://127.0.0.1:1/fhir",
        "auth": "basic",
        "username": "me",
        "password_file": str(secret),
    }
    said = f"password_file = {str(secret)!r} cannot be read: No such file or directory"
    with closing_daemon(build(settings)) as daemon:
        daemon.start()
        (tmp_path / "inbox").mkdir()
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered == 1, 30, "the folder is found and its file delivered")
        main = daemon.deliverers["main"]
        wait_until(lambda: said in main.down, 30, "the destination says what it waits for")
        assert daemon.trouble() == ""


def test_a_second_daemon_on_the_same_store_is_refused(daemon: Daemon, settings: Settings) -> None:
    daemon.start()
    with pytest.raises(StoreInUse, match=r"store\.db"):
        build(settings)
    assert daemon.trouble() == ""


def test_the_daemon_ends_when_its_store_fails(daemon: Daemon, fill: Callable[[], None]) -> None:
    threading.Thread(target=fill).start()
    with pytest.raises(StoreUnavailable, match=r"the store failed: .*full"):
        daemon.run()
    assert "full" in daemon.trouble()
    assert daemon.receiver is not None
    assert not daemon.receiver.is_alive()


@pytest.fixture
def fill(daemon: Daemon) -> Callable[[], None]:
    """Make the store's file too small, and write to it."""

    def write() -> None:
        wait_until(lambda: daemon.receiver is not None and daemon.receiver.is_alive(), 30, "the daemon runs")
        writer = daemon.store._writer
        assert writer is not None
        writer.run(lambda connection: connection.execute("PRAGMA max_page_count=1").fetchone())
        with pytest.raises(StoreUnavailable):
            for number in range(10_000):
                daemon.store.set_destinations([f"{number}-{'x' * 900}"])

    return write


@pytest.mark.parametrize("part", ["receiver", "folder", "worker"])
def test_a_part_that_has_stopped_is_trouble(daemon: Daemon, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.start()
    assert daemon.receiver is not None
    match part:
        case "receiver":
            daemon.receiver.stop(5)
            assert "receiver" in daemon.trouble()
        case "folder":
            daemon.folders["inbox"].stop(5)
            assert "folder inbox" in daemon.trouble()
        case "worker":
            (deliverer,) = daemon.deliverers.values()
            monkeypatch.setattr(deliverer, "heartbeats", lambda: {"deliver-files-1": float("-inf")})
            assert "destination files" in daemon.trouble()


def test_what_systemd_is_told(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bytes] = []
    before = signal.getsignal(signal.SIGTERM)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)

        def listen() -> None:
            while len(states) < 3:
                states.append(systemd.recv(1000))
            signal.raise_signal(signal.SIGHUP)
            while states[-1] != b"READY=1":
                states.append(systemd.recv(1000))
            signal.raise_signal(signal.SIGTERM)
            while states[-1] != b"STOPPING=1":
                states.append(systemd.recv(1000))

        listener = threading.Thread(target=listen)
        listener.start()
        daemon.run()
        listener.join()
    assert states[:2] == [b"READY=1", b"WATCHDOG=1"]
    assert states[2].startswith(b"STATUS=")
    assert states[2].endswith(b"files untried")
    told = [state for state in states[3:] if state != b"WATCHDOG=1" and not state.startswith(b"STATUS=")]
    assert told[0].startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert told[1:] == [b"READY=1", b"STOPPING=1"]
    assert signal.getsignal(signal.SIGTERM) is before
