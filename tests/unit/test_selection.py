"""What a destination takes, by what any instance states and by who sent it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Claim, DeliveryStatus, State
from dicom2fhir.store.selection import KEYS, Selection
from dicom2fhir.store.sqlite.store import SqliteStore

STATED = {
    "modality": ("CT", "SR"),
    "institution": ("Hospital A",),
    "department": (),
    "calling_ae_title": ("CT1", "ROUTER"),
}


@pytest.mark.parametrize(
    ("only", "never", "reason"),
    [
        ({}, {}, ""),
        ({"modality": ("CT",)}, {}, ""),
        ({"modality": ("M?", "CT")}, {}, ""),
        ({"modality": ("MR",)}, {}, "only.modality matches nothing in the study"),
        ({"institution": ("HOSPITAL*",)}, {}, ""),
        ({"institution": (" hospital a ",)}, {}, ""),
        ({"institution": ("HOSPITAL",)}, {}, "only.institution matches nothing in the study"),
        ({"modality": ("CT",), "calling_ae_title": ("CT2",)}, {}, "only.calling_ae_title matches nothing in the study"),
        ({"department": ("*",)}, {}, "only.department matches nothing in the study"),
        ({}, {"modality": ("SR",)}, 'except.modality matches "SR"'),
        (
            {"modality": ("CT",)},
            {"calling_ae_title": ("RESEARCH*", "rout*")},
            'except.calling_ae_title matches "rout*"',
        ),
        ({}, {"department": ("*",)}, ""),
        ({}, {"institution": ("Hospital [BC]",)}, ""),
    ],
)
def test_only_wants_each_key_and_except_wins_with_any(only: Any, never: Any, reason: str) -> None:
    assert Selection(only, never).refuses(STATED) == reason


def test_what_takes_the_same_is_written_the_same() -> None:
    assert str(Selection()) == ""
    one = Selection(only={"modality": ("CT",), "institution": ("A",)})
    assert str(one) == str(Selection(only={"institution": ("A",), "modality": ("CT",)})) != str(Selection())
    assert str(Selection(never=one.only)) != str(one)


def record(number: int = 1, study: dict[str, Any] | None = None, **series: Any) -> InstanceRecord:
    return InstanceRecord("1.2", f"1.2.{number}", f"1.2.{number}.1", {}, study or {}, series, {"SOPClassUID": "1.2"})


class Now:
    """A clock that only moves when it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Now:
    return Now()


@pytest.fixture
def store(tmp_path: Path, clock: Now) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=5, max_wait_s=60, min_free_bytes=0, clock=clock)
    made.set_destinations(["main"])
    yield made
    made.close()


def send(store: SqliteStore, calling_ae: str, association: str, **series: Any) -> None:
    store.add(record(**series), Origin("dimse", calling_ae=calling_ae, association=association))
    store.association_ended(association)


def claimed(store: SqliteStore, clock: Now) -> Claim:
    clock.now += 100
    claim = store.claim("main", "me", 60)
    assert claim is not None
    return claim


def excluded(store: SqliteStore, clock: Now, selection: str = "") -> None:
    store.exclude(claimed(store, clock), "no", selection)
    assert row(store).state is State.EXCLUDED


def row(store: SqliteStore) -> DeliveryStatus:
    status = store.study_status("1.2")
    assert status is not None
    return status.deliveries[0]


def stated(store: SqliteStore) -> tuple[str, ...]:
    return tuple(store.stated("1.2")["calling_ae_title"])


def test_who_sent_a_study_is_kept_and_files_name_nobody(store: SqliteStore) -> None:
    store.add(record(), Origin("folder", path="/in/x"))
    assert stated(store) == ()
    send(store, "CT2", "b")
    send(store, "CT1", "a")
    send(store, "CT1", "c")
    assert stated(store) == ("CT1", "CT2")


