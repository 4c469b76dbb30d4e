"""Studies that a person settles or has forgotten, in a real store."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import StudyBusy
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.store.base import State
from dicom2fhir.store.sqlite.store import SqliteStore

FILE = Origin("file")
HELD = Origin("dimse", association="a")
CT = "1.2.840.10008.5.1.4.1.1.2"


def record(number: int, patient: str = "P1", study: str = "1.1", issuer: str = "") -> InstanceRecord:
    named = {"PatientID": patient, "PatientName": f"N^{patient}"} if patient else {}
    named |= {"IssuerOfPatientID": issuer} if issuer else {}
    return InstanceRecord(study, f"{study}.1", f"1.9.{number}", named, {}, {"Modality": "CT"}, {"SOPClassUID": CT})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=0, min_free_bytes=0)
    made.set_destinations(["main"])
    yield made
    made.close()


@pytest.fixture
def beside(store: SqliteStore) -> Iterator[SqliteStore]:
    """What a command has beside the daemon."""
    made = SqliteStore.attach(store.path, min_free_bytes=0)
    yield made
    made.close()


def study(store: SqliteStore, uid: str = "1.1") -> Study:
    found = store.study(uid)
    assert found is not None
    return found


def deliver(store: SqliteStore) -> str:
    """Deliver what is due; its UID."""
    claim = store.claim("main", "w", 60)
    assert claim is not None
    store.delivered(claim, claim.revision, b"base", "R4")
    return claim.study_uid


def instances(found: Study) -> list[str]:
    return [one.uid for series in found.series for one in series.instances]


# Settled


def settle(store: SqliteStore, *verdicts: Verdict) -> None:
    named = store.patients("1.1")
    store.settle("1.1", {one.key: verdict for one, verdict in zip(named, verdicts, strict=True)})


def test_the_patient_that_was_settled_stands_for_all_instances(store: SqliteStore, beside: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2"), record(3, "P2"), record(4, "")], FILE)
    assert study(store).conflict
    assert [(one.patient["PatientID"], one.instances, one.verdict) for one in beside.patients("1.1")] == [
        ("P1", 1, None),
        ("P2", 2, None),
    ]
    claim = store.claim("main", "w", 60)
    assert claim is not None
    store.refuse(claim, claim.revision, "conflict")
    settle(beside, Verdict.RIGHT, Verdict.WRONG)
    found = study(store)
    assert (found.conflict, found.patient["PatientID"], found.patient["PatientName"]) == ("", "P1", "N^P1")
    assert (len(instances(found)), found.revision) == (4, 5)
    assert "PatientID" in [note.where for note in found.notes]
    assert "P2" not in str(found.notes)
    assert deliver(store) == "1.1"


def test_what_is_settled_holds_for_later_instances_and_not_for_another_patient(store: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], FILE)
    settle(store, Verdict.WRONG, Verdict.RIGHT)
    store.add_many([record(3, "P1"), record(4, "P2"), record(5, "")], FILE)
    assert (study(store).conflict, study(store).patient["PatientID"]) == ("", "P2")
    store.add(record(6, "P3"), FILE)
    assert study(store).conflict == "The instances name a patient that nobody has settled yet."
    assert [one.patient["PatientID"] for one in store.patients("1.1")] == ["P1", "P2", "P3"]
    settle(store, Verdict.WRONG, Verdict.RIGHT, Verdict.DROPPED)
    assert study(store).conflict == ""
    assert "1.9.6" not in instances(study(store))


def test_a_correction_of_the_right_side_to_the_wrong_one_is_a_conflict_again(store: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], FILE)
    settle(store, Verdict.RIGHT, Verdict.WRONG)
    store.add(record(1, "P2"), FILE)
    assert study(store).conflict == "The instances name patients that were settled to be wrong."


def test_instances_of_a_dropped_patient_stay_away_until_it_is_undone(store: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], FILE)
    settle(store, Verdict.DROPPED, Verdict.RIGHT)
    assert instances(study(store)) == ["1.9.2"]
    store.add_many([record(1, "P1"), record(3, "P1")], FILE)
    assert (instances(study(store)), study(store).conflict) == (["1.9.2"], "")
    store.settle("1.1", {})
    assert study(store).conflict
    assert len(instances(study(store))) == 3


def test_issuers_are_settled_too(store: SqliteStore) -> None:
    store.add_many([record(1, issuer="A"), record(2, issuer="B"), record(3), record(4, issuer="B")], FILE)
    assert "issuers" in study(store).conflict
    assert [one.instances for one in store.patients("1.1")] == [1, 2]
    settle(store, Verdict.RIGHT, Verdict.WRONG)
    assert (study(store).conflict, study(store).patient["IssuerOfPatientID"]) == ("", "A")


def test_the_order_of_arrival_does_not_matter_once_it_is_settled(store: SqliteStore, tmp_path: Path) -> None:
    records = [record(number, f"P{number % 3}") for number in range(9)]
    store.add_many(records, FILE)
    verdicts = [Verdict.RIGHT, Verdict.WRONG, Verdict.DROPPED]
    settle(store, *verdicts)
    keys = {one.key: one.verdict for one in store.patients("1.1") if one.verdict}
    random.Random(3).shuffle(records)
    other = SqliteStore(tmp_path / "other.db", min_free_bytes=0)
    try:
        for one in records:
            other.add(one, FILE)
        other.settle("1.1", keys)
        assert study(other) == study(store)
    finally:
        other.close()


def test_a_study_that_is_settled_while_it_is_sent_is_sent_again(store: SqliteStore, beside: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], FILE)
    claim = store.claim("main", "w", 60)
    assert claim is not None
    settle(beside, Verdict.RIGHT, Verdict.WRONG)
    store.refuse(claim, claim.revision, "conflict")
    assert deliver(store) == "1.1"


def test_it_is_settled_for_good(store: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], FILE)
    settle(store, Verdict.RIGHT, Verdict.WRONG)
    store.close()
    again = SqliteStore(store.path, min_free_bytes=0)
    try:
        assert study(again).conflict == ""
    finally:
        again.close()


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


def test_nothing_is_left_of_a_study_that_is_forgotten(store: SqliteStore, beside: SqliteStore) -> None:
    store.add_many([record(1, "P1"), record(2, "P2")], HELD)
    settle(store, Verdict.RIGHT, Verdict.WRONG)
    assert deliver(store) == "1.1"
    store.add(record(3, study="1.2"), FILE)
    assert {"study", "series", "instance", "attrs", "delivery", "base", "inflight", "origin", "settlement"} <= set(
        rows_that_name(store.path, 1)
    )
    assert beside.forget("1.1")
    assert rows_that_name(store.path, 1) == {}
    assert (store.study("1.1"), store.study_status("1.1"), store.patients("1.1")) == (None, None, [])
    stats = store.stats()
    assert (stats.studies, stats.series, stats.instances, stats.delivered, stats.waiting) == (1, 1, 1, 0, 1)
    assert not beside.forget("1.1")


@pytest.mark.parametrize("others_first", [False, True])
def test_what_comes_again_makes_the_study_anew(store: SqliteStore, beside: SqliteStore, others_first: bool) -> None:
    store.add_many([record(1), record(2)], HELD)  # the daemon knows the study's rows now
    assert beside.forget("1.1")
    if others_first:
        beside.add_many([record(9, study="1.2")], FILE)  # which must not get the number that the daemon knows
    store.add(record(1), HELD)
    assert instances(study(store)) == ["1.9.1"]
    assert study(store).revision == 1
    if others_first:
        assert instances(study(store, "1.2")) == ["1.9.9"]
        store.add(record(2), HELD)
        assert (instances(study(store)), instances(study(store, "1.2"))) == (["1.9.1", "1.9.2"], ["1.9.9"])
    assert store.failure is None


def test_a_study_that_is_being_sent_is_not_forgotten(store: SqliteStore, beside: SqliteStore) -> None:
    store.add(record(1), FILE)
    claim = store.claim("main", "w", 60)
    assert claim is not None
    with pytest.raises(StudyBusy):
        beside.forget("1.1")
    store.delivered(claim, claim.revision, b"base")
    assert beside.forget("1.1")
    store.delivered(claim, claim.revision, b"base")  # too late, and to no effect
    assert store.stats().delivered == 0


def test_the_lease_of_a_daemon_that_is_gone_does_not_keep_a_study(store: SqliteStore) -> None:
    store.add(record(1), FILE)
    assert store.claim("main", "w", 60) is not None
    store.close()
    beside = SqliteStore.attach(store.path, min_free_bytes=0)
    try:
        assert beside.forget("1.1")
        assert beside.stats().sending == 0
    finally:
        beside.close()


def test_states_of_a_forgotten_study_are_counted_no_more(store: SqliteStore) -> None:
    store.set_mapping_fingerprint("main", "R5")
    for number in range(3):
        store.add(record(number, study=f"1.{number}"), FILE)
    deliver(store)
    claim = store.claim("main", "w", 60)
    assert claim is not None
    store.refuse(claim, claim.revision, "no")
    for number in range(3):
        assert store.forget(f"1.{number}")
    assert [getattr(store.stats(), state) for state in State] == [0] * len(State)
    assert [sum(one.others.values()) for one in store.destinations()] == [0]
