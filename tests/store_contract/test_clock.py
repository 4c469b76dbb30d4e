"""Studies that wait, are held, paused or being sent while somebody sets the clock."""

from __future__ import annotations

import pytest

from dicom2fhir.store.statuses import State
from tests.store_contract.bench import DEST, LOOK_S, MAX_WAIT_S, QUIET_S, Bench, delivered, over, record

LEASE_S, PAUSE_S = 600.0, 60.0
HELD = over("a")
HOUR_S = 3_600.0
YEARS_S = 10 * 365 * 86_400.0
BACK = [-2.0, -60.0, -HOUR_S, -86_400.0, -25 * HOUR_S, -YEARS_S]
BOTH_WAYS = [*BACK, *(-step_s for step_s in BACK)]
running_or_restarted = pytest.mark.parametrize("over_a_restart", [False, True], ids=["running", "restarted"])


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_waiting_study_is_due_after_its_quiet_period(bench: Bench, step_s: float, over_a_restart: bool) -> None:
    bench.add(record())
    bench.later_with_looks(1.0)
    bench.set_clock(step_s, over_a_restart)
    assert bench.wait_s() <= QUIET_S
    bench.later_with_looks(QUIET_S)
    claim = bench.claim(lease_s=LEASE_S)
    delivered(bench.store, claim, claim.revision, b"")
    assert bench.state() is State.DELIVERED


@pytest.mark.parametrize("step_s", BACK)
def test_a_clock_that_is_set_back_makes_nothing_due_sooner(bench: Bench, step_s: float) -> None:
    bench.add(record())
    bench.later_with_looks(1.0)
    bench.set_clock(step_s)
    bench.later_with_looks(QUIET_S - 5.0)
    assert bench.none_due()
    bench.later_with_looks(5.0 + LOOK_S)
    bench.claim(lease_s=LEASE_S)


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_what_comes_after_the_step_counts_from_then(bench: Bench, step_s: float, over_a_restart: bool) -> None:
    bench.add(record(1))
    bench.set_clock(step_s, over_a_restart)
    bench.add(record(2))
    assert bench.wait_s() == (QUIET_S if step_s < MAX_WAIT_S else 0.0)
    bench.later_with_looks(QUIET_S)
    assert bench.claim(lease_s=LEASE_S).revision == 2


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_study_that_an_association_holds(bench: Bench, step_s: float) -> None:
    bench.add(record(1), HELD)
    bench.later_with_looks(1.0)
    bench.set_clock(step_s)
    assert bench.wait_s() <= MAX_WAIT_S
    bench.add(record(2), HELD)
    bench.later_with_looks(1.0)
    bench.store.association_ended("a")
    assert bench.wait_s() <= QUIET_S
    bench.later_with_looks(QUIET_S)
    assert bench.claim(lease_s=LEASE_S).revision == 2


@pytest.mark.parametrize("step_s", BACK)
def test_a_held_study_reaches_its_cap(bench: Bench, step_s: float) -> None:
    bench.add(record(1), HELD)
    bench.later_with_looks(QUIET_S)
    bench.set_clock(step_s)
    bench.later_with_looks(MAX_WAIT_S + LOOK_S)
    bench.claim(lease_s=LEASE_S)


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_pause_after_a_failed_try_is_no_longer_than_it_was(bench: Bench, step_s: float, over_a_restart: bool) -> None:
    bench.add(record())
    bench.later_with_looks(2 * HOUR_S)  # its last change does not lie in the future
    bench.store.retry(bench.claim(lease_s=LEASE_S), PAUSE_S, "down")
    bench.later_with_looks(1.0)
    bench.set_clock(step_s, over_a_restart)
    assert bench.wait_s() <= PAUSE_S
    if step_s < 0:
        bench.later_with_looks(PAUSE_S - 6.0)
        assert bench.none_due()
    bench.later_with_looks(PAUSE_S)
    assert bench.claim(lease_s=LEASE_S).attempts == 1


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_who_sends_a_study_keeps_it(bench: Bench, step_s: float) -> None:
    bench.add(record(1))
    bench.later_with_looks(QUIET_S)
    claim = bench.claim(lease_s=LEASE_S)
    bench.later_with_looks(1.0)
    bench.set_clock(step_s)
    assert bench.none_due()
    bench.later_with_looks(LEASE_S / 2)
    assert bench.none_due()
    delivered(bench.store, claim, claim.revision, b"")
    assert bench.state() is State.DELIVERED


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_lease_that_nobody_gives_back_ends(bench: Bench, step_s: float) -> None:
    bench.add(record(1))
    bench.later_with_looks(QUIET_S)
    bench.claim(lease_s=LEASE_S)
    bench.set_clock(step_s)
    assert bench.wait_s() <= LEASE_S
    bench.later_with_looks(LEASE_S + LOOK_S)
    bench.claim(lease_s=LEASE_S)


