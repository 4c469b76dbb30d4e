"""What is SQLite's own in the store; what every store promises is in ``tests/store_contract``."""

from __future__ import annotations

import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import OutOfSpace, StoreDamaged, StoreInUse, StoreUnavailable, StudyBusy
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sql import deliveries, study_index
from dicom2fhir.store.sql.arrivals import KEPT_REJECTIONS
from dicom2fhir.store.sqlite.schema import queries
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection, State
from dicom2fhir.store.study_search import StudyFilter
from tests.store_contract.bench import (
    DEST,
    FOLDER,
    MAX_WAIT_S,
    QUIET_S,
    Bench,
    Sqlite,
    claimed,
    delivered,
    over,
    record,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(Sqlite(tmp_path))
    yield made
    made.store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of ``bench``."""
    return tmp_path / "store.db"


# What is kept


def test_equal_mappings_are_one_object_when_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[InstanceRecord] = []
    monkeypatch.setattr(
        "dicom2fhir.store.sql.study_rows.assemble",
        lambda _uid, _revision, records, *_: seen.extend(records),
    )
    for number in range(3):
        bench.store.add(record(number), FOLDER)
    bench.store.study("1.1")
    assert len(seen) == 3
    assert all(one.patient is seen[0].patient and one.series is seen[0].series for one in seen)


def test_a_bad_record_leaves_the_others_of_its_batch_alone(bench: Bench) -> None:
    with pytest.raises(TypeError):
        bench.store.add(replace(record(), sop_uid="\ud800"), FOLDER)
    assert bench.store.stats().studies == 0
    assert bench.add(record()) is Change.NEW


def test_a_plain_slice_costs_at_most_600_bytes(bench: Bench, path: Path) -> None:
    root = "1.2.826.0.1.3680043.8.498.45787841905188114249328107461"
    for number in range(600):
        slice_ = record(number, study=root, series=f"{root}.1", AcquisitionDate="20240101", AcquisitionTime="101010.12")
        bench.store.add(replace(slice_, sop_uid=f"{root}.1.{number}"), over("a"))
    bench.store.close()
    assert path.stat().st_size / 600 <= 600


# Looking and asking again


def test_everything_is_made_due_again_in_several_commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "AT_ONCE", 2)
    bench.store.set_destinations([DEST, "second"])
    for number in range(5):
        bench.store.add(record(study=f"1.{number}"), FOLDER)
    bench.later(QUIET_S)
    for destination in (DEST, "second"):
        for claim in [bench.claim(f"w{number}", destination) for number in range(5)]:
            delivered(bench.store, claim, 1, b"")
    assert bench.store.requeue() == 0
    assert bench.store.requeue(destination="second", all_states=True) == 5
    assert (bench.state("1.4"), bench.state("1.4", "second")) == (State.DELIVERED, State.WAITING)
    assert bench.store.requeue(all_states=True) == 10
    assert bench.store.stats().waiting == 10
    assert bench.claim(destination="second").again
    assert bench.store.requeue("1.9", all_states=True) == 0


def test_counters_agree_with_the_rows(bench: Bench, path: Path) -> None:
    draw = random.Random(7)
    bench.store.set_destinations([DEST, "second"])
    for _ in range(300):
        name = draw.choice([DEST, "second"])
        match draw.randrange(8):
            case 0 | 1 | 2:
                study = f"1.{draw.randrange(5)}"
                series = f"{study}.{draw.randrange(3)}"
                bench.store.add(record(draw.randrange(9), study, series), draw.choice([FOLDER, over("a")]))
            case 3:
                bench.later(draw.choice([1.0, QUIET_S, MAX_WAIT_S]))
            case 4:
                bench.store.association_ended("a")
            case 5:
                if draw.random() < 0.2:
                    other = SqliteStore.attach(path, clock=bench.wall_clock)
                    with suppress(StudyBusy):
                        other.forget(f"1.{draw.randrange(5)}")
                    other.close()
            case 6:
                if draw.random() < 0.2:
                    bench.store.requeue(f"1.{draw.randrange(5)}", name, all_states=True)
            case _:
                claim = claimed(bench.store, name, "w", 10)
                if claim:
                    outcome = draw.randrange(4)
                    if outcome == 0:
                        delivered(bench.store, claim, claim.revision, b"", f"R{draw.randrange(3)}")
                    elif outcome == 1:
                        bench.store.refuse(claim, claim.revision, "no")
                    elif outcome == 2:
                        bench.store.retry(claim, 5, "down")
    bench.later(MAX_WAIT_S)
    for claim in iter(lambda: claimed(bench.store, DEST, "w", 10), None):
        delivered(bench.store, claim, claim.revision, b"", f"R{draw.randrange(3)}")
    stats = bench.store.stats()
    with sqlite3.connect(path) as connection:
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM study), (SELECT count(DISTINCT series_id) FROM instance),"
            " (SELECT count(*) FROM instance)"
        ).fetchone()
        made = connection.execute(
            "SELECT name, delivery.recipe, count(*) FROM delivery JOIN destination ON id = destination_id"
            " WHERE state = 'delivered' AND delivery.recipe <> destination.recipe GROUP BY name, delivery.recipe"
        ).fetchall()
        states = dict(connection.execute("SELECT state, count(*) FROM delivery GROUP BY state").fetchall())
    connection.close()
    assert (stats.studies, stats.series, stats.instances) == counted
    assert {state: getattr(stats, state) for state in State if getattr(stats, state)} == states
    assert made
    assert [(d.name, *other) for d in bench.store.destinations() for other in d.others.items()] == made


def test_the_oldest_rejections_are_forgotten(bench: Bench, path: Path) -> None:
    bench.store.reject(Rejection(1.0, FOLDER, "first"))
    bench.store.reject(Rejection(2.0, FOLDER, "second"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rejection SET id = ? WHERE reason = 'first'", (KEPT_REJECTIONS,))
    bench.store.reject(Rejection(3.0, FOLDER, "third"))
    bench.store.reject(Rejection(4.0, FOLDER, "fourth"))
    assert [rejection.reason for rejection in bench.store.rejections()] == ["fourth", "third", "first"]
    assert bench.store.stats().rejected == 4


# Waking, space, failure


def test_who_subscribed_is_not_told_when_nothing_is_due_sooner(bench: Bench) -> None:
    told: list[str] = []
    bench.store.add(record(1), over("a"))
    bench.store.subscribe(lambda: told.append("wake"))
    bench.store.add(record(2), over("a"))
    bench.store.add(record(2), over("a"))
    bench.later(MAX_WAIT_S)
    bench.deliver()
    # The next commit comes after the callback of the one before.
    bench.store.mark_file(FileMark("/x", 1, 1, "taken"))
    assert told == []


def test_below_the_watermark_nothing_is_taken(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=1 << 62)
    try:
        with pytest.raises(OutOfSpace):
            store.add(record(), FOLDER)
        assert store.failure is None
        assert store.stats().instances == 0
    finally:
        store.close()


def test_a_full_file_fails_the_call_and_then_every_other(tmp_path: Path) -> None:
    reasons: list[str] = []
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0, on_failure=reasons.append)
    try:
        store.add(record(1), FOLDER)
        assert store._writer is not None
        store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count=1").fetchone())
        kept = 1
        with pytest.raises(StoreUnavailable):
            for number in range(2, 1_000):
                store.add(record(number, Comment="x" * 900), FOLDER)
                kept += 1
        assert store.failure is not None and "full" in store.failure
        assert reasons == [store.failure]
        with pytest.raises(StoreUnavailable):
            store.mark_file(FileMark("/x", 1, 1, "taken"))
        assert store.stats().instances == kept
    finally:
        store.close()
    again = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    assert again.stats().instances == kept
    assert again.add_many([record(5_000)], FOLDER) == [Change.NEW]
    again.close()


def test_a_busy_file_is_no_failure(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0, busy_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locking the store"):
            store.add(record(), FOLDER)
        assert store.failure is None
        other.execute("ROLLBACK")
        assert store.add_many([record()], FOLDER) == [Change.NEW]
    finally:
        other.close()
        store.close()


def test_closing_closes_every_file_and_brings_the_log_home(bench: Bench, path: Path) -> None:
    bench.store.add(record(), FOLDER)
    bench.store.stats()
    bench.store.close()
    open_files = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert not [name for name in open_files if name.startswith(str(path))]
    assert sorted(path.name for path in path.parent.iterdir()) == [
        "store.db",
        "store.db.lock",
        "store.db.progress",
    ]


# Forgotten


def rows_that_name(path: Path, study_id: int) -> dict[str, int]:
    """Tables with rows of a study."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {}
    for table in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = "study_id" if "study_id" in columns else "id" if table == "study" else None
        if column:
            question = f"SELECT count(*) FROM {table} WHERE {column} = ?"
            (found[table],) = connection.execute(question, (study_id,)).fetchone()
    connection.close()
    return {table: count for table, count in found.items() if count}


def test_no_row_is_left_of_a_study_that_is_forgotten(bench: Bench, path: Path) -> None:
    store = bench.store
    store.add_many([record(1), replace(record(2), patient={"PatientID": "P2"})], over("a"))
    store.settle("1.1", {one.key: Verdict.WRONG for one in store.patients("1.1")})
    bench.deliver()
    store.add(record(1), Origin("folder", folder="/inbox"))
    store.update_index()
    store.add(record(3, study="1.2"), FOLDER)
    tables = {"study", "series", "instance", "attrs", "delivery", "base", "inflight", "origin", "settlement"}
    assert tables | {"source_folder", "study_index", "study_key", "attempt"} <= set(rows_that_name(path, 1))
    assert store.forget("1.1")
    assert rows_that_name(path, 1) == {}


def test_a_sealed_study_whose_block_is_damaged(bench: Bench, path: Path) -> None:
    """It is reported and refused, until a person forgets it; nothing else is concerned."""
    store = bench.store
    for study in ("1.1", "1.2"):
        store.add(record(study=study), FOLDER)
    bench.later(QUIET_S)
    for _ in range(2):
        bench.deliver()
    bench.later(1)
    assert store.seal_delivered(0) == ["1.1", "1.2"]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sealed SET block = x'00' WHERE study_id = 1")
    with pytest.raises(StoreDamaged, match="damaged"):
        store.study("1.1")
    with pytest.raises(StoreDamaged, match="damaged"):
        store.add(record(2, study="1.1"), FOLDER)
    store.add(record(2, study="1.2"), FOLDER)
    assert [bench.status(study).instances for study in ("1.1", "1.2")] == [1, 2]
    assert rows_that_name(path, 1)["sealed"] == 1
    assert store.forget("1.1")
    assert rows_that_name(path, 1) == {}
    store.add(record(2, study="1.1"), FOLDER)
    assert store.stats().instances == 3


# Other processes


def test_only_one_owner(bench: Bench, path: Path) -> None:
    with pytest.raises(StoreInUse, match="Another dicom2fhir"):
        SqliteStore(path)
    bench.store.add(record(), FOLDER)
    assert bench.restart().stats().instances == 1


def test_reading_beside_the_owner(bench: Bench, path: Path) -> None:
    looking = SqliteStore.open_readonly(path)
    bench.store.add(record(), FOLDER)
    assert looking.stats().instances == 1
    assert looking.study("1.1") == bench.store.study("1.1")
    assert looking.failure is None
    with pytest.raises(StoreUnavailable, match="read-only"):
        looking.requeue()
    looking.close()
    bench.store.close()
    looking = SqliteStore.open_readonly(path)
    assert looking.stats().instances == 1
    looking.close()


@pytest.mark.parametrize("way", [SqliteStore.open_readonly, SqliteStore.attach])
def test_no_store_to_look_at(tmp_path: Path, way: Callable[[Path], SqliteStore]) -> None:
    with pytest.raises(StoreUnavailable, match="no store at"):
        way(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


# Plans

STAY_SMALL = {
    "destination": "as many as are configured",
    "tally": "five rows for each destination",
    "total": "six rows",
    "due_rule": "one row",
    "rejected": "one row for each kind of refusal",
    "made": "one row for each destination and what its deliveries are or were made with",
    "inflight": "open associations times their studies",
    "reader": "one row for each version that read something",
    "note": "the notes of one instance, as a table",
    "latest": "the LIMIT rows that were found",
    "json_each": "what the caller names",
    "wanted": "what the caller names",
    "used": "the series of one study",
    "instance_attrs": "what the instances of one study share, found by its number in two tables",
}
"""Tables that may be walked, and why that is cheap."""

WALKS = {
    "lacking_studies": "once for a new destination, which gets every study",
    "latest_studies": "walks an index from its end and stops at LIMIT",
    "rejections": "walks from the end and stops at LIMIT",
    "forget_rejections_until": "the table has at most 10,000 rows, and a person asks for it",
}
"""Statements that may walk a table that grows, and why."""


def plan_of(path: Path, name: str) -> list[str]:
    sql = queries()[name]
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), "1")
    connection = sqlite3.connect(path)
    try:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    finally:
        connection.close()


