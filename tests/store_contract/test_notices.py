"""What a store keeps of notifications (IAN) and procedure steps (MPPS), and what it makes due."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import DuplicateInstance, NoLongerUpdatable, NoSuchInstance
from dicom2fhir.model import Instance, Study
from dicom2fhir.store.notices import StepStatus
from dicom2fhir.store.statuses import State
from tests.examples import examples
from tests.store_contract.bench import (
    DEST,
    KINDS,
    LEASE_S,
    QUIET_S,
    Bench,
    changes,
    claimed,
    delivered,
    notification,
    over,
    record,
    step,
)


def stated(study: Study) -> dict[str, list[str]]:
    """SOP Instance UID -> what is stated, with the AE title that it holds for."""
    instances: list[Instance] = [instance for series in study.series for instance in series.instances]
    return {
        one.uid: [f"{each.attrs['InstanceAvailability']} from {each.retrieve_ae}" for each in one.stated]
        for one in instances
    }


# Availability


@pytest.mark.parametrize("is_first", [True, False])
def test_a_notification_may_come_before_or_after_the_instances(bench: Bench, is_first: bool) -> None:
    if is_first:
        bench.store.state_availability(notification([1, 3]))
    bench.add(record(1))
    bench.add(record(2))
    if not is_first:
        bench.store.state_availability(notification([1, 3]))
    assert stated(bench.study()) == {"1.9.1": ["ONLINE from PACS"], "1.9.2": []}
    assert bench.status().stated == 2
    bench.add(record(3))
    assert stated(bench.study())["1.9.3"] == ["ONLINE from PACS"]


def test_a_study_of_which_only_a_notification_is_known_is_kept(bench: Bench) -> None:
    bench.store.state_availability(notification())
    study = bench.study()
    assert (study.series, study.patient, study.is_announced) == ((), {}, True)
    assert (bench.status().instances, bench.state()) == (0, State.WAITING)
    bench.restart()
    assert bench.status().stated == 1


def test_the_last_statement_counts_for_each_ae_title(bench: Bench) -> None:
    bench.add(record(1))
    bench.store.state_availability(notification(uid="1.7.1"))
    bench.store.state_availability(notification(uid="1.7.2", retrieve_ae="CACHE"))
    bench.store.state_availability(notification(uid="1.7.3", availability="UNAVAILABLE", retrieve_ae="CACHE"))
    assert stated(bench.study())["1.9.1"] == ["UNAVAILABLE from CACHE", "ONLINE from PACS"]


def test_a_repeated_notification_does_not_undo_a_later_one(bench: Bench) -> None:
    bench.add(record(1))
    bench.store.state_availability(notification(uid="1.7.1"))
    bench.store.state_availability(notification(uid="1.7.2", availability="OFFLINE"))
    revision = bench.study().revision
    bench.store.state_availability(notification(uid="1.7.1"))
    assert stated(bench.study())["1.9.1"] == ["OFFLINE from PACS"]
    assert bench.study().revision == revision


def test_another_notification_under_a_known_uid_is_refused(bench: Bench) -> None:
    bench.add(record(1))
    bench.store.state_availability(notification())
    for other in (notification(availability="OFFLINE"), notification([1, 2]), notification(study="1.2")):
        with pytest.raises(DuplicateInstance):
            bench.store.state_availability(other)
    assert stated(bench.study())["1.9.1"] == ["ONLINE from PACS"]
    assert bench.store.study("1.2") is None


def test_a_notification_makes_a_delivered_study_due_after_the_quiet_period(bench: Bench) -> None:
    bench.add(record(1))
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.state_availability(notification())
    assert (bench.state(), bench.wait_s()) == (State.WAITING, QUIET_S)


def test_a_notification_that_says_nothing_new_changes_nothing(bench: Bench) -> None:
    bench.add(record(1))
    bench.store.state_availability(notification(uid="1.7.1"))
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.state_availability(notification(uid="1.7.2"))
    assert bench.state() is State.DELIVERED


def test_a_notification_during_a_delivery_makes_the_study_due_again(bench: Bench) -> None:
    bench.add(record(1))
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.state_availability(notification())
    delivered(bench.store, claim, claim.revision, b"base")
    assert bench.state() is State.WAITING


# Procedure steps


def test_a_procedure_step_announces_a_study_at_once(bench: Bench) -> None:
    bench.store.create_step(step(), over("a", "CT1"))
    study = bench.study()
    assert (study.is_announced, study.patient, study.series) == (True, {"PatientID": "P1"}, ())
    assert study.attrs["AccessionNumber"] == "A1"
    assert bench.wait_s() == 0
    assert bench.deliver() == "1.1"
    assert bench.status().steps == (StepStatus("1.6.1", "IN PROGRESS"),)
    assert bench.store.stated("1.1") == {
        "modality": ("CT",),
        "institution": (),
        "department": (),
        "calling_ae_title": ("CT1",),
    }


def test_a_discontinued_step_without_instances_is_told_at_once(bench: Bench) -> None:
    bench.store.create_step(step(), over("a"))
    bench.deliver()
    bench.store.update_step("1.6.1", changes("DISCONTINUED"))
    assert bench.wait_s() == 0
    assert [one.status for one in bench.study().steps] == ["DISCONTINUED"]


def test_with_its_instances_a_study_is_made_of_them(bench: Bench) -> None:
    bench.store.create_step(step(patient="P2"), over("a"))
    bench.add(record(1))
    study = bench.study()
    assert (study.is_announced, study.patient["PatientID"], study.conflict) == (False, "P1", "")


def test_steps_that_name_different_patients_name_none(bench: Bench) -> None:
    bench.store.create_step(step("1.6.1"), over("a"))
    bench.store.create_step(step("1.6.2", patient="P2"), over("a"))
    assert bench.study().patient == {}


@pytest.mark.parametrize("last", ["step", "instance"])
def test_a_complete_study_does_not_wait(bench: Bench, last: str) -> None:
    """Neither for the quiet period, nor for the association that still holds it."""
    bench.store.create_step(step(), over("a"))
    bench.deliver()
    bench.add(record(1), over("a"))
    if last == "step":
        bench.add(record(2), over("a"))
    assert bench.none_due()
    bench.store.update_step("1.6.1", changes("COMPLETED", [1, 2]))
    if last == "instance":
        assert bench.none_due()
        assert bench.status().missing == 1
        bench.add(record(2), over("a"))
    assert bench.wait_s() == 0
    assert bench.status().missing == 0
    assert bench.deliver() == "1.1"


def test_what_comes_after_a_complete_study_waits_again(bench: Bench) -> None:
    bench.store.create_step(step(), over("a"))
    bench.add(record(1), over("a"))
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    bench.add(record(2), over("a"))
    assert bench.none_due()
    bench.store.association_ended("a")
    assert bench.wait_s() == QUIET_S


@pytest.mark.parametrize("second", [None, "IN PROGRESS", "without a list"])
def test_a_study_is_complete_when_all_its_steps_are(bench: Bench, second: str | None) -> None:
    bench.store.create_step(step("1.6.1"), over("a"))
    if second:
        bench.store.create_step(step("1.6.2"), over("a"))
    bench.deliver()
    bench.add(record(1))
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    if second == "without a list":
        bench.store.update_step("1.6.2", changes("COMPLETED"))
    assert bench.none_due() is bool(second)
    if second:
        if second == "IN PROGRESS":
            bench.store.update_step("1.6.2", changes("DISCONTINUED"))
        assert bench.none_due() is (second != "IN PROGRESS")


def test_a_step_of_a_delivered_study_is_delivered_too(bench: Bench) -> None:
    bench.add(record(1))
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.create_step(step(), over("a"))
    assert bench.wait_s() == QUIET_S
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    assert bench.wait_s() == 0
    assert bench.deliver() == "1.1"
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    assert bench.state() is State.DELIVERED


def test_a_repeated_step_changes_nothing_and_another_is_refused(bench: Bench) -> None:
    bench.store.create_step(step(), over("a"))
    revision = bench.study().revision
    bench.store.create_step(step(), over("a"))
    assert bench.study().revision == revision
    for other in (step(patient="P2"), step(study="1.2")):
        with pytest.raises(DuplicateInstance):
            bench.store.create_step(other, over("a"))
    assert bench.store.study("1.2") is None


def test_a_step_that_has_ended_may_only_end_the_same_way_again(bench: Bench) -> None:
    bench.store.create_step(step(), over("a"))
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    for other in (changes("COMPLETED", [2]), changes("IN PROGRESS"), changes("DISCONTINUED", [1])):
        with pytest.raises(NoLongerUpdatable):
            bench.store.update_step("1.6.1", other)
    assert bench.status().steps == (StepStatus("1.6.1", "COMPLETED"),)


def test_an_unknown_step_cannot_be_updated(bench: Bench) -> None:
    with pytest.raises(NoSuchInstance):
        bench.store.update_step("1.6.9", changes())


def test_a_forgotten_study_takes_its_notices_with_it(bench: Bench) -> None:
    bench.store.state_availability(notification())
    bench.store.create_step(step(), over("a"))
    bench.store.update_step("1.6.1", changes("COMPLETED", [1]))
    assert bench.store.forget("1.1")
    assert bench.store.study_status("1.1") is None
    bench.store.state_availability(notification(availability="OFFLINE"))
    bench.store.create_step(step(patient="P2"), over("a"))
    bench.add(record(1))
    assert stated(bench.study()) == {"1.9.1": ["OFFLINE from PACS"]}
    assert bench.status().missing == 0


def test_a_study_without_instances_is_not_outdated(bench: Bench) -> None:
    bench.store.state_availability(notification())
    bench.store.create_step(step("1.6.1", study="1.2"), over("a"))
    bench.restart(reader="newer")
    assert bench.store.stats().outdated == 0
    bench.add(record(1))
    assert (bench.store.stats().outdated, bench.store.outdated_studies()) == (0, [])
    bench.restart(reader="newest")
    assert [one.study_uid for one in bench.store.outdated_studies()] == ["1.1"]


def test_an_excluded_study_is_decided_anew_when_something_is_stated(bench: Bench) -> None:
    bench.store.state_availability(notification())
    bench.later(QUIET_S)
    bench.store.exclude(bench.claim(), "nothing to write yet", "")
    assert bench.state() is State.EXCLUDED
    bench.store.create_step(step(), over("a"))
    assert (bench.state(), bench.wait_s()) == (State.WAITING, 0)


# Order

EVENTS = (
    ("add", record(1)),
    ("add", record(2)),
    ("add", record(3)),
    ("state", notification([1, 2], uid="1.7.1")),
    ("state", notification([2, 3], "OFFLINE", uid="1.7.2", retrieve_ae="CACHE")),
    ("create", step("1.6.1")),
    ("set", "1.6.1"),
)
"""What may come in any order, but that a step is created before it is updated."""


def happens(bench: Bench, what: str, value: object) -> None:
    store = bench.store
    match what, value:
        case "add", one:
            bench.add(one, over("a"))  # type: ignore[arg-type]
        case "state", one:
            store.state_availability(one)  # type: ignore[arg-type]
        case "create", one:
            store.create_step(one, over("a"))  # type: ignore[arg-type]
        case "set", uid:
            store.update_step(str(uid), changes("COMPLETED", [1, 2, 3]))


ORDERS = {"seed": st.integers(0, 10**6), "repeated": st.lists(st.integers(0, len(EVENTS) - 1), max_size=4)}


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@examples(200)
@given(**ORDERS)
def test_every_order_comes_to_the_same(
    kind: str, seed: int, repeated: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_order(kind, tmp_path_factory.mktemp("store"), seed, repeated)


@pytest.mark.needs("postgres")
@examples(50)
@given(**ORDERS)
def test_every_order_comes_to_the_same_in_a_server(
    seed: int, repeated: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_order("postgres", tmp_path_factory.mktemp("store"), seed, repeated)


def check_order(kind: str, folder: Path, seed: int, repeated: list[int]) -> None:
    """That the events in this order, some of them repeated, end as in their own."""
    chance = random.Random(seed)
    order = list(range(len(EVENTS)))
    chance.shuffle(order)
    created, updated = sorted(order.index(number) for number in (len(EVENTS) - 2, len(EVENTS) - 1))
    order[created], order[updated] = len(EVENTS) - 2, len(EVENTS) - 1
    for number in repeated:
        # a sender repeats what it got no answer to, before it goes on
        order.insert(order.index(number) + 1, number)
    bench = Bench(KINDS[kind](folder))
    try:
        for number in order:
            happens(bench, *EVENTS[number])
            while claim := claimed(bench.store, DEST, "w", LEASE_S):
                delivered(bench.store, claim, claim.revision, b"base")
        study = bench.study()
        assert stated(study) == {
            "1.9.1": ["ONLINE from PACS"],
            "1.9.2": ["OFFLINE from CACHE", "ONLINE from PACS"],
            "1.9.3": ["OFFLINE from CACHE"],
        }
        assert [one.status for one in study.steps] == ["COMPLETED"]
        assert (study.patient["PatientID"], study.conflict, study.is_announced) == ("P1", "", False)
        status = bench.status()
        assert (status.instances, status.stated, status.missing) == (3, 3, 0)
        bench.store.association_ended("a")
        bench.later(QUIET_S)
        while claim := claimed(bench.store, DEST, "w", LEASE_S):
            delivered(bench.store, claim, claim.revision, b"base")
        assert (bench.state(), bench.row().delivered_revision) == (State.DELIVERED, study.revision)
    finally:
        bench.store.close()