@pytest.mark.parametrize("step_s", BACK)
def test_a_lease_of_a_former_life_holds_nothing(bench: Bench, step_s: float) -> None:
    bench.add(record())
    bench.later_with_looks(2 * HOUR_S)
    bench.claim(lease_s=LEASE_S)
    bench.set_clock(step_s, over_a_restart=True)
    assert bench.wait_s() <= QUIET_S


@pytest.mark.parametrize("step_s", BOTH_WAYS)
@pytest.mark.parametrize("outcome", ["delivered", "refused", "failed", "excluded"])
def test_what_came_while_a_study_was_sent(bench: Bench, step_s: float, outcome: str) -> None:
    bench.add(record(1))
    bench.later_with_looks(QUIET_S)
    claim = bench.claim(lease_s=LEASE_S)
    bench.add(record(2))
    bench.add(record(3), HELD)
    bench.set_clock(step_s)
    bench.later_with_looks(2.0)
    match outcome:
        case "delivered":
            delivered(bench.store, claim, claim.revision, b"")
        case "refused":
            bench.store.refuse(claim, claim.revision, "no")
        case "failed":
            bench.store.retry(claim, 0.0, "down")
        case "excluded":
            bench.store.exclude(claim, "not meant for it", "")
    assert bench.wait_s() <= MAX_WAIT_S
    bench.store.association_ended("a")
    assert bench.wait_s() <= QUIET_S
    bench.later_with_looks(QUIET_S)
    assert bench.claim(lease_s=LEASE_S).revision == 3


@pytest.mark.parametrize("step_s", BACK)
def test_a_study_that_was_made_due_by_hand(bench: Bench, step_s: float) -> None:
    bench.add(record())
    bench.later_with_looks(2 * HOUR_S)
    assert bench.store.requeue() == 1
    bench.set_clock(step_s)
    bench.later_with_looks(QUIET_S + LOOK_S)
    bench.claim(lease_s=LEASE_S)


@running_or_restarted
@pytest.mark.parametrize("step_s", [60.0, HOUR_S, 86_400.0, YEARS_S])
def test_a_clock_that_was_ahead_for_a_while(bench: Bench, step_s: float, over_a_restart: bool) -> None:
    """It is ahead when the daemon starts, a study is delivered and another waits, and then it is put right."""
    bench.set_clock(step_s, over_a_restart=True)
    bench.add(record(1))
    bench.later_with_looks(QUIET_S)
    claim = bench.claim(lease_s=LEASE_S)
    delivered(bench.store, claim, claim.revision, b"")
    bench.set_clock(-step_s, over_a_restart)
    assert bench.store.next_due_at(DEST) is None
    status = bench.status()
    assert max(status.first_at, status.last_at) <= bench.now
    bench.store.set_destinations([DEST, "other"])
    due_at = bench.store.next_due_at("other")
    assert due_at is not None
    assert due_at <= bench.now + QUIET_S
    bench.add(record(2))
    bench.later_with_looks(QUIET_S)
    assert bench.claim(lease_s=LEASE_S).revision == 2


def test_what_another_process_wrote_while_the_clock_was_years_ahead(bench: Bench) -> None:
    bench.add(record())
    with bench.beside(clock=lambda: bench.now + YEARS_S) as store:
        assert store.requeue() == 1
    assert bench.wait_s() <= QUIET_S
    bench.later_with_looks(QUIET_S)
    bench.claim(lease_s=LEASE_S)
