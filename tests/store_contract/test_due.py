"""When a study is due, and that who waits for it is told."""

from __future__ import annotations

from collections.abc import Callable

from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import State
from tests.store_contract.bench import DEST, FOLDER, MAX_WAIT_S, QUIET_S, Bench, delivered, over, record


def test_due_after_the_quiet_period(bench: Bench) -> None:
    start = bench.now
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
    start = bench.now
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
    start = bench.now
    bench.store.add(record(), FOLDER)
    bench.later(20)
    bench.store.add(record(), FOLDER)
    assert bench.store.next_due_at(DEST) == start + QUIET_S


def test_an_open_association_holds_its_studies_until_the_cap(bench: Bench) -> None:
    start = bench.now
    bench.store.add(record(), over("a"))
    bench.store.add(record(study="1.2"), over("b"))
    bench.later(QUIET_S * 2)
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) == start + MAX_WAIT_S
    bench.store.association_ended("a")
    claim = bench.claim()
    assert claim.study_uid == "1.1"
    delivered(bench.store, claim, claim.revision, b"")
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
    start = bench.now
    bench.store.add(record(), over("a"))
    bench.later(10)
    bench.store.association_ended("a")
    assert bench.store.next_due_at(DEST) == start + QUIET_S


def test_an_association_that_sends_what_is_known_holds_what_waits(bench: Bench) -> None:
    start = bench.now
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
    assert bench.store.next_due_at(DEST) == bench.now + MAX_WAIT_S
    bench.later(MAX_WAIT_S)
    claim = bench.claim()
    bench.store.add(record(3), over("a"))
    delivered(bench.store, claim, 2, b"")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == bench.now + MAX_WAIT_S


def test_associations_of_a_former_life_hold_nothing(bench: Bench) -> None:
    start = bench.now
    bench.store.add(record(), over("a"))
    assert bench.restart().next_due_at(DEST) == start + QUIET_S


def test_a_callback_that_was_unsubscribed_is_not_called(bench: Bench) -> None:
    told: list[str] = []

    def callback() -> None:
        told.append("wake")

    bench.store.unsubscribe(callback)
    bench.store.subscribe(callback)
    bench.store.unsubscribe(callback)
    bench.store.add(record(), FOLDER)
    assert told == []


def test_who_subscribed_is_told_when_something_may_be_due_sooner(bench: Bench) -> None:
    told: list[str] = []
    bench.store.subscribe(lambda: told.append("wake"))

    def wakes(action: Callable[[], object]) -> bool:
        told.clear()
        action()
        # The next commit comes after the callback of the one before.
        bench.store.mark_file(FileMark("/x", 1, 1, "taken"))
        return bool(told)

    assert wakes(lambda: bench.store.add(record(1), over("a")))
    assert wakes(lambda: bench.store.association_ended("a"))
    bench.later(QUIET_S)
    claim = bench.claim()
    assert wakes(lambda: bench.store.retry(claim, 0, "down"))
    bench.deliver()
    assert wakes(lambda: bench.store.add(record(3), FOLDER))
    assert wakes(lambda: bench.store.requeue())


def test_the_rule_of_the_daemon_holds_for_what_others_add_beside_it(bench: Bench) -> None:
    with bench.beside(quiet_period_s=2 * QUIET_S, max_wait_s=2 * MAX_WAIT_S) as store:
        store.add_many([record()], FOLDER)
    assert bench.store.next_due_at(DEST) == bench.now + QUIET_S
    bench.later(MAX_WAIT_S - 1)
    with bench.beside(quiet_period_s=1.0) as store:
        store.add_many([record(2)], FOLDER)
    assert bench.store.next_due_at(DEST) == bench.now + 1


def test_the_rule_is_that_of_the_daemon_that_runs_now(bench: Bench) -> None:
    bench.restart(quiet_period_s=5.0)
    with bench.beside() as store:
        store.add_many([record()], FOLDER)
    assert bench.store.next_due_at(DEST) == bench.now + 5
