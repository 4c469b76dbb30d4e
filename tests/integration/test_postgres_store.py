"""What is PostgreSQL's own in the store; what every store promises is in ``tests/store_contract``."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog

from dicom2fhir.errors import ConfigError, StoreInUse, StoreUnavailable
from dicom2fhir.model import Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.postgres import node
from dicom2fhir.store.postgres.schema import queries
from dicom2fhir.store.postgres.store import PostgresStore
from dicom2fhir.store.postgres.writer import WriteConnection
from dicom2fhir.store.sql import arrivals
from dicom2fhir.store.statuses import Rejection, State
from dicom2fhir.store.study_search import StudyFilter
from tests.postgres_cluster import Cluster, cluster
from tests.store_contract.bench import DEST, FOLDER, changes, claimed, delivered, over, record, step

pytestmark = pytest.mark.needs("postgres")

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0
A_HOLDER = """
import sys, time
from dicom2fhir.store.postgres.store import PostgresStore
from tests.store_contract.bench import DEST, over, record
store = PostgresStore(sys.argv[1], quiet_period_s=0, max_wait_s=900)
store.set_destinations([DEST])
store.add(record(study="1.1"), over("a"))
store.add_many([record(study="1.2")], over(""))
assert store.claim(DEST, "w", 600)
print("holds", flush=True)
time.sleep(600)
"""


@pytest.fixture
def url() -> str:
    return cluster().new_database()


@contextmanager
def nodes(url: str, number: int = 2, quiet_period_s: float = 0.0) -> Iterator[list[PostgresStore]]:
    stores = [PostgresStore(url, quiet_period_s=quiet_period_s, max_wait_s=900.0) for _ in range(number)]
    try:
        stores[0].set_destinations([DEST])
        yield stores
    finally:
        for store in stores:
            store.close()


@pytest.fixture
def pair(url: str) -> Iterator[list[PostgresStore]]:
    with nodes(url) as stores:
        yield stores


def asked(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end, "it does not come"
        threading.Event().wait(0.02)


def together(calls: list[Callable[[], None]]) -> None:
    """Make the calls in threads; the first error is raised here."""
    errors: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# Several daemons


def test_who_changes_a_study_waits_for_who_has_locked_it_before_it_looks(url: str, pair: list[PostgresStore]) -> None:
    store, _ = pair
    store.add_many([record(1)], over(""))
    waits = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM study WHERE uid = '1.1' FOR UPDATE")
        adding = threading.Thread(target=store.add_many, args=([record(2)], over("")))
        adding.start()
        wait_until(lambda: bool(asked(url, waits)))
        assert ["known_study" in str(query) for (query,) in asked(url, waits)] == [True]
    adding.join()
    status = store.study_status("1.1")
    assert status is not None
    assert status.instances == 2


def test_each_study_is_claimed_once(pair: list[PostgresStore]) -> None:
    for number in range(60):
        pair[number % 2].add(record(study=f"1.{number}"), FOLDER)
    found: list[str] = []

    def work(store: PostgresStore, owner: str) -> None:
        while claims := store.claim(DEST, owner, 600, most=3, workers=4):
            found.extend(claim.study_uid for claim in claims)

    together([partial(work, store, f"{number}.{n}") for number, store in enumerate(pair) for n in range(2)])
    assert sorted(found) == sorted(f"1.{number}" for number in range(60))


def test_daemons_that_receive_one_study_lose_nothing(url: str, pair: list[PostgresStore]) -> None:
    def send(store: PostgresStore, first: int) -> None:
        for number in range(first, first + 40):
            store.add(record(number, series=f"1.1.{number % 3}"), over(f"a{first}"))
        store.association_ended(f"a{first}")

    senders = [(pair[number // 2], number * 40) for number in range(4)]
    together([partial(send, *sender) for sender in senders])
    status = pair[0].study_status("1.1")
    assert status
    assert (status.revision, status.instances, status.series, status.association_open) == (160, 160, 3, False)
    stats = pair[1].stats()
    assert (stats.studies, stats.series, stats.instances, stats.waiting) == (1, 3, 160, 1)
    claim = claimed(pair[1], DEST, "w", 60)
    assert claim is not None
    assert claim.revision == 160


def test_the_last_of_several_daemons_that_end_associations_makes_the_study_due(pair: list[PostgresStore]) -> None:
    for turn in range(20):
        uid = f"1.{turn}"
        for number, store in enumerate(pair):
            store.add(record(number, study=uid), over(f"{turn}.{number}"))
        together([partial(store.association_ended, f"{turn}.{number}") for number, store in enumerate(pair)])
        claim = claimed(pair[0], DEST, "w", 60)
        assert claim is not None
        assert claim.study_uid == uid


def test_a_deadlock_is_ended_and_nobody_notices(pair: list[PostgresStore]) -> None:
    studies = [f"1.{number}" for number in range(8)]

    def send(store: PostgresStore, order: list[str], first: int) -> None:
        for turn in range(15):
            store.add_many([record(first + turn, study=uid) for uid in order], FOLDER)

    together([lambda: send(pair[0], studies, 0), lambda: send(pair[1], studies[::-1], 100)])
    assert [pair[0].study(uid).revision for uid in studies] == [30] * 8  # type: ignore[union-attr]
    assert pair[0].stats().instances == 240


def test_a_study_that_changes_while_another_daemon_sends_it_is_sent_again(pair: list[PostgresStore]) -> None:
    pair[0].add(record(1), FOLDER)
    claim = claimed(pair[1], DEST, "w", 60)
    assert claim is not None
    pair[0].add(record(2), FOLDER)
    delivered(pair[1], claim, claim.revision)
    status = pair[0].study_status("1.1")
    assert status is not None
    assert (status.deliveries[0].state, status.deliveries[0].delivered_revision) == (State.WAITING, 1)


def test_a_destination_gets_studies_that_are_added_meanwhile(pair: list[PostgresStore]) -> None:
    def send() -> None:
        for number in range(80):
            pair[0].add(record(study=f"1.{number}"), FOLDER)

    def enter() -> None:
        pair[1].set_destinations([DEST, "second"])

    together([send, enter])
    assert pair[0].stats().waiting == 160


def test_daemons_wake_each_other(pair: list[PostgresStore]) -> None:
    assert_wakes(*pair)


def assert_wakes(other: PostgresStore, store: PostgresStore) -> None:
    """What the other one commits wakes this one, which may not listen yet."""
    woken = threading.Event()
    store.subscribe(woken.set)

    def is_woken() -> bool:
        other.add(record(study=f"1.{time.monotonic_ns()}"), FOLDER)
        return woken.wait(0.2)

    wait_until(is_woken)


def test_the_clock_is_that_of_the_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    with nodes(url, quiet_period_s=30.0) as (store, _):
        monkeypatch.setattr(time, "time", lambda: 9e9)
        before = float(str(asked(url, "SELECT extract(epoch FROM clock_timestamp())")[0][0]))
        store.add(record(), FOLDER)
        due_at = store.next_due_at(DEST)
        after = float(str(asked(url, "SELECT extract(epoch FROM clock_timestamp())")[0][0]))
        assert due_at is not None
        assert before + 29.9 <= due_at <= after + 30.1


# One statement for most instances


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is executed on connections that write."""
    said: list[str] = []
    execute = WriteConnection.execute

    def record_it(self: WriteConnection, query: Any, *arguments: Any, **options: Any) -> Any:
        said.append(query.decode() if isinstance(query, bytes) else query)
        return execute(self, query, *arguments, **options)

    monkeypatch.setattr(WriteConnection, "execute", record_it)
    return said


