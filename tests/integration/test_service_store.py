"""Which store a command uses, and that root leaves it usable for the service's user."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dicom2fhir.config import load, locations
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ops.daemon_state import DaemonState, StateFile
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.system.systemd_unit import NAME, read_unit
from tests.command_line import Run
from tests.users import NOBODY, as_user, needs_root

_FILES = ("store.db", "store.db-wal", "store.db-shm", "store.db.lock", "store.db.progress")

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def system(open_path: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the service's configuration; the folder of the service's store, which is not made yet."""
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    out = tmp_path / "out"
    config.write_text(f'[store]\nmin_free_bytes = 0\n[destinations.files]\ntype = "file"\ndirectory = "{out}"\n')
    monkeypatch.setattr(locations, "SYSTEM_CONFIG", config)
    monkeypatch.setattr(locations, "SERVICE_STATE", open_path / "var")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    instance("CT", "one").save_as(tmp_path / "1.dcm", enforce_file_format=True)
    return open_path / "var"


@pytest.mark.parametrize("named", [False, True, "link"])
def test_every_command_uses_the_services_store(run: Run, system: Path, tmp_path: Path, named: bool | str) -> None:
    config = locations.SYSTEM_CONFIG
    if named == "link":
        config = tmp_path / "mine.toml"
        config.symlink_to(locations.SYSTEM_CONFIG)
    flags = ["--config", config] if named else []
    store = f"store: {system / 'store.db'}\n"
    taken = run("backfill", tmp_path / "1.dcm", *flags)
    assert (taken.status, taken.stderr.startswith(store)) == (0, True)
    for command in ["status"], ["retry", "--all"]:
        done = run(*command, *flags)
        assert (done.status, done.stderr) == (0, store)
    for words in ("status",), ("backfill", tmp_path / "1.dcm"), ("check-config",):
        assert run(*words, "--json", *flags).json["store"] == str(system / "store.db")
    assert not (tmp_path / "home").exists()


def test_another_configuration_has_another_store(run: Run, system: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(locations.SYSTEM_CONFIG.read_text())
    done = run("backfill", tmp_path / "1.dcm", "--config", mine, "--json")
    assert done.json["store"] == str(tmp_path / "home" / "dicom2fhir" / "store.db")
    assert not system.exists()


@pytest.mark.parametrize("wrong", ["[receivr]\n", '[destinations.x]\nurl = "nowhere"\n', "[folders.x]\n"])
def test_what_is_wrong_elsewhere_keeps_nobody_from_the_store(
    run: Run, system: Path, tmp_path: Path, wrong: str
) -> None:
    """After a reload that was refused, `status` is where people look for the reason."""
    assert run("backfill", tmp_path / "1.dcm").status == 0
    text = locations.SYSTEM_CONFIG.read_text()
    locations.SYSTEM_CONFIG.write_text(text + wrong)
    for command in (["status", "--json"], ["retry", "--all"]):
        done = run(*command)
        assert (done.status, done.stderr) == (0, f"store: {system / 'store.db'}\n")
    assert run("check-config").status == run("backfill", tmp_path / "1.dcm").status == 78
    locations.SYSTEM_CONFIG.write_text(text.replace("min_free_bytes", "min_free"))
    assert run("status").status == 78
    assert run("status", "--state-dir", system).status == 0


def test_what_the_configuration_and_systemd_say_wins(system: Path, tmp_path: Path) -> None:
    there = {"STATE_DIRECTORY": str(tmp_path / "given")}
    assert load(locations.SYSTEM_CONFIG, environ=there).store.directory == tmp_path / "given"
    own = {"store": {"directory": str(tmp_path / "own")}}
    assert load(locations.SYSTEM_CONFIG, own, environ={}).store.directory == tmp_path / "own"
    assert load(locations.SYSTEM_CONFIG, environ={}).store.directory == system


def test_what_the_unit_gives_the_service_counts_for_every_command(
    run: Run, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets as credentials, as the unit recommends, and variables of a drop-in."""
    text = locations.SYSTEM_CONFIG.read_text()
    locations.SYSTEM_CONFIG.write_text(
        text + '[destinations.main]\nurl = "https://127.0.0.1:1/fhir"\nauth = "bearer"\n'
    )
    assert run("backfill", tmp_path / "1.dcm").status == 78
    (tmp_path / "token").write_text("geheim")
    units = tmp_path / "units"
    units.mkdir()
    (units / NAME).write_text(
        f"[Service]\nLoadCredential=destinations__main__token:{tmp_path}/token\nLoadCredential=other:/none\n"
        f'StateDirectory=bridge\nEnvironment="DICOM2FHIR_STORE__DIRECTORY={tmp_path}/of the unit" PATH=/bin\n'
    )
    monkeypatch.setattr("dicom2fhir.system.systemd_unit.FOLDERS", (units,))
    done = run("backfill", tmp_path / "1.dcm", "--json")
    assert (done.status, done.json["store"]) == (0, f"{tmp_path}/of the unit/store.db")
    assert run("status", "--json").json["store"] == f"{tmp_path}/of the unit/store.db"
    (units / NAME).write_text("[Service]\nStateDirectory=bridge\n")
    unit = read_unit()
    assert unit is not None
    assert unit.environ == {"STATE_DIRECTORY": "/var/lib/bridge"}


@needs_root
def test_what_root_writes_belongs_to_the_services_user(run: Run, system: Path, tmp_path: Path) -> None:
    system.mkdir()
    os.chown(system, NOBODY, NOBODY)
    assert run("backfill", tmp_path / "1.dcm").status == 0
    store = SqliteStore.attach(system / "store.db", min_free_bytes=0)
    try:
        store.set_destinations(["files"])
        StateFile(system, time.time).write(DaemonState(pid=1, version="", started_at=0.0))
        owners = {file.name: file.stat().st_uid for file in system.iterdir()}
    finally:
        store.close()
    assert owners == dict.fromkeys([*_FILES, "daemon.json"], NOBODY)

    def deliver() -> int:
        mine = SqliteStore(system / "store.db", quiet_period_s=0, min_free_bytes=0)
        return mine.requeue(all_states=True)

    assert as_user(NOBODY, deliver) == "1"


@needs_root
def test_a_file_that_is_linked_into_the_folder_stays_its_owners(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("")
    folder = tmp_path / "state"
    folder.mkdir()
    os.link(theirs, folder / "store.db.lock")
    os.chown(folder, NOBODY, NOBODY)
    SqliteStore(folder / "store.db", min_free_bytes=0).close()
    assert theirs.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("shut", ["folder", "file"])
def test_somebody_else_is_told_what_to_do(open_path: Path, shut: str) -> None:
    folder = open_path / "state"
    SqliteStore(folder / "store.db", min_free_bytes=0).close()
    folder.chmod(0o700 if shut == "folder" else 0o777)

    def said_to(opening: object) -> str:
        with pytest.raises(StoreUnavailable) as caught:
            opening(folder / "store.db")  # type: ignore[operator]
        return str(caught.value)

    for opening in SqliteStore, SqliteStore.attach, SqliteStore.open_readonly:
        said = as_user(NOBODY, lambda opening=opening: said_to(opening))  # type: ignore[misc]
        assert said.startswith("User nobody has no permission to use the store"), said
        assert "as root (sudo) or as the owner of the store" in said
        assert (", root" in said) == (shut == "file")