def test_what_a_minority_of_instances_states_counts_too(store: SqliteStore) -> None:
    coded = {"CodeValue": "R1", "CodeMeaning": "Research unit"}
    here = {"InstitutionalDepartmentName": "Radiology"}
    for one in (
        record(1, here, Modality="CT", InstitutionName="A"),
        record(2, here, Modality="CT", InstitutionName="A"),
        record(3, here, Modality="CT", InstitutionName=["A", "B"]),
        record(4, {"InstitutionalDepartmentTypeCodeSequence": [coded]}, Modality="MR"),
        record(5, here, Modality="US"),
        record(5, here, Modality="OT"),
    ):
        store.add(one, Origin("dimse", calling_ae="CT1", association="a"))
    stated = store.stated("1.2")
    assert stated == {
        "modality": ("CT", "MR", "OT"),
        "institution": ("A", "B"),
        "department": ("R1", "Radiology", "Research unit"),
        "calling_ae_title": ("CT1",),
    }
    assert tuple(stated) == KEYS


def test_what_is_excluded_neither_waits_nor_calls_for_anybody(store: SqliteStore, clock: Now) -> None:
    send(store, "CT1", "a")
    excluded(store, clock)
    stats = store.stats()
    assert (stats.excluded, stats.waiting, stats.refused, stats.oldest_undelivered_at) == (1, 0, 0, None)
    assert store.next_due_at("main") is None
    assert row(store).reason == "no"
    assert [study.study_uid for study in store.studies(State.EXCLUDED)] == ["1.2"]
    assert store.requeue() == 0
    assert store.requeue(all_states=True) == 1
    excluded(store, clock)
    assert store.requeue("1.2", all_states=True) == 1


def test_a_new_instance_decides_anew(store: SqliteStore, clock: Now) -> None:
    send(store, "CT1", "a")
    excluded(store, clock)
    send(store, "CT1", "b")
    assert row(store).state is State.EXCLUDED, "nothing new came"
    send(store, "CT1", "c", number=2)
    assert row(store).state is State.WAITING
    assert claimed(store, clock).revision == 2


def test_another_sender_of_the_same_decides_anew(store: SqliteStore, clock: Now) -> None:
    send(store, "RESEARCH1", "a")
    excluded(store, clock)
    send(store, "CT1", "b")
    assert row(store).state is State.WAITING
    claim = claimed(store, clock)
    assert (claim.revision, stated(store)) == (1, ("CT1", "RESEARCH1"))
    store.delivered(claim, 1, b"base")
    send(store, "CT3", "c")
    assert row(store).state is State.DELIVERED, "what is there stays there"


@pytest.mark.parametrize("late", [{"calling_ae": "CT1"}, {"calling_ae": "RESEARCH1", "number": 2}])
def test_what_comes_while_it_is_decided_is_not_missed(store: SqliteStore, clock: Now, late: dict[str, Any]) -> None:
    send(store, "RESEARCH1", "a")
    claim = claimed(store, clock)
    send(store, association="b", **late)
    store.exclude(claim, "no", "")
    assert row(store).state is State.WAITING
    claimed(store, clock)


def test_another_selection_decides_exclusions_anew_and_the_same_does_not(store: SqliteStore, clock: Now) -> None:
    send(store, "CT1", "a")
    store.set_selection("main", "x")
    excluded(store, clock, "x")
    store.set_selection("main", "x")
    assert row(store).state is State.EXCLUDED
    store.set_selection("main", "y")
    assert row(store).state is State.WAITING
    claim = claimed(store, clock)
    store.set_selection("main", "z")
    store.exclude(claim, "no", "y")
    assert row(store).state is State.WAITING, "it was decided by what is no longer in force"
    excluded(store, clock, "z")


def test_what_was_delivered_and_is_left_out_now_says_that_it_stays(store: SqliteStore, clock: Now) -> None:
    send(store, "CT1", "a")
    store.delivered(claimed(store, clock), 1, b"base")
    send(store, "RESEARCH1", "b", number=2)
    excluded(store, clock)
    assert (row(store).delivered_revision, store.stats().delivered) == (1, 0)