def test_an_instance_over_an_association_that_holds_its_study_takes_one_statement(
    pair: list[PostgresStore], statements: list[str]
) -> None:
    store = pair[0]
    store.add(record(1), over("a"))
    pair[1].add(record(2), over("b"))
    statements.clear()
    store.add(record(3), over("a"))
    store.add(record(3), over("a"))
    store.add(record(3, Rows="1"), over("a"))
    assert len(statements) == 3
    status = pair[1].study_status("1.1")
    assert status
    assert (status.revision, status.instances, status.series) == (4, 3, 1)
    assert status.deliveries[0].due_at > time.time() + 800, "it waits for the end of the associations"
    statements.clear()
    store.add(record(4), over("other"))
    assert len(statements) > 3


def test_many_new_studies_take_as_many_statements_as_one(pair: list[PostgresStore], statements: list[str]) -> None:
    """With the beginning and the end of the transaction, and the notification of the other daemons."""
    store, taken = pair[0], []
    for studies in (1, 50):
        statements.clear()
        store.add_many([record(n, study=f"{studies}.{n % studies}") for n in range(100)], over(f"a{studies}"))
        taken.append(len(statements))
    assert taken == [11, 11]
    stats = pair[1].stats()
    assert (stats.studies, stats.series, stats.instances, stats.waiting) == (51, 51, 200, 51)