def test_no_query_walks_a_table_that_grows(bench: Bench, path: Path) -> None:
    for name in queries():
        plan = plan_of(path, name)
        walked = {step.split()[1] for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"}
        assert walked <= STAY_SMALL.keys() or name in WALKS, (name, plan)


@pytest.mark.parametrize("name", ["relink", "requeue_some"])
def test_a_part_of_the_studies_is_looked_at_by_number(bench: Bench, path: Path, name: str) -> None:
    """By another index each of the parts would look at every delivery."""
    plan = plan_of(path, name)
    assert "SEARCH delivery USING PRIMARY KEY (study_id>? AND study_id<?)" in plan


def test_walks_stop_at_their_limit_and_claims_look_once(bench: Bench, path: Path) -> None:
    assert plan_of(path, "latest_studies") == ["SCAN study USING INDEX study_by_last"]
    assert plan_of(path, "rejections") == ["SCAN rejection"]
    for name, index in (
        ("find_by_key", "PRIMARY KEY (kind=? AND value=?"),
        ("find_by_state", "delivery_by_state (state=?"),
    ):
        plan = plan_of(path, name)
        assert plan[0].startswith("SEARCH listed USING") and index in plan[0], plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
    state_plan = plan_of(path, "latest_studies_in_state")
    assert "SEARCH delivery USING COVERING INDEX delivery_by_state (state=?)" in state_plan
    assert "USE TEMP B-TREE FOR GROUP BY" not in state_plan
    for name in ("claimable", "next_due"):
        plan = plan_of(path, name)
        assert any("INDEX delivery_by_due (destination_id=?" in step for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


# The index for searching


def index_rows(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute("SELECT * FROM study_index ORDER BY study_id").fetchall(),
            connection.execute("SELECT * FROM study_key").fetchall(),
        ]


def test_an_index_that_was_lost_is_built_anew(bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a store from before version 17, and in parts."""
    monkeypatch.setattr(study_index, "AT_ONCE", 2)
    monkeypatch.setattr(study_index, "PASSED_OVER", 3)
    for number in range(11):
        bench.store.add(record(number, study=f"1.{number}"), over("a", "CT1"))
        bench.later(100)
        bench.store.update_index()
    filled = index_rows(path)
    assert len(bench.store.find_studies(StudyFilter())) == 11
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM study_key")
        connection.execute("DELETE FROM study_index")
    bench.restart()
    assert bench.store.find_studies(StudyFilter()) == []
    while bench.store.update_index():
        pass
    assert index_rows(path) == filled


def test_a_study_that_cannot_be_read_is_found(bench: Bench, path: Path) -> None:
    bench.store.add(record(), over("a", "CT1"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE attrs SET body = CAST('{' AS BLOB)")
    bench.store.update_index()
    assert [one.status.study_uid for one in bench.store.find_studies(StudyFilter(calling_ae_title="CT1"))] == ["1.1"]


def test_the_index_costs_nothing_when_an_instance_is_stored(bench: Bench, path: Path) -> None:
    """No trigger and no statement of an arrival touches it."""
    bench.store.add(record(1), over("a"))
    bench.store.add(record(2), over("a"))
    assert index_rows(path) == [[], []]
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    tables = ("study_index", "study_key", "attempt", "counted_minute")
    assert not [sql for (sql,) in triggers if any(table in sql for table in tables)]
