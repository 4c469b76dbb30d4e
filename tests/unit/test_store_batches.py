"""Batches do to the store what their records would do one by one, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import OutOfSpace, StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.examples import examples
from tests.store_contract.bench import claimed, delivered

QUIET_S, MAX_WAIT_S = 30.0, 900.0
FILE = Origin("file", path="/archive/a.dcm")
HELD = Origin("file", association="run-1")


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    made = SqliteStore(
        tmp_path / "store.db", quiet_period_s=QUIET_S, max_wait_s=MAX_WAIT_S, clock=clock, min_free_bytes=0
    )
    made.set_destinations(["main"])
    yield made
    made.close()


def record(number: int, study: int = 1, version: int = 0, series: int = 1, patient: int = 1) -> InstanceRecord:
    return InstanceRecord(
        study_uid=f"1.{study}",
        series_uid=f"1.{study}.{series}",
        sop_uid=f"1.9.{study}.{number}",
        patient={"PatientID": f"P{patient}"},
        study={"StudyDate": "20240102"},
        series={"Modality": "CT"},
        instance={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "InstanceNumber": str(number), "Rows": str(version)},
    )


records = st.builds(
    record,
    number=st.integers(0, 3),
    study=st.integers(1, 3),
    version=st.integers(0, 1),
    series=st.integers(1, 2),
    patient=st.integers(1, 2),
)


batches = st.tuples(st.just("add"), st.lists(records, max_size=8), st.sampled_from(["", "run-1", "run-2"]))
events = st.one_of(
    batches,
    batches,
    st.tuples(st.just("end"), st.sampled_from(["run-1", "run-2"])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, QUIET_S + 1, MAX_WAIT_S + 1])),
    st.tuples(st.just("claim"), st.sampled_from(["delivered", "refused", "failed", "being sent"])),
)


@examples(150)
@given(happened=st.lists(events, max_size=12))
def test_batches_do_what_their_records_do_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    clock = Clock()
    one_by_one, in_batches = stores = tuple(
        SqliteStore(folder / name, quiet_period_s=QUIET_S, max_wait_s=MAX_WAIT_S, clock=clock, min_free_bytes=0)
        for name in ("one.db", "many.db")
    )
    try:
        for made in stores:
            made.set_destinations(["main"])
        for what, *rest in happened:
            match what:
                case "add":
                    batch, association = rest
                    in_batches.add_many(batch, Origin("dimse", association=association))
                    for each in batch:
                        one_by_one.add(each, Origin("dimse", association=association))
                case "end":
                    for made in stores:
                        made.association_ended(*rest)
                case "wait":
                    clock.now += rest[0]
                case "claim":
                    for made in stores:
                        settle_claims(made, *rest)
            assert in_batches.stats() == one_by_one.stats()
            assert in_batches.next_due_at("main") == one_by_one.next_due_at("main")
            for uid in ("1.1", "1.2", "1.3"):
                assert in_batches.study(uid) == one_by_one.study(uid)
                assert in_batches.study_status(uid) == one_by_one.study_status(uid)
    finally:
        for made in stores:
            made.close()


def settle_claims(store: SqliteStore, how: str) -> None:
    """Settle what is due, all of it: of studies that came at the same moment, either may be claimed first."""
    while claim := claimed(store, "main", "worker", 60):
        match how:
            case "delivered":
                delivered(store, claim, claim.revision, b"base")
            case "refused":
                store.refuse(claim, claim.revision, "no")
            case "failed":
                store.retry(claim, 10, "later")


def test_a_batch_is_kept_whole_or_not_at_all(store: SqliteStore) -> None:
    broken = FileMark("/a", 1 << 70, 2, "taken")  # more than SQLite's integers hold
    with pytest.raises(OverflowError):
        store.add_many([record(1)], FILE, [FileMark("/b", 1, 2, "taken"), broken])
    assert store.study("1.1") is None
    assert store.file_mark("/b") is None
    assert store.add_many([record(1)], FILE) == [Change.NEW]


def test_no_batch_below_the_watermark(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=1 << 62)
    try:
        with pytest.raises(OutOfSpace):
            store.add_many([record(1)], FILE)
    finally:
        store.close()


def test_whether_a_daemon_owns_the_store(store: SqliteStore) -> None:
    reader = SqliteStore.open_readonly(store.path)
    try:
        assert reader.is_owned
        store.close()
        assert not reader.is_owned
    finally:
        reader.close()
    with pytest.raises(StoreUnavailable):
        store.add_many([record(1)], FILE)