def test_daemons_that_add_the_same_new_studies_lose_nothing(pair: list[PostgresStore]) -> None:
    """Each finds some of them just added by the other."""

    def send(store: PostgresStore, turn: int, number: int) -> None:
        store.add_many([record(number, study=f"{turn}.{n}") for n in range(40)], FOLDER)

    for turn in range(10):
        together([partial(send, store, turn, number) for number, store in enumerate(pair)])
    stats = pair[0].stats()
    assert (stats.studies, stats.series, stats.instances, stats.waiting) == (400, 400, 800, 400)
    assert {study.revision for study in pair[1].studies(limit=400)} == {2}


def is_due(store: PostgresStore) -> bool:
    return claimed(store, DEST, "w", 60) is not None


@pytest.mark.parametrize("state", ["delivered", "refused", "excluded", "sending"])
def test_what_another_daemon_did_with_a_study_is_noticed(pair: list[PostgresStore], state: str) -> None:
    first, second = pair
    first.add(record(1), over("a"))
    second.requeue("1.1")
    claim = claimed(second, DEST, "w", 60)
    assert claim is not None
    if state == "delivered":
        delivered(second, claim, claim.revision)
    elif state == "refused":
        second.refuse(claim, claim.revision, "no")
    elif state == "excluded":
        second.exclude(claim, "no", "")
    first.add(record(2), over("a"))
    if state == "sending":
        delivered(second, claim, claim.revision)
    first.association_ended("a")
    again = claimed(second, DEST, "w", 60)
    assert again is not None
    assert again.revision == 2


def test_a_study_that_another_daemon_has_forgotten_is_a_new_one(pair: list[PostgresStore]) -> None:
    first, second = pair
    first.add(record(1), over("a"))
    first.association_ended("a")
    first.add(record(1), over("b"))
    second.forget("1.1")
    first.add(record(2), over("b"))
    study = first.study("1.1")
    assert study is not None
    assert [one.uid for series in study.series for one in series.instances] == ["1.9.2"]


def test_a_step_that_another_daemon_learns_of_awaits_instances(pair: list[PostgresStore]) -> None:
    first, second = pair
    first.add(record(1), over("a"))
    second.create_step(step(), over("m"))
    second.update_step("1.6.1", changes(instances=(1, 2)))
    first.add(record(2), over("a"))
    status = first.study_status("1.1")
    assert status
    assert status.missing == 0
    assert is_due(second), "the study is complete, although the association is open"


def test_what_an_import_holds_is_not_released_by_a_daemon_that_ends(url: str, pair: list[PostgresStore]) -> None:
    with closing(PostgresStore.attach(url)) as importing:
        importing.add_many([record(study="1.1")], over("backfill"))
    with closing(PostgresStore.attach(url)) as importing:
        with nodes(url, 1):
            pass
        assert claimed(pair[0], DEST, "w", 60) is None
        importing.association_ended("backfill")
    assert claimed(pair[0], DEST, "w", 60)


def test_a_hold_that_was_released_holds_no_more(url: str, pair: list[PostgresStore]) -> None:
    """As others do with a daemon that they take for dead, before it notices."""
    first, second = pair
    first.add(record(1), over("a"))
    asked(url, "DELETE FROM inflight")
    first.add(record(2), over("a"))
    assert is_due(second)


# Daemons that die


