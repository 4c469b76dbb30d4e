"""A store moves from its file to a database, and nothing of it is lost, whatever interrupts that."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import ConfigError, NoStore, StoreDamaged, StoreInUse, StoreUnavailable
from dicom2fhir.model import Origin
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.migration.move import Moved, move
from dicom2fhir.store.migration.tables import LEFT_OUT, MOVED, UNMOVED_TOTALS
from dicom2fhir.store.postgres.store import PostgresStore
from dicom2fhir.store.sql.store import SqlStore
from dicom2fhir.store.sqlite.schema import in_memory, steps
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection
from dicom2fhir.store.study_search import StudyFilter
from testdata.make_dicom import EncodedInstance, ct_instances
from tests.acceptance.load import Load
from tests.acceptance.promises import Ledger
from tests.command_line import run_here
from tests.daemon_process import ROOT, DaemonProcess
from tests.memory_server import Manner, memory_server
from tests.postgres_cluster import cluster
from tests.store_contract.bench import (
    DEST,
    LEASE_S,
    QUIET_S,
    Bench,
    Sqlite,
    changes,
    delivered,
    notification,
    over,
    record,
    rejection_note,
    step,
)

pytestmark = pytest.mark.needs("postgres")

SECOND, FORMER = "second", "former"
FILES = ("/in/a.dcm", "/in/\udcff.dcm")
MOVES_A_PART = """
import os, signal, sys
from pathlib import Path
from dicom2fhir.store.migration import move
move._BATCH_BYTES = 1
calls = iter(range(int(sys.argv[3])))
def die_in_the_end(step, done, total):
    if next(calls, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
move.move(Path(sys.argv[1]), sys.argv[2], die_in_the_end)
"""


def silent(_step: str, done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url() -> str:
    return cluster().new_database(is_empty=True)


@pytest.fixture
def bench(path: Path) -> Bench:
    """A store, closed, in which each table has rows."""
    made = Bench(Sqlite(path.parent))
    _fill(made)
    made.store.close()
    with closing(sqlite3.connect(path)) as connection:
        empty = [name for name in MOVED if not connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
    assert empty == []
    return made


def _fill(bench: Bench) -> None:
    bench.store.set_destinations([DEST, FORMER])
    bench.add(record(study="1.8"))
    bench.later(QUIET_S)
    for destination in (DEST, FORMER):
        bench.deliver(destination=destination)
    assert bench.store.forget_delivered(0) == ["1.8"]
    bench.add(record(study="1.0"))  # by a reader that nobody knows
    bench.later(QUIET_S)
    for destination in (DEST, FORMER):
        bench.deliver(destination=destination)
    assert bench.store.seal_delivered(0) == ["1.0"]
    bench.restart(reader="new reader")
    store = bench.store
    store.set_destinations([DEST, SECOND])
    store.set_mapping_fingerprint(DEST, "rules")
    store.set_selection(SECOND, "CT only")
    for number in range(1, 8):
        bench.later(1)  # or they may come in any order
        bench.add(record(number, study=f"1.{number}"), Origin("folder", folder="/in", path=f"/in/{number}.dcm"))
    store.add(record(20, study="1.1", series="1.1.2", patient="P\0"), over("a"))
    store.association_ended("a")
    store.state_availability(notification())
    store.create_step(step(study="1.2"), over("m", "MOD"))
    store.update_step("1.6.1", changes(instances=(2, 77)))
    store.add(rejection_note(of="1.3", study="1.2"), over("k"))
    store.association_ended("k")
    bench.add(record(30, study="1.4", patient="P2"))
    store.settle("1.4", {patient.key: Verdict.RIGHT for patient in bench.store.patients("1.4")[:1]})
    store.forget("1.7")
    store.reject(Rejection(bench.now, Origin("file", path=FILES[1]), "broken", "not-dicom"))
    store.mark_file(FileMark(FILES[0], 10, 20, "taken"))
    store.mark_file(FileMark(FILES[1], 11, 21, "skipped", "no header"))
    _deliver(bench)
    store.pause(SECOND)
    store.add(record(40, study="1.5"), over("open"))
    while store.update_index():
        pass
    bench.later(1)


def _deliver(bench: Bench) -> None:
    """One delivery for each state, and for each way in which one ends."""
    bench.later(40)
    store = bench.store
    first, second, third, fourth, *rest = store.claim(DEST, "w", LEASE_S, most=20)
    delivered(store, first, first.revision, b"base\0", "rules", ("basedOn",), "no profile", ("Patient",), accepted=True)
    store.refuse(second, second.revision, "HTTP 422")
    store.retry(third, 5, "HTTP 500", failing=store.failing(third, 60))
    store.exclude(fourth, "CT only", "")
    assert len(rest) > 1
    store.release(rest[1:])


def answers(store: SqlStore) -> dict[str, Any]:
    """What a store says of all that is in it."""
    uids = sorted(study.study_uid for study in store.studies(limit=1000))
    ask: dict[str, Callable[[str], object]] = {
        "study": store.study,
        "status": store.study_status,
        "stated": store.stated,
        "patients": store.patients,
        "details": store.study_details,
        "sent": store.last_sent,
    }
    wanted = {
        "all": StudyFilter(), "patient": StudyFilter(patient_id="P1"), "date": StudyFilter(study_date="20240101-"),
    }  # fmt: skip
    return {
        "stats": store.stats(),
        "destinations": store.destinations(),
        "rejections": store.rejections(),
        "marks": store.file_marks(FILES),
        "outdated": store.outdated_studies(),
        "attempts": sorted(store.recent_attempts(0), key=str),
        "minutes": store.counts(0),
        "requeued": store.requeued(DEST),
        "forgotten": store.forgotten_at("1.8"),
        "undelivered": store.oldest_undelivered(),
        "due": {name: store.next_due_at(name) for name in (DEST, SECOND)},
        **{f"{what} {uid}": question(uid) for what, question in ask.items() for uid in uids},
        **{f"found by {what}": store.find_studies(each) for what, each in wanted.items()},
    }


def both(bench: Bench, path: Path, url: str) -> tuple[SqlStore, SqlStore]:
    options: dict[str, Any] = {"clock": bench.wall_clock, "steady": lambda: 0.0, "reader": "new reader"}
    return SqliteStore.open_readonly(path, **options), PostgresStore.open_readonly(url, **options)


def assert_same(bench: Bench, path: Path, url: str) -> None:
    old, new = both(bench, path, url)
    with closing(old), closing(new):
        expected, found = answers(old), answers(new)
    assert expected["stats"].instances > 7
    for question, answer in expected.items():
        assert found[question] == answer, question


def test_every_table_and_column_moves_or_is_named(url: str) -> None:
    PostgresStore(url).close()
    with closing(in_memory(steps())) as connection:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        }
        columns = {(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
        totals = {name for (name,) in connection.execute("SELECT name FROM total")}
    left_out = {name for name in LEFT_OUT if "." not in name}
    assert tables == {*MOVED, *left_out}
    moved = {(table, name) for table, name in columns if table in MOVED and f"{table}.{name}" not in LEFT_OUT}
    with psycopg.connect(url) as database:
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        found = {(table, name) for table, name in database.execute(query) if table in MOVED}
    assert found - moved == {("delivery", "process"), ("inflight", "process")}
    assert moved <= found
    assert totals - set(UNMOVED_TOTALS) == {
        "studies", "series", "instances", "rejected", "skipped", "instances_counted",
    }  # fmt: skip


def test_the_database_answers_as_the_file(bench: Bench, path: Path, url: str) -> None:
    summary = move(path, url, silent)
    assert summary.rows["study"] == 7
    assert summary.moved_before == 0
    assert_same(bench, path, url)


def test_daemons_go_on_as_with_the_file(bench: Bench, path: Path, url: str) -> None:
    move(path, url, silent)
    options: dict[str, Any] = {"clock": bench.wall_clock, "steady": lambda: 0.0, "reader": "new reader"}
    old, new = SqliteStore(path, min_free_bytes=0, **options), PostgresStore(url, **options)
    with closing(old), closing(new):
        for store in (old, new):
            store.set_destinations([DEST, SECOND])
            store.resume(SECOND)
            store.forget("1.6")
            store.add(record(50, study="1.8"), over("b"))
            store.reject(Rejection(bench.now, Origin("file"), "again", "not-dicom"))
            store.association_ended("b")
        assert old.stats() == new.stats()
        bench.later(2_000)
        for destination in (DEST, SECOND):
            # those that are due at the same moment are claimed in either order
            claims = [sorted(store.claim(destination, "w", LEASE_S, most=20), key=str) for store in (old, new)]
            assert claims[0] == claims[1]
            assert claims[0]
        assert not new.study_status("1.5").association_open  # type: ignore[union-attr]  # the daemon that had it has ended


@pytest.mark.parametrize("batches", [1, 2, 20, 40, 100])
def test_a_run_that_was_killed_is_resumed(bench: Bench, path: Path, url: str, batches: int) -> None:
    command = [sys.executable, "-c", MOVES_A_PART, str(path), url, str(batches)]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -9
    with pytest.raises(ConfigError, match=r"holds a part of the store .* run `dicom2fhir store migrate` again"):
        PostgresStore(url)
    with pytest.raises(ConfigError, match="holds a part of the store"):
        PostgresStore.open_readonly(url)
    summary = move(path, url, silent)
    assert 0 < summary.moved_before <= sum(summary.rows.values()) or batches == 1
    assert_same(bench, path, url)


def test_a_store_that_changed_between_two_runs_is_not_accepted(bench: Bench, path: Path, url: str) -> None:
    command = [sys.executable, "-c", MOVES_A_PART, str(path), url, "100"]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -9
    with closing(SqliteStore(path, min_free_bytes=0)) as store:
        store.add_many([record(99, study="1.1", Rows="1")], Origin("file"))
    with pytest.raises((StoreDamaged, StoreUnavailable), match="new database"):
        move(path, url, silent)
    with pytest.raises(ConfigError, match="holds a part"):
        PostgresStore(url)


def test_a_row_that_was_lost_is_noticed(bench: Bench, path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_one(step: str, done: int, _total: int) -> None:
        if step == "comparing" and not done:
            with psycopg.connect(url) as connection:
                connection.execute("UPDATE attempt SET answer = answer || 'x'")

    with pytest.raises(StoreDamaged, match="Table attempt in postgresql://"):
        move(path, url, lose_one)


def test_what_is_refused(bench: Bench, path: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        move(tmp_path / "none" / "store.db", url, silent)
    with closing(SqliteStore(path, min_free_bytes=0)), pytest.raises(StoreInUse, match="is using the store"):
        move(path, url, silent)
    with pytest.raises(ConfigError, match=r"has tables already \(attempt, attrs, availability...\)"):
        move(path, cluster().new_database(), silent)
    with pytest.raises(StoreUnavailable, match="cannot be"):
        move(path, "postgresql://u:secret@127.0.0.1:1/d", silent)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)

    def use_it(_step: str, _done: int, _total: int) -> None:
        with closing(SqliteStore.attach(path, busy_timeout_s=0.01)) as beside, pytest.raises(StoreUnavailable):
            beside.reject(Rejection(0.0, Origin("file"), "late"))
        with pytest.raises(StoreInUse):
            SqliteStore(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(path, url, use_it)
    other = tmp_path / "other" / "store.db"
    SqliteStore(other, min_free_bytes=0).close()
    with pytest.raises(ConfigError, match=r"holds part of .*Name a new database"):
        move(other, url, silent)
    assert isinstance(move(path, url, silent), Moved)
    with pytest.raises(ConfigError, match="has tables already"):
        move(path, url, silent)


def test_a_daemon_updates_what_was_delivered_from_the_file(tmp_path: Path, url: str) -> None:
    first, second = ct_instances(2, 1, slices=2)
    with memory_server(Manner()) as server:
        settings = f'[destinations.main]\ntype = "fhir"\nurl = "{server.url}"\n'
        old = DaemonProcess(tmp_path / "old", (), settings)
        new = DaemonProcess(tmp_path / "new", (), settings, database=url)
        try:
            old.start()
            send(old, first, tmp_path / "first")
            refused = run_here("store", "migrate", url, "--state-dir", old.state_dir)
            assert refused.status == 74
            assert "is using the store" in refused.stderr
            assert old.terminate() == 0
            transactions = server.transactions

            moved = run_here("store", "migrate", url, "--state-dir", old.state_dir, "--json")
            assert moved.status == 0, moved.stderr
            assert moved.json["rows"]["instance"] == 1
            assert moved.json["target"].startswith("postgresql://")
            new.start()
            assert new.settled().delivered == 1
            assert server.transactions == transactions, "what was delivered is not sent again"
            send(new, second, tmp_path / "second")
            (study,) = server.all("ImagingStudy")
            assert study["numberOfInstances"] == 2
        finally:
            old.clean_up()
            new.clean_up()


def send(daemon: DaemonProcess, instance: EncodedInstance, ledger: Path) -> None:
    """Send an instance, and wait until its study is delivered."""
    with Load(daemon, Ledger(ledger), [instance]) as load:
        load.ends()
    daemon.settled()


def test_what_the_command_says(bench: Bench, path: Path, url: str) -> None:
    done = run_here("store", "migrate", url, "--state-dir", path.parent)
    assert done.status == 0, done.stderr
    text = done.stdout.decode()
    assert f"{path} was moved to postgresql://" in text
    assert "7 studies and 11 instances" in text
    assert "replace directory by the url" in text
    again = run_here("store", "migrate", url, "--state-dir", path.parent)
    assert again.status == 78
    assert "has tables already" in again.stderr
