"""The daemon and the commands with a store in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testdata.make_dicom import ct_instances
from tests.acceptance.load import Load
from tests.acceptance.promises import Ledger
from tests.daemon_process import DaemonProcess, run_command, to_files, wait_until
from tests.postgres_cluster import cluster

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    url = cluster().new_database(is_empty=True)
    made = DaemonProcess(tmp_path / "daemon", (), to_files(tmp_path / "out"), database=url)
    yield made
    made.clean_up()


def said(daemon: DaemonProcess, *arguments: str | Path, status: int = 0) -> str:
    """What a command writes to standard output, or to standard error if it fails."""
    done = run_command(*arguments, "--config", daemon.config_path)
    assert done.returncode == status, done.stderr.decode()
    return (done.stderr if status else done.stdout).decode()


def test_studies_go_through_the_database(daemon: DaemonProcess, tmp_path: Path) -> None:
    instances = list(ct_instances(12, 3, slices=2))
    (tmp_path / "archive").mkdir()
    archived = instances.pop()
    (tmp_path / "archive" / "a.dcm").write_bytes(archived.file)
    daemon.start()
    with Load(daemon, Ledger(tmp_path / "ledger"), instances) as load:
        load.ends()
    said(daemon, "backfill", tmp_path / "archive")
    stats = daemon.settled()
    assert (stats.studies, stats.instances, stats.delivered) == (3, 12, 3)
    assert len({path.name.partition(".")[0] for path in (tmp_path / "out").iterdir()}) == 3

    facts = json.loads(said(daemon, "status", "--json"))
    assert facts["store"].startswith("postgresql://")
    uid = facts["studies"][0]["study_uid"]
    assert "1 study" in said(daemon, "retry", uid) or said(daemon, "status", uid)
    said(daemon, "pause", "files")
    said(daemon, "resume", "files")
    said(daemon, "forget", "--yes", uid)
    assert daemon.settled().studies == 2
    assert "pg_dump" in said(daemon, "store", "backup", tmp_path / "copy.db", status=78)

    daemon.kill()
    daemon.start()
    assert daemon.terminate() == 0
    with daemon.store() as store:
        assert store.stats().instances == 8


def test_a_daemon_with_other_destinations_does_not_start(daemon: DaemonProcess, tmp_path: Path) -> None:
    settings = to_files(tmp_path / "out") + to_files(tmp_path / "more").replace(".files]", ".more]")
    other = DaemonProcess(tmp_path / "other", (), settings, database=daemon.database)
    try:
        daemon.start()
        other.launch()
        assert other.ended() == 74
        assert "has other [destinations]: more is only here. Give all daemons the same" in other.log_path.read_text()
        with daemon.store() as store:
            assert [one.name for one in store.destinations()] == ["files"]
        assert daemon.reload(settings, daemon.head)["event"] == "config.reloaded"
        other.start()
        assert other.terminate() == 0
    finally:
        other.clean_up()


def test_check_config_names_the_database_without_its_password(daemon: DaemonProcess) -> None:
    text = daemon.config_path.read_text().replace("dicom2fhir@", "dicom2fhir:secret@")
    daemon.config_path.write_text(text)
    shown = said(daemon, "check-config")
    assert "The store is postgresql://" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ('url = "postgresql://h/d"\ndirectory = "/tmp/d"', "a store is either in a database or in a folder"),
        ('url = "mysql://u:secret@h/d"', "must begin with postgresql://"),
    ],
)
def test_wrong_settings(tmp_path: Path, store: str, reason: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[store]\n{store}\n{to_files(tmp_path)}")
    done = run_command("check-config", "--config", config)
    assert done.returncode == 78
    assert reason in done.stderr.decode()
    assert "secret" not in done.stderr.decode()


def test_the_daemon_waits_for_a_server_that_is_away(daemon: DaemonProcess, tmp_path: Path) -> None:
    daemon.start()
    with daemon.store() as store:
        wait_until(lambda: store.is_owned, 60, "a node")
