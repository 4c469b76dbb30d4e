"""SIGHUP: what the daemon takes over while it works, what it refuses, and what it leaves for a restart."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.config import Settings
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.wiring.reload import AT_START, difference
from tests.daemon_process import ROOT, SETTINGS, DaemonProcess, environment, wait_until
from tests.pki import Pki
from tests.scripted_peer import REJECTED, Peer, associate_rq, command, data_set, p_data, pdv, store

WITHIN_S = 30.0


def files(folder: Path, name: str = "files", more: str = "") -> str:
    return f'[destinations.{name}]\ntype = "file"\ndirectory = "{folder}"\n{more}\n'


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], DaemonProcess]]:
    made: list[DaemonProcess] = []

    def start(settings: str) -> DaemonProcess:
        daemon = DaemonProcess(tmp_path / "daemon", (), settings)
        made.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in made:
        daemon.clean_up()


def send(daemon: DaemonProcess, uid: str) -> None:
    with Peer(daemon.address, associate_rq()) as peer:
        assert peer.receive()[0] == 2
        peer.send(store(uid))
        assert peer.status() == 0


def until_there(folder: Path, pattern: str = "*.json") -> list[Path]:
    found: list[Path] = wait_until(lambda: list(folder.glob(pattern)), WITHIN_S, f"{pattern} is in {folder}")
    return found


def until_status_says(daemon: DaemonProcess, text: str) -> None:
    wait_until(lambda: any(text in line for line in daemon.status()["attention"]), WITHIN_S, f"status says {text!r}")


def test_an_open_association_finishes_under_the_rules_that_it_began_with(
    make: Callable[[str], DaemonProcess], tmp_path: Path
) -> None:
    daemon = make(files(tmp_path / "out"))
    with Peer(daemon.address, associate_rq()) as peer:
        assert peer.receive()[0] == 2
        whole = data_set("1.2.3.9")
        peer.send(p_data(pdv(1, 3, command("1.2.3.9"))) + p_data(pdv(1, 0, whole[:40])))
        others = SETTINGS.replace("[receiver]", '[receiver]\ncalling_ae_titles = ["OTHER"]')
        assert daemon.reload(files(tmp_path / "out"), others)["receiver"] is True
        with Peer(daemon.address, associate_rq()) as late:
            assert late.receive()[0] == REJECTED
        peer.send(p_data(pdv(1, 2, whole[40:])))
        assert peer.status() == 0
    until_there(tmp_path / "out")
    assert daemon.terminate() == 0


def test_destinations_come_go_and_change(make: Callable[[str], DaemonProcess], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    daemon = make(files(first, "first") + files(second, "second"))
    send(daemon, "1.2.3.1")
    until_there(first)
    until_there(second)
    third = tmp_path / "third"
    done = daemon.reload(files(second, "second", 'format = "xml"') + files(third, "third"))
    assert done["destinations"] == {"gone": ["first"], "changed": ["second"], "new": ["third"]}
    until_there(third)
    (before,) = first.iterdir()
    written = before.stat().st_mtime_ns
    send(daemon, "1.2.3.2")
    until_there(second, "*.xml")
    daemon.settled()
    assert before.stat().st_mtime_ns == written
    assert daemon.terminate() == 0


def test_folders_come_go_and_change(make: Callable[[str], DaemonProcess], tmp_path: Path) -> None:
    def watched(**folders: str) -> str:
        return "".join(
            f'[folders.{name}]\npath = "{tmp_path / path}"\nstable_s = 0.1\nrescan_s = 1\n'
            for name, path in folders.items()
        ) + files(tmp_path / "out")

    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    daemon = make(watched(gone="a", changed="b"))
    done = daemon.reload(watched(changed="c", new="b"))
    assert done["folders"] == {"gone": ["gone"], "changed": ["changed"], "new": ["new"]}
    for name in ("a", "b", "c"):
        instance("CT", name).save_as(tmp_path / name / "1.dcm", enforce_file_format=True)
    daemon.holds(2)
    assert set(daemon.instances()) == {str(instance("CT", name).StudyInstanceUID) for name in ("b", "c")}
    assert daemon.terminate() == 0


def test_the_log_level_changes(make: Callable[[str], DaemonProcess], tmp_path: Path) -> None:
    daemon = make(files(tmp_path / "out"))
    quiet = SETTINGS.replace('"debug"', '"warning"').replace("[receiver]\nport = 0", "[receiver]\nport = 11999")
    assert daemon.reload(files(tmp_path / "out"), quiet, ("config.restart_needed",))["level"] == "warning"
    begin = daemon.log_path.stat().st_size
    send(daemon, "1.2.3.1")
    until_there(tmp_path / "out")
    assert list(daemon.log_lines(begin)) == []
    assert daemon.reload(files(tmp_path / "out"))["event"] == "config.reloaded"


NOT_USABLE = {
    "[[[": "not valid TOML",
    "[receivr]\nport = 1\n": "receivr",
    '[destinations.x]\nurl = "nowhere"\n': "destinations.x.url",
    '[destinations.x]\nurl = "http://127.0.0.1:1"\nprofile = "osiriss"\n': "osiriss",
    "": "no output is configured",
}
"""Settings, and what a refusal of them names."""


def test_what_is_not_usable_changes_nothing(make: Callable[[str], DaemonProcess], tmp_path: Path) -> None:
    daemon = make(files(tmp_path / "out"))
    for number, (wrong, named) in enumerate(NOT_USABLE.items(), 1):
        refused = daemon.reload(wrong)
        assert refused["event"] == "config.refused"
        assert named in refused["reason"]
        until_status_says(daemon, named)
        send(daemon, f"1.2.3.{number}")
        until_there(tmp_path / "out", f"*.{number}.*")
        done = daemon.reload(files(tmp_path / "out"))
        assert done["destinations"] == {"gone": [], "changed": [], "new": []}
    assert daemon.terminate() == 0


def test_what_needs_a_restart_is_named_until_it_is_done(make: Callable[[str], DaemonProcess], tmp_path: Path) -> None:
    daemon = make(files(tmp_path / "out"))
    changed = SETTINGS.replace("[receiver]\nport = 0", "[receiver]\nport = 11999").replace(
        "min_free_bytes = 0", "min_free_bytes = 1"
    )
    for _ in range(2):
        said = daemon.reload(files(tmp_path / "out"), changed, ("config.restart_needed",))
        assert said["options"] == ["receiver.port", "store.min_free_bytes"]
    until_status_says(daemon, "restart is needed to apply receiver.port, store.min_free_bytes")
    send(daemon, "1.2.3.1")
    assert daemon.terminate() == 0


@pytest.mark.needs("openssl")
def test_renewed_certificates_are_shown_to_those_who_connect_next(
    make: Callable[[str], DaemonProcess], tmp_path: Path
) -> None:
    pki = Pki(tmp_path / "pki")
    pki.folder.mkdir()
    pki.make()
    crt, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def install(name: str) -> None:
        crt.write_bytes((pki.folder / f"{name}.crt").read_bytes())
        key.write_bytes((pki.folder / f"{name}.key").read_bytes())

    def shown() -> str:
        return ssl.get_server_certificate(daemon.address, timeout=WITHIN_S)

    install("receiver")
    head = SETTINGS.replace("[receiver]\n", f'[receiver]\ntls_certificate = "{crt}"\ntls_key = "{key}"\n')
    daemon = make(files(tmp_path / "out"))

    def reload() -> str:
        event: str = daemon.reload(files(tmp_path / "out"), head)["event"]
        return event

    assert reload() == "config.reloaded"
    assert shown() == (pki.folder / "receiver.crt").read_text()
    install("sender")
    assert reload() == "config.reloaded"
    assert shown() == (pki.folder / "sender.crt").read_text()
    key.write_text("no key")
    assert reload() == "config.refused"
    assert shown() == (pki.folder / "sender.crt").read_text()


def test_a_hang_up_before_the_daemon_is_ready_waits(tmp_path: Path) -> None:
    """The default of SIGHUP ends a process, and systemd takes that for a clean end: it would not start it again."""
    daemon = DaemonProcess(tmp_path / "daemon", (), files(tmp_path / "out"))
    arguments = ["serve", "--config", str(daemon.config_path), "--state-dir", str(daemon.state_dir)]
    with (
        daemon.log_path.open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "dicom2fhir", *arguments], stderr=log, cwd=ROOT, env=environment()
        ) as process,
    ):
        daemon._process = process
        try:
            wait_until(daemon.state_dir.exists, WITHIN_S, "it has begun to open its store")
            process.send_signal(signal.SIGHUP)
            daemon.says(("daemon.started",))
            daemon.says(("config.reloaded",))
        finally:
            process.terminate()


def test_every_section_is_looked_at_again_or_needs_a_restart() -> None:
    """A section that is added has to be thought of in :mod:`dicom2fhir.wiring.reload`."""
    replaced = {"receiver", "folders", "fhir", "systems", "pacs", "resources", "destinations", "web", "log"}
    assert set(Settings.model_fields) == replaced | set(AT_START)
    of_the_store = {*AT_START["store"], "forget_after_s", "seal_after_s"}  # their threads ask each time
    assert of_the_store == set(Settings.model_fields["store"].annotation.model_fields)  # type: ignore[union-attr]


def test_difference() -> None:
    old: dict[str, Any] = {"a": 1, "b": 2, "c": 3}
    found = difference(old, {"b": 2, "c": 4, "d": 5})
    assert (found.gone, found.changed, found.new) == (("a",), ("c",), ("d",))
    assert (found.to_stop, found.to_start) == (("a", "c"), ("c", "d"))