def test_what_a_dead_daemon_had_is_released(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "BEAT_S", 0.05)
    command = [sys.executable, "-c", A_HOLDER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as dead, nodes(url, 1) as (store,):
        assert dead.stdout is not None
        try:
            assert dead.stdout.readline() == "holds\n"
        finally:
            dead.kill()
        assert claimed(store, DEST, "w", 60) is None
        held = store.study_status("1.1")
        assert held is not None
        assert held.association_open
        late = "UPDATE node SET seen_at = seen_at - interval '1 hour'"
        count = asked(url, f"{late} WHERE name <> '{node.node_name()}' RETURNING id")
        assert len(count) == 1
        wait_until(lambda: store.stats().sending == 0)
        assert {claimed(store, DEST, "w", 60).study_uid for _ in range(2)} == {"1.1", "1.2"}  # type: ignore[union-attr]
        assert store.stats().instances == 2
        wait_until(lambda: len(asked(url, "SELECT DISTINCT process FROM counter")) == 1)


def test_a_daemon_that_was_taken_for_dead_comes_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "BEAT_S", 0.05)
    with nodes(url, 1) as (store,):
        store.declare_destinations({DEST: "a"}, may_differ=False)
        store.add(record(), over("a"))
        asked(url, "DELETE FROM node; DELETE FROM inflight")
        wait_until(lambda: store.is_owned)
        store.add(record(2), over("a"))
        status = store.study_status("1.1")
        assert status is not None
        assert status.association_open
        assert asked(url, "SELECT destinations->>'main' FROM node") == [("a",)]


def test_daemons_that_share_a_store_have_the_same_destinations(url: str, pair: list[PostgresStore]) -> None:
    first, second = pair
    first.declare_destinations({DEST: "a", "x": "b"}, may_differ=False)
    second.declare_destinations({DEST: "a", "x": "b"}, may_differ=False)
    with pytest.raises(
        StoreInUse, match=rf"{node.node_name()} .*\[destinations\]: main has another address there, x is"
    ):
        second.declare_destinations({DEST: "c"}, may_differ=False)
    with pytest.raises(StoreInUse, match="y is only here"):
        second.declare_destinations({DEST: "a", "x": "b", "y": "d"}, may_differ=False)
    with structlog.testing.capture_logs() as logs:
        second.declare_destinations({DEST: "c"}, may_differ=True)
        first.declare_destinations({DEST: "c"}, may_differ=True)
    assert [(line["event"], line["differences"]) for line in logs] == [
        ("config.diverged", ["main has another address there", "x is only there"])
    ], "only the first that changes them"
    with nodes(url, 1) as (third,):
        with pytest.raises(StoreInUse):
            third.declare_destinations({DEST: "a"}, may_differ=False)
        third.declare_destinations({DEST: "c"}, may_differ=False)
        assert third.add_many([record()], FOLDER) == [Change.NEW], "a refusal is not a failure of the store"


def test_destinations_of_a_dead_daemon_do_not_count(url: str, pair: list[PostgresStore]) -> None:
    pair[0].declare_destinations({DEST: "a"}, may_differ=False)
    with pytest.raises(StoreInUse):
        pair[1].declare_destinations({DEST: "c"}, may_differ=False)
    asked(url, "UPDATE node SET seen_at = seen_at - interval '1 hour' WHERE destinations IS NOT NULL")
    pair[1].declare_destinations({DEST: "c"}, may_differ=False)


def test_a_daemon_that_stops_leaves_nothing(url: str, pair: list[PostgresStore]) -> None:
    pair[0].add(record(), over("a"))
    pair[0].close()
    assert asked(url, "SELECT count(*) FROM node") == [(1,)]
    assert claimed(pair[1], DEST, "w", 60) is not None


# The server


def test_what_was_acknowledged_is_there_after_a_crash_of_the_server() -> None:
    server = Cluster()
    try:
        url = server.new_database()
        with nodes(url, 1) as (store,):
            store.add(record(1), FOLDER)
            server.stop()
            with pytest.raises(StoreUnavailable):
                store.add(record(2), FOLDER)
            with pytest.raises(StoreUnavailable):
                store.stats()
            server.start()
            assert store.add_many([record(3)], FOLDER) == [Change.NEW]
            assert store.failure is None
            study = store.study("1.1")
            assert study is not None
            assert store.stats().instances == 2
            with closing(PostgresStore.attach(url)) as other:
                assert_wakes(other, store)
    finally:
        server.remove()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_commits_is_refused(setting: str) -> None:
    server = Cluster({setting: "off"})
    try:
        with pytest.raises(StoreUnavailable, match=f"{setting} is off"):
            PostgresStore(server.new_database(is_empty=True))
    finally:
        server.remove()


