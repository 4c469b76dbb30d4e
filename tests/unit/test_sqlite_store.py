"""What the store promises, on real files, with a clock that the test turns."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import CannotUnderstand, OutOfSpace, StoreInUse, StoreUnavailable, StudyBusy
from dicom2fhir.model import Attrs, InstanceRecord, Note, Origin
from dicom2fhir.store.base import Change, Claim, DestinationStatus, FileMark, Rejection, State, Store
from dicom2fhir.store.sqlite import deliveries
from dicom2fhir.store.sqlite.arrivals import KEPT_REJECTIONS
from dicom2fhir.store.sqlite.schema import queries
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.examples import examples

QUIET_S, MAX_WAIT_S = 30.0, 900.0
FOLDER = Origin("folder", path="/in/a.dcm")
DEST = "main"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A store with its clock; opens it again where a test ends one life."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.store = self.open()
        self.store.set_destinations([DEST])

    def open(self) -> SqliteStore:
        self.store = SqliteStore(
            self.path, quiet_period_s=QUIET_S, max_wait_s=MAX_WAIT_S, clock=self.clock, min_free_bytes=0
        )
        return self.store

    def restart(self) -> SqliteStore:
        self.store.close()
        return self.open()

    def later(self, seconds: float) -> None:
        self.clock.now += seconds

    def claim(self, owner: str = "w1", destination: str = DEST, lease_s: float = 60.0) -> Claim:
        claim = self.store.claim(destination, owner, lease_s)
        assert claim is not None
        return claim

    def none_due(self, destination: str = DEST) -> bool:
        return self.store.claim(destination, "nobody", 60.0) is None

    def deliver(self, base: bytes = b"base") -> None:
        claim = self.claim()
        self.store.delivered(claim, claim.revision, base)

    def state(self, study: str = "1.1", destination: str = DEST) -> State:
        status = self.store.study_status(study)
        assert status is not None
        return next(row.state for row in status.deliveries if row.destination == destination)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "store.db")
    yield made
    made.store.close()


def record(number: int = 1, study: str = "1.1", series: str = "", **instance: str) -> InstanceRecord:
    return InstanceRecord(
        study_uid=study,
        series_uid=series or f"{study}.1",
        sop_uid=f"1.9.{number}",
        patient={"PatientID": "P1"},
        study={"StudyInstanceUID": study, "StudyDate": "20240102"},
        series={"Modality": "CT"},
        instance={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "InstanceNumber": str(number), **instance},
    )


def over(association: str) -> Origin:
    return Origin("dimse", calling_ae="CT1", association=association)


def added(store: SqliteStore, record: InstanceRecord, origin: Origin) -> Change:
    (change,) = store.add_many([record], origin)
    return change


def test_it_is_a_store(bench: Bench) -> None:
    store: Store = bench.store
    assert store.study("1.1") is None
    assert store.study_status("1.1") is None


# What is kept


def test_new_changed_unchanged(bench: Bench) -> None:
    store = bench.store
    assert added(store, record(), FOLDER) is Change.NEW
    assert added(store, record(), FOLDER) is Change.UNCHANGED
    study = store.study("1.1")
    assert study is not None and study.revision == 1
    assert added(store, record(Rows="5"), FOLDER) is Change.CHANGED
    assert added(store, record(Rows="5"), FOLDER) is Change.UNCHANGED
    study = store.study("1.1")
    assert study is not None and study.revision == 2
    assert study.series[0].instances[0].attrs["Rows"] == "5"


def test_equal_attributes_in_another_order_or_kind_of_mapping_are_unchanged(bench: Bench) -> None:
    items: list[Attrs] = [{"C": "2", "D": "3"}]
    again_items: list[Attrs] = [MappingProxyType({"D": "3", "C": "2"})]
    first = replace(record(), patient={"A": "1", "B": items})
    again = replace(first, patient=MappingProxyType({"B": again_items, "A": "1"}))
    assert added(bench.store, first, FOLDER) is Change.NEW
    assert added(bench.store, again, FOLDER) is Change.UNCHANGED


@pytest.mark.parametrize("level", ["patient", "study", "series", "instance"])
def test_a_change_at_any_level_is_a_change(bench: Bench, level: str) -> None:
    bench.store.add(record(), FOLDER)
    change: dict[str, Any] = {level: {"SOPClassUID": "1.2", "PatientID": "P1", "Other": "x"}}
    changed = replace(record(), **change)
    assert added(bench.store, changed, FOLDER) is Change.CHANGED
    study = bench.store.study("1.1")
    assert study == assemble("1.1", 2, [changed])


def test_the_same_instance_in_another_study_is_another_instance(bench: Bench) -> None:
    assert added(bench.store, record(study="1.1"), FOLDER) is Change.NEW
    assert added(bench.store, record(study="1.2"), FOLDER) is Change.NEW
    assert bench.store.stats().instances == 2


def test_the_same_instance_in_another_series_is_another_instance(bench: Bench) -> None:
    bench.store.add(record(1, series="1.1.1"), FOLDER)
    bench.store.add(record(2, series="1.1.2"), FOLDER)
    assert added(bench.store, record(1, series="1.1.2"), FOLDER) is Change.NEW
    assert added(bench.store, record(1, series="1.1.1"), FOLDER) is Change.UNCHANGED
    study = bench.store.study("1.1")
    assert study is not None
    assert [(series.uid, len(series.instances)) for series in study.series] == [("1.1.1", 1), ("1.1.2", 2)]
    assert [note.where for note in study.notes] == ["SOPInstanceUID"]
    status = bench.store.study_status("1.1")
    assert status is not None and (status.series, status.instances) == (2, 3)
    assert (bench.store.stats().series, bench.store.stats().instances) == (2, 3)


def test_notes_are_kept(bench: Bench) -> None:
    noted = replace(record(), notes=(Note("warning", "StudyDate", "not a date"),))
    bench.store.add(noted, FOLDER)
    study = bench.store.study("1.1")
    assert study is not None and study.notes == noted.notes


def test_equal_mappings_are_one_object_when_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[InstanceRecord] = []
    monkeypatch.setattr(
        "dicom2fhir.store.sqlite.store.assemble", lambda _uid, _revision, records, _settlement: seen.extend(records)
    )
    for number in range(3):
        bench.store.add(record(number), FOLDER)
    bench.store.study("1.1")
    assert len(seen) == 3
    assert all(one.patient is seen[0].patient and one.series is seen[0].series for one in seen)


def test_what_is_not_text_is_refused_without_naming_it(bench: Bench) -> None:
    with pytest.raises(CannotUnderstand) as caught:
        bench.store.add(replace(record(), patient={"PatientName": "SECRET\ud800"}), FOLDER)
    assert "SECRET" not in str(caught.value)
    assert bench.store.stats().studies == 0


def test_a_bad_record_leaves_the_others_of_its_batch_alone(bench: Bench) -> None:
    with pytest.raises(TypeError):
        bench.store.add(replace(record(), sop_uid="\ud800"), FOLDER)
    assert bench.store.failure is None
    assert bench.store.stats().studies == 0
    assert added(bench.store, record(), FOLDER) is Change.NEW


@examples(15)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_arrival_does_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = random.Random(seed)
    records = [
        replace(
            record(number, study=f"1.{number % 2}", series=f"1.{number % 2}.{number % 3}"),
            patient={"PatientID": "P1", "PatientName": f"N{number % 3}"},
            series={"Modality": "CT", "SeriesDescription": f"D{number % 4}"},
        )
        for number in range(12)
    ]
    records += [replace(records[0], series_uid="1.0.9"), replace(records[1], series_uid="1.0.0")]
    expected = {uid: assemble(uid, 7, [one for one in records if one.study_uid == uid]) for uid in ("1.0", "1.1")}
    shuffled = [*records, *draw.sample(records, 4)]
    draw.shuffle(shuffled)
    store = SqliteStore(tmp_path_factory.mktemp("order") / "store.db", min_free_bytes=0)
    try:
        for one in shuffled:
            store.add(one, FOLDER)
        assert {uid: store.study(uid) for uid in expected} == expected
    finally:
        store.close()


def test_everything_is_there_in_the_next_life(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    before = bench.store.study("1.1")
    assert bench.restart().study("1.1") == before


def test_many_threads(bench: Bench) -> None:
    def send(thread: int) -> None:
        for number in range(40):
            bench.store.add(record(number, study=f"1.{thread % 2}"), over(f"a{thread}"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.store.stats().instances == 80
    statuses = [bench.store.study_status(uid) for uid in ("1.0", "1.1")]
    assert [status and status.revision for status in statuses] == [40, 40]


def test_a_plain_slice_costs_at_most_600_bytes(bench: Bench) -> None:
    root = "1.2.826.0.1.3680043.8.498.45787841905188114249328107461"
    for number in range(600):
        slice_ = record(number, study=root, series=f"{root}.1", AcquisitionDate="20240101", AcquisitionTime="101010.12")
        bench.store.add(replace(slice_, sop_uid=f"{root}.1.{number}"), over("a"))
    bench.store.close()
    assert bench.path.stat().st_size / 600 <= 600


# When a study is due


def test_due_after_the_quiet_period(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(1), FOLDER)
    assert bench.store.next_due_at(DEST) == start + QUIET_S
    bench.later(20)
    bench.store.add(record(2), FOLDER)
    assert bench.store.next_due_at(DEST) == start + 20 + QUIET_S
    bench.later(QUIET_S - 0.1)
    assert bench.none_due()
    bench.later(0.1)
    claim = bench.claim()
    assert (claim.study_uid, claim.revision, claim.attempts, claim.base) == ("1.1", 2, 0, b"")


def test_due_at_the_cap_although_slices_keep_coming(bench: Bench) -> None:
    start = bench.clock.now
    for number in range(100):
        bench.store.add(record(number), FOLDER)
        bench.later(10)
    assert bench.store.next_due_at(DEST) == start + MAX_WAIT_S
    assert bench.claim().revision == 100


def test_an_unchanged_instance_makes_nothing_due(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.add(record(), over("a"))
    assert bench.store.next_due_at(DEST) is None
    assert bench.state() is State.DELIVERED


def test_an_unchanged_instance_does_not_prolong_the_quiet_time(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(), FOLDER)
    bench.later(20)
    bench.store.add(record(), FOLDER)
    assert bench.store.next_due_at(DEST) == start + QUIET_S


def test_an_open_association_holds_its_studies_until_the_cap(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(), over("a"))
    bench.store.add(record(study="1.2"), over("b"))
    bench.later(QUIET_S * 2)
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) == start + MAX_WAIT_S
    bench.store.association_ended("a")
    claim = bench.claim()
    assert claim.study_uid == "1.1"
    bench.store.delivered(claim, claim.revision, b"")
    assert bench.none_due()
    bench.later(MAX_WAIT_S)
    assert bench.claim().study_uid == "1.2"


def test_all_associations_must_end(bench: Bench) -> None:
    bench.store.add(record(1), over("a"))
    bench.store.add(record(2), over("b"))
    bench.later(QUIET_S)
    bench.store.association_ended("a")
    assert bench.none_due()
    bench.store.association_ended("b")
    assert bench.claim().revision == 2


def test_the_quiet_time_counts_from_the_last_slice_and_not_from_the_association_end(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(), over("a"))
    bench.later(10)
    bench.store.association_ended("a")
    assert bench.store.next_due_at(DEST) == start + QUIET_S


def test_an_association_that_sends_what_is_known_holds_what_waits(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(), FOLDER)
    bench.store.add(record(), over("a"))
    assert bench.store.next_due_at(DEST) == start + MAX_WAIT_S
    bench.store.association_ended("a")
    assert bench.store.next_due_at(DEST) == start + QUIET_S


def test_a_slice_that_comes_over_an_association_after_the_delivery_makes_the_study_wait_again(bench: Bench) -> None:
    bench.store.add(record(1), over("a"))
    bench.later(MAX_WAIT_S)
    bench.deliver()
    bench.store.add(record(1), over("a"))
    assert bench.state() is State.DELIVERED
    bench.store.add(record(2), over("a"))
    assert bench.store.next_due_at(DEST) == bench.clock.now + MAX_WAIT_S
    bench.later(MAX_WAIT_S)
    claim = bench.claim()
    bench.store.add(record(3), over("a"))
    bench.store.delivered(claim, 2, b"")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == bench.clock.now + MAX_WAIT_S


def test_associations_of_a_former_life_hold_nothing(bench: Bench) -> None:
    start = bench.clock.now
    bench.store.add(record(), over("a"))
    assert bench.restart().next_due_at(DEST) == start + QUIET_S


# Leases and outcomes


def test_a_study_is_claimed_once_until_its_lease_ends(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    first = bench.claim("w1", lease_s=60)
    assert bench.state() is State.SENDING
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) == bench.clock.now + 60
    bench.later(60)
    second = bench.claim("w2")
    bench.store.delivered(first, first.revision, b"late")
    bench.store.retry(first, 0, "late")
    bench.store.refuse(first, first.revision, "late")
    assert bench.state() is State.SENDING
    bench.store.delivered(second, second.revision, b"right")
    assert bench.state() is State.DELIVERED
    assert bench.store.requeue(all_states=True) == 1
    assert bench.claim().base == b"right"


def test_an_expired_lease_that_nobody_took_still_counts(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim(lease_s=1)
    bench.later(100)
    bench.store.delivered(claim, claim.revision, b"")
    assert bench.state() is State.DELIVERED


def test_leases_of_a_former_life_are_void(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    old = bench.claim("w1", lease_s=10_000)
    bench.restart()
    assert bench.claim("w2") == replace(old, owner="w2")


def test_the_longest_due_comes_first(bench: Bench) -> None:
    for number, study in enumerate(("1.3", "1.1", "1.2")):
        bench.store.add(record(number, study=study), FOLDER)
        bench.later(1)
    bench.later(QUIET_S)
    assert [bench.claim(f"w{number}").study_uid for number in range(3)] == ["1.3", "1.1", "1.2"]


def test_what_came_while_sending_is_sent_again(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.later(5)
    bench.store.add(record(2), FOLDER)
    arrived = bench.clock.now
    bench.later(1)
    bench.store.delivered(claim, claim.revision, b"one")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == arrived + QUIET_S
    assert bench.store.stats().oldest_undelivered_at == arrived
    bench.later(QUIET_S)
    again = bench.claim()
    assert (again.revision, again.base) == (2, b"one")


def test_a_study_read_after_the_claim_may_be_newer_than_it(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    study = bench.store.study("1.1")
    assert study is not None
    bench.store.delivered(claim, study.revision, b"")
    assert bench.state() is State.DELIVERED


def test_failed_tries_wait_and_are_counted(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    bench.store.retry(bench.claim(), 120, "503")
    assert bench.store.next_due_at(DEST) == bench.clock.now + 120
    bench.later(120)
    second = bench.claim()
    assert second.attempts == 1
    bench.store.retry(second, 5, "down", count=False)
    bench.later(5)
    assert bench.claim().attempts == 1
    status = bench.store.study_status("1.1")
    assert status is not None and status.deliveries[0].reason == "down"


def test_a_slice_does_not_shorten_the_pause_after_a_failed_try(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    bench.store.retry(bench.claim(), 600, "503")
    paused_until = bench.clock.now + 600
    bench.store.add(record(2), FOLDER)
    assert bench.store.next_due_at(DEST) == paused_until


def test_a_refused_study_waits_for_a_newer_revision(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "422: subject")
    assert bench.state() is State.REFUSED
    bench.later(MAX_WAIT_S * 2)
    assert bench.none_due()
    bench.store.add(record(2), FOLDER)
    assert bench.store.next_due_at(DEST) == bench.clock.now + QUIET_S
    bench.later(QUIET_S)
    assert bench.claim().attempts == 0


def test_a_study_that_grew_while_it_was_refused_is_tried_again(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    bench.store.refuse(claim, claim.revision, "422")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == bench.clock.now + QUIET_S


def test_requeue(bench: Bench) -> None:
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        claim = bench.claim()
        if study == "1.1":
            bench.store.refuse(claim, 1, "422")
        elif study == "1.2":
            bench.store.retry(claim, 3_600, "503")
        else:
            bench.store.delivered(claim, 1, b"")
    assert bench.store.requeue(study_uid="1.3") == 0
    assert bench.store.requeue(study_uid="1.1", destination="other") == 0
    assert bench.store.requeue(study_uid="1.1", destination=DEST) == 1
    assert bench.claim().study_uid == "1.1"
    assert bench.store.requeue() == 1  # 1.1 is being sent
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.2", False)
    assert bench.store.requeue(all_states=True) == 1
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.3", True)


def test_relink(bench: Bench) -> None:
    """Only what was delivered and refers to something by identifier; not what came again meanwhile."""
    for study, unlinked in (("1.1", "Encounter"), ("1.2", ""), ("1.3", "Patient"), ("1.4", "Patient")):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        bench.store.delivered(bench.claim(), 1, b"base", unlinked=unlinked)
    bench.store.add(record(2, study="1.4"), FOLDER)
    found = bench.store.study_status("1.1")
    assert found and found.deliveries[0].reason == "Encounter"
    assert bench.store.relink("other") == 0
    assert bench.store.relink(DEST, "1.2") == bench.store.relink(DEST, "1.9") == 0
    assert bench.store.relink(DEST, since=found.last_at + 0.5) == 1
    claim = bench.claim()
    assert (claim.study_uid, claim.again, claim.base) == ("1.3", True, b"base")
    seen: list[tuple[int, int]] = []
    assert bench.store.relink(DEST, on_progress=lambda done, total: seen.append((done, total))) == 1
    assert seen == [(4, 4)]
    assert bench.claim().study_uid == "1.1"
    bench.store.delivered(claim, 1, b"", unlinked="")
    assert bench.store.relink(DEST, "1.3") == 0


def test_what_was_not_found_is_no_reason_to_wait(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    bench.store.delivered(claim, 1, b"", unlinked="Patient")
    assert bench.state() is State.WAITING
    found = bench.store.study_status("1.1")
    assert found and found.deliveries[0].reason == ""


def test_requeue_from_another_process_leaves_leases_and_associations_alone(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(study="1.2"), over("a"))
    other = SqliteStore.attach(bench.path)
    assert other.requeue("1.1") == 0
    other.close()
    bench.store.delivered(claim, 1, b"")
    assert bench.state("1.1") is State.DELIVERED
    bench.later(QUIET_S)
    assert bench.none_due()


def test_only_the_owner_of_the_file_claims(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    other = SqliteStore.attach(bench.path, clock=bench.clock)
    with pytest.raises(StoreUnavailable, match="not opened to deliver"):
        other.claim(DEST, "w", 60.0)
    other.close()
    assert bench.claim().study_uid == "1.1"


# Destinations


def test_a_new_destination_gets_every_study(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.add(record(study="1.2"), FOLDER)
    bench.store.set_destinations([DEST, "second"])
    assert bench.claim(destination="second").study_uid == "1.1"
    assert bench.none_due("second")
    bench.later(QUIET_S)
    assert bench.claim(destination="second").study_uid == "1.2"


def test_a_destination_left_out_gets_nothing_and_comes_back(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.add(record(study="1.2"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.set_destinations([])
    bench.store.add(record(2, study="1.1"), FOLDER)
    bench.store.add(record(study="1.3"), FOLDER)
    bench.later(QUIET_S)
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) is None
    assert bench.store.requeue(all_states=True) == 0
    stats = bench.store.stats()
    assert (stats.waiting, stats.delivered, stats.oldest_undelivered_at) == (0, 0, None)
    status = bench.store.study_status("1.1")
    assert status is not None and status.deliveries == ()
    assert bench.store.studies(State.WAITING) == []
    bench.store.set_destinations([DEST])
    assert {bench.claim(f"w{number}").study_uid for number in range(2)} == {"1.1", "1.3"}
    assert bench.state("1.2") is State.DELIVERED


# What deliveries were made with


def others(bench: Bench, destination: str = DEST) -> dict[str, int]:
    return next(dict(found.others) for found in bench.store.destinations() if found.name == destination)


def test_deliveries_made_with_another_mapping_are_counted(bench: Bench) -> None:
    bench.store.set_mapping_fingerprint(DEST, "R4 base@1")
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
    bench.later(QUIET_S)
    for claim in [bench.claim(f"w{number}") for number in range(3)]:
        bench.store.delivered(claim, 1, b"", "R4 base@1")
    assert bench.store.destinations() == [DestinationStatus(DEST, "R4 base@1", {})]
    bench.restart().set_destinations([DEST, "second"])
    bench.store.set_mapping_fingerprint(DEST, "R4 osiris@2")
    assert bench.store.destinations() == [
        DestinationStatus(DEST, "R4 osiris@2", {"R4 base@1": 3}),
        DestinationStatus("second", "", {}),
    ]
    assert bench.store.requeue("1.1", DEST, all_states=True) == 1
    assert others(bench) == {"R4 base@1": 2}, "what waits will be sent anyway"
    claim = bench.claim()
    bench.store.delivered(claim, 1, b"", "R4 osiris@2")
    assert others(bench) == {"R4 base@1": 2}
    bench.store.add(record(2, study="1.2"), FOLDER)
    assert others(bench) == {"R4 base@1": 1}
    bench.store.set_destinations(["second"])
    assert [found.name for found in bench.store.destinations()] == ["second"]


def test_a_destination_that_speaks_another_version_than_it_did_tells_by_its_deliveries(bench: Bench) -> None:
    for study, fingerprint in (("1.1", "R4 base@1"), ("1.2", "R5 base@1"), ("1.3", "")):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        bench.store.delivered(bench.claim(), 1, b"", fingerprint)
    assert bench.store.destinations() == [DestinationStatus(DEST, "R5 base@1", {"": 1, "R4 base@1": 1})]


def test_everything_is_made_due_again_in_several_commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "AT_ONCE", 2)
    bench.store.set_destinations([DEST, "second"])
    for number in range(5):
        bench.store.add(record(study=f"1.{number}"), FOLDER)
    bench.later(QUIET_S)
    for destination in (DEST, "second"):
        for claim in [bench.claim(f"w{number}", destination) for number in range(5)]:
            bench.store.delivered(claim, 1, b"")
    assert bench.store.requeue() == 0
    assert bench.store.requeue(destination="second", all_states=True) == 5
    assert (bench.state("1.4"), bench.state("1.4", "second")) == (State.DELIVERED, State.WAITING)
    assert bench.store.requeue(all_states=True) == 10
    assert bench.store.stats().waiting == 10
    assert bench.claim(destination="second").again
    assert bench.store.requeue("1.9", all_states=True) == 0


# Looking


def test_stats_and_the_latest_studies(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    for number, study in enumerate(("1.1", "1.2", "1.3")):
        bench.store.add(record(number, study=study), FOLDER)
        bench.store.add(record(number + 10, study=study), FOLDER)
        bench.later(1)
    first_at = bench.clock.now - 3
    bench.later(QUIET_S)
    bench.deliver()
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "422")
    bench.claim()
    bench.store.mark_file(FileMark("/in/x", 1, 2, "skipped"))
    bench.store.reject(Rejection(1.0, FOLDER, "no UID"))
    stats = bench.store.stats()
    assert (stats.studies, stats.series, stats.instances) == (3, 3, 6)
    assert (stats.waiting, stats.sending, stats.delivered, stats.refused) == (3, 1, 1, 1)
    assert (stats.rejected, stats.skipped) == (1, 1)
    assert stats.oldest_undelivered_at == first_at
    bench.store.add(record(5, study="1.1"), FOLDER)
    assert [status.study_uid for status in bench.store.studies()] == ["1.1", "1.3", "1.2"]
    assert [status.study_uid for status in bench.store.studies(limit=1)] == ["1.1"]
    assert [status.study_uid for status in bench.store.studies(State.REFUSED)] == ["1.2"]
    assert [status.study_uid for status in bench.store.studies(State.WAITING)] == ["1.1", "1.3", "1.2"]
    assert [status.study_uid for status in bench.store.studies(State.WAITING, limit=2)] == ["1.1", "1.3"]
    (status,) = bench.store.studies(State.REFUSED)
    assert [(row.destination, row.state, row.attempts, row.reason) for row in status.deliveries] == [
        (DEST, State.REFUSED, 1, "422"),
        ("second", State.WAITING, 0, ""),
    ]


def test_counters_agree_with_the_rows(bench: Bench) -> None:
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
                    other = SqliteStore.attach(bench.path, clock=bench.clock)
                    with suppress(StudyBusy):
                        other.forget(f"1.{draw.randrange(5)}")
                    other.close()
            case 6:
                if draw.random() < 0.2:
                    bench.store.requeue(f"1.{draw.randrange(5)}", name, all_states=True)
            case _:
                claim = bench.store.claim(name, "w", 10)
                if claim:
                    outcome = draw.randrange(4)
                    if outcome == 0:
                        bench.store.delivered(claim, claim.revision, b"", f"R{draw.randrange(3)}")
                    elif outcome == 1:
                        bench.store.refuse(claim, claim.revision, "no")
                    elif outcome == 2:
                        bench.store.retry(claim, 5, "down")
    bench.later(MAX_WAIT_S)
    for claim in iter(lambda: bench.store.claim(DEST, "w", 10), None):
        bench.store.delivered(claim, claim.revision, b"", f"R{draw.randrange(3)}")
    stats = bench.store.stats()
    with sqlite3.connect(bench.path) as connection:
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


def test_rejections_newest_first_and_bounded(bench: Bench) -> None:
    origin = Origin("folder", peer="10.0.0.1", path="/in/\udcff.dcm")
    bench.store.reject(Rejection(1.0, origin, "first"))
    bench.store.reject(Rejection(2.0, over("a"), "x" * 100_000))
    latest, first = bench.store.rejections()
    assert first == Rejection(1.0, origin, "first")
    assert latest.origin == over("a")
    assert len(latest.reason) == 4_000
    assert bench.store.rejections(limit=1) == [latest]
    with sqlite3.connect(bench.path) as connection:
        connection.execute("UPDATE rejection SET id = ? WHERE reason = 'first'", (KEPT_REJECTIONS,))
    connection.close()
    bench.store.reject(Rejection(3.0, FOLDER, "third"))
    bench.store.reject(Rejection(4.0, FOLDER, "fourth"))
    assert [rejection.reason for rejection in bench.store.rejections()] == ["fourth", "third", "first"]
    assert bench.store.stats().rejected == 4


def test_file_marks(bench: Bench) -> None:
    odd = "/in/\udcff.dcm"
    assert bench.store.file_mark(odd) is None
    mark = FileMark(odd, 10, 20, "skipped", "not DICOM")
    bench.store.mark_file(mark)
    bench.store.mark_file(mark)
    assert bench.store.file_mark(odd) == mark
    assert bench.store.stats().skipped == 1
    bench.store.mark_file(replace(mark, outcome="taken", mtime_ns=21))
    assert bench.store.stats().skipped == 0
    assert bench.restart().file_mark(odd) == replace(mark, outcome="taken", mtime_ns=21)


# Waking, space, failure


def test_subscribers_are_told_when_something_may_be_due_sooner(bench: Bench) -> None:
    told: list[str] = []
    bench.store.subscribe(lambda: told.append("wake"))

    def wakes(action: Callable[[], object]) -> bool:
        told.clear()
        action()
        # The next commit comes after the callback of the one before.
        bench.store.mark_file(FileMark("/x", 1, 1, "taken"))
        return bool(told)

    assert wakes(lambda: bench.store.add(record(1), over("a")))
    assert not wakes(lambda: bench.store.add(record(2), over("a")))
    assert not wakes(lambda: bench.store.add(record(2), over("a")))
    assert wakes(lambda: bench.store.association_ended("a"))
    bench.later(QUIET_S)
    claim = bench.claim()
    assert wakes(lambda: bench.store.retry(claim, 0, "down"))
    assert not wakes(bench.deliver)
    assert wakes(lambda: bench.store.add(record(3), FOLDER))
    assert wakes(lambda: bench.store.requeue())


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
    assert added(again, record(5_000), FOLDER) is Change.NEW
    again.close()


def test_a_busy_file_is_no_failure(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0, busy_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="busy"):
            store.add(record(), FOLDER)
        assert store.failure is None
        other.execute("ROLLBACK")
        assert added(store, record(), FOLDER) is Change.NEW
    finally:
        other.close()
        store.close()


def test_close_is_idempotent_and_ends_everything(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.store.close()
    bench.store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        bench.store.add(record(2), FOLDER)
    with pytest.raises(StoreUnavailable, match="closed"):
        bench.store.stats()
    open_files = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert not [path for path in open_files if path.startswith(str(bench.path))]
    assert sorted(path.name for path in bench.path.parent.iterdir()) == [
        "store.db",
        "store.db.lock",
        "store.db.progress",
    ]


# Other processes


def test_only_one_owner(bench: Bench) -> None:
    with pytest.raises(StoreInUse, match="Another dicom2fhir"):
        SqliteStore(bench.path)
    bench.store.add(record(), FOLDER)
    assert bench.restart().stats().instances == 1


def test_reading_beside_the_owner(bench: Bench) -> None:
    looking = SqliteStore.open_readonly(bench.path)
    bench.store.add(record(), FOLDER)
    assert looking.stats().instances == 1
    assert looking.study("1.1") == bench.store.study("1.1")
    assert looking.failure is None
    with pytest.raises(StoreUnavailable, match="read only"):
        looking.requeue()
    looking.close()
    bench.store.close()
    looking = SqliteStore.open_readonly(bench.path)
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
    "rejected": "one row for each kind of refusal",
    "made": "one row for each destination and what its deliveries are or were made with",
    "inflight": "open associations times their studies",
    "reader": "one row for each version that read something",
    "latest": "the LIMIT rows that were found",
    "json_each": "what the caller names",
    "wanted": "what the caller names",
}
"""Tables that may be walked, and why that is cheap."""

WALKS = {
    "lacking_studies": "once for a new destination, which gets every study",
    "latest_studies": "walks an index from its end and stops at LIMIT",
    "rejections": "walks from the end and stops at LIMIT",
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


@pytest.mark.parametrize("name", sorted(queries()))
def test_no_query_walks_a_table_that_grows(bench: Bench, name: str) -> None:
    plan = plan_of(bench.path, name)
    walked = {step.split()[1] for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"}
    assert walked <= STAY_SMALL.keys() or name in WALKS, plan


@pytest.mark.parametrize("name", ["relink", "requeue_some"])
def test_a_part_of_the_studies_is_looked_at_by_number(bench: Bench, name: str) -> None:
    """By another index each of the parts would look at every delivery."""
    plan = plan_of(bench.path, name)
    assert "SEARCH delivery USING PRIMARY KEY (study_id>? AND study_id<?)" in plan


def test_walks_stop_at_their_limit_and_claims_look_once(bench: Bench) -> None:
    assert plan_of(bench.path, "latest_studies") == ["SCAN study USING INDEX study_by_last"]
    assert plan_of(bench.path, "rejections") == ["SCAN rejection"]
    state_plan = plan_of(bench.path, "latest_studies_in_state")
    assert "SEARCH delivery USING COVERING INDEX delivery_by_state (state=?)" in state_plan
    assert "USE TEMP B-TREE FOR GROUP BY" not in state_plan
    for name in ("claimable", "next_due"):
        plan = plan_of(bench.path, name)
        assert any("INDEX delivery_by_due (destination_id=?" in step for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