def test_commits_wait_for_the_disk_whatever_the_database_says(url: str) -> None:
    name = url.rpartition("/")[2].partition("?")[0]
    asked(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert asked(url, "SHOW synchronous_commit") == [("off",)]
    with nodes(url, 1) as (store,):
        assert store._commit_connection
        assert store._commit_connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_an_unreachable_server_and_a_wrong_url() -> None:
    with pytest.raises(StoreUnavailable, match=r"postgresql://127\.0\.0\.1:1/store cannot be opened") as refused:
        PostgresStore("postgresql://user:secret@127.0.0.1:1/store")
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="not a connection URL"):
        PostgresStore("postgresql://[")


def test_a_store_is_made_by_a_daemon_alone() -> None:
    url = cluster().new_database(is_empty=True)
    for way in (PostgresStore.open_readonly, PostgresStore.attach):
        with pytest.raises(StoreUnavailable, match="start the daemon once"):
            way(url)
    made: list[PostgresStore] = []
    together([lambda: made.append(PostgresStore(url))] * 2)
    for store in made:
        store.close()
    asked(url, "UPDATE dicom2fhir_store SET version = 99")
    with pytest.raises(ConfigError, match="version 99"):
        PostgresStore(url)


# What PostgreSQL cannot store as it is


def test_texts_of_any_kind_and_length(pair: list[PostgresStore]) -> None:
    store, long = pair[0], "\u65e5" * 1_000
    store.add(replace(record(), study={"AccessionNumber": "1\0", "StudyDescription": "a\0b"}), FOLDER)
    store.add(replace(record(2), patient={"PatientID": long}), Origin("folder", folder=f"/{long}", path="/x"))
    study = store.study("1.1")
    assert study is not None
    path = "/" + "\udcff" * 4_000
    store.mark_file(FileMark(path, 1, 1, "taken"))
    assert store.file_mark(path) is not None
    while store.update_index():
        pass
    assert [one.status.study_uid for one in store.find_studies(StudyFilter(patient_id=long))] == ["1.1"]
    claim = claimed(store, DEST, "w", 60)
    assert claim is not None
    store.refuse(claim, claim.revision, "no\0")
    assert store.studies(State.REFUSED)[0].deliveries[0].reason == "no\ufffd"


def test_an_instance_that_comes_twice_in_a_batch(pair: list[PostgresStore]) -> None:
    first, other = record(1, Rows="1"), record(1, Rows="2")
    assert pair[0].add_many([first, other, first, record(2)], FOLDER) == [
        Change.NEW, Change.CHANGED, Change.CHANGED, Change.NEW,
    ]  # fmt: skip
    assert pair[0].study("1.1").revision == 4  # type: ignore[union-attr]


# Statements


GROWING = (
    "study series attrs instance sealed delivery base study_key study_index attempt file origin mention availability"
)


def test_no_statement_scans_a_table_that_grows(url: str) -> None:
    scans = re.compile(rf"Seq Scan on ({GROWING.replace(' ', '|')})\b")
    allowed = {"lacking_studies"}  # a new destination gets every study
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET dicom2fhir.process = 1")
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            connection.execute(f"SET {setting} = off".encode())
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for name, query in queries().items():
            names = dict.fromkeys(re.findall(r"%\((\w+)\)s", query))
            for number, parameter in enumerate(names, start=1):
                query = query.replace(f"%({parameter})s", f"${number}")
            connection.execute(f"PREPARE {name} AS {query}".replace("%%", "%").encode())
            nulls = f"({', '.join(['NULL'] * len(names))})" if names else ""
            plan = "\n".join(str(row[0]) for row in connection.execute(f"EXPLAIN EXECUTE {name}{nulls}".encode()))
            assert name in allowed or not scans.search(plan), f"{name}:\n{plan}"


def test_the_oldest_rejections_are_forgotten(pair: list[PostgresStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "KEPT_REJECTIONS", 2)
    for number in range(4):
        pair[number % 2].reject(Rejection(float(number), FOLDER, str(number)))
    assert [one.reason for one in pair[0].rejections()] == ["3", "2"]
    assert pair[0].stats().rejected == 4


def test_a_command_beside_the_daemons(url: str, pair: list[PostgresStore]) -> None:
    with closing(PostgresStore.attach(url)) as command:
        command.add(record(), FOLDER)
        with pytest.raises(StoreUnavailable, match="not opened to deliver"):
            command.claim(DEST, "w", 60)
    assert pair[0].stats().instances == 1
    with closing(PostgresStore.open_readonly(url)) as reading, pytest.raises(StoreUnavailable, match="read-only"):
        reading.add(record(2), FOLDER)
