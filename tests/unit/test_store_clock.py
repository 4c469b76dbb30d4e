"""Studies that wait, are held, paused or being sent while somebody sets the clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Claim, State
from dicom2fhir.store.sqlite import schema
from dicom2fhir.store.sqlite.clock import Clock
from dicom2fhir.store.sqlite.store import SqliteStore

QUIET_S, MAX_WAIT_S, LEASE_S, PAUSE_S = 30.0, 900.0, 600.0, 60.0
LOOK_S = 2.0
"""Within so much a step of the clock is noticed."""
DEST = "main"
FOLDER = Origin("folder", path="/in/a.dcm")
HELD = Origin("dimse", calling_ae="CT1", association="a")
HOUR_S = 3_600.0
YEARS_S = 10 * 365 * 86_400.0
BACK = [-2.0, -60.0, -HOUR_S, -86_400.0, -25 * HOUR_S, -YEARS_S]
BOTH_WAYS = [*BACK, *(-step_s for step_s in BACK)]


class Machine:
    """A store, the wall clock of its machine and the time that passes whatever that clock says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_s = 50.0
        self.epoch = 1_700_000_000.0
        self.store = self.open()
        self.store.set_destinations([DEST])

    def wall(self) -> float:
        return self.epoch + self.passed_s

    def open(self) -> SqliteStore:
        self.store = SqliteStore(
            self.path,
            quiet_period_s=QUIET_S,
            max_wait_s=MAX_WAIT_S,
            clock=self.wall,
            steady=lambda: self.passed_s,
            min_free_bytes=0,
        )
        return self.store

    def set_clock(self, step_s: float, over_a_restart: bool = False) -> None:
        if over_a_restart:
            self.store.close()
        self.epoch += step_s
        if over_a_restart:
            self.open()

    def later(self, seconds: float) -> None:
        """Let time pass as it does with a deliverer that looks every few seconds."""
        end = self.passed_s + seconds
        while self.passed_s < end:
            self.passed_s = min(self.passed_s + LOOK_S, end)
            self.store.next_due_at(DEST)

    def add(self, number: int = 1, origin: Origin = FOLDER) -> None:
        attrs = {"SOPClassUID": "1.2", "InstanceNumber": str(number)}
        self.store.add(InstanceRecord("1.1", "1.1.1", f"1.9.{number}", {}, {}, {}, attrs), origin)

    def claim(self) -> Claim:
        claim = self.store.claim(DEST, "w1", LEASE_S)
        assert claim is not None
        return claim

    def none_due(self) -> bool:
        return self.store.claim(DEST, "nobody", LEASE_S) is None

    def state(self) -> State:
        status = self.store.study_status("1.1")
        assert status is not None
        return status.deliveries[0].state

    def wait_s(self) -> float:
        """Until the study is due, at least 0."""
        due_at = self.store.next_due_at(DEST)
        assert due_at is not None
        return max(due_at - self.wall(), 0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "store.db")
    yield made
    made.store.close()


running_or_restarted = pytest.mark.parametrize("over_a_restart", [False, True], ids=["running", "restarted"])


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_waiting_study_is_due_after_its_quiet_period(machine: Machine, step_s: float, over_a_restart: bool) -> None:
    machine.add()
    machine.later(1.0)
    machine.set_clock(step_s, over_a_restart)
    assert machine.wait_s() <= QUIET_S
    machine.later(QUIET_S)
    claim = machine.claim()
    machine.store.delivered(claim, claim.revision, b"")
    assert machine.state() is State.DELIVERED


@pytest.mark.parametrize("step_s", BACK)
def test_a_clock_that_is_set_back_makes_nothing_due_sooner(machine: Machine, step_s: float) -> None:
    machine.add()
    machine.later(1.0)
    machine.set_clock(step_s)
    machine.later(QUIET_S - 5.0)
    assert machine.none_due()
    machine.later(5.0 + LOOK_S)
    machine.claim()


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_what_comes_after_the_step_counts_from_then(machine: Machine, step_s: float, over_a_restart: bool) -> None:
    machine.add(1)
    machine.set_clock(step_s, over_a_restart)
    machine.add(2)
    assert machine.wait_s() == (QUIET_S if step_s < MAX_WAIT_S else 0.0)
    machine.later(QUIET_S)
    assert machine.claim().revision == 2


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_study_that_an_association_holds(machine: Machine, step_s: float) -> None:
    machine.add(1, HELD)
    machine.later(1.0)
    machine.set_clock(step_s)
    assert machine.wait_s() <= MAX_WAIT_S
    machine.add(2, HELD)
    machine.later(1.0)
    machine.store.association_ended("a")
    assert machine.wait_s() <= QUIET_S
    machine.later(QUIET_S)
    assert machine.claim().revision == 2


@pytest.mark.parametrize("step_s", BACK)
def test_a_held_study_reaches_its_cap(machine: Machine, step_s: float) -> None:
    machine.add(1, HELD)
    machine.later(QUIET_S)
    machine.set_clock(step_s)
    machine.later(MAX_WAIT_S + LOOK_S)
    machine.claim()


@running_or_restarted
@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_pause_after_a_failed_try_is_no_longer_than_it_was(
    machine: Machine, step_s: float, over_a_restart: bool
) -> None:
    machine.add()
    machine.later(2 * HOUR_S)  # its last change does not lie in the future
    machine.store.retry(machine.claim(), PAUSE_S, "down")
    machine.later(1.0)
    machine.set_clock(step_s, over_a_restart)
    assert machine.wait_s() <= PAUSE_S
    if step_s < 0:
        machine.later(PAUSE_S - 6.0)
        assert machine.none_due()
    machine.later(PAUSE_S)
    assert machine.claim().attempts == 1


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_who_sends_a_study_keeps_it(machine: Machine, step_s: float) -> None:
    machine.add(1)
    machine.later(QUIET_S)
    claim = machine.claim()
    machine.later(1.0)
    machine.set_clock(step_s)
    assert machine.none_due()
    machine.later(LEASE_S / 2)
    assert machine.none_due()
    machine.store.delivered(claim, claim.revision, b"")
    assert machine.state() is State.DELIVERED


@pytest.mark.parametrize("step_s", BOTH_WAYS)
def test_a_lease_that_nobody_gives_back_ends(machine: Machine, step_s: float) -> None:
    machine.add(1)
    machine.later(QUIET_S)
    machine.claim()
    machine.set_clock(step_s)
    assert machine.wait_s() <= LEASE_S
    machine.later(LEASE_S + LOOK_S)
    machine.claim()


@pytest.mark.parametrize("step_s", BACK)
def test_a_lease_of_a_former_life_holds_nothing(machine: Machine, step_s: float) -> None:
    machine.add()
    machine.later(2 * HOUR_S)
    machine.claim()
    machine.set_clock(step_s, over_a_restart=True)
    assert machine.wait_s() <= QUIET_S


@pytest.mark.parametrize("step_s", BOTH_WAYS)
@pytest.mark.parametrize("outcome", ["delivered", "refused", "failed", "excluded"])
def test_what_came_while_a_study_was_sent(machine: Machine, step_s: float, outcome: str) -> None:
    machine.add(1)
    machine.later(QUIET_S)
    claim = machine.claim()
    machine.add(2)
    machine.add(3, HELD)
    machine.set_clock(step_s)
    machine.later(2.0)
    match outcome:
        case "delivered":
            machine.store.delivered(claim, claim.revision, b"")
        case "refused":
            machine.store.refuse(claim, claim.revision, "no")
        case "failed":
            machine.store.retry(claim, 0.0, "down")
        case "excluded":
            machine.store.exclude(claim, "not meant for it", "")
    assert machine.wait_s() <= MAX_WAIT_S
    machine.store.association_ended("a")
    assert machine.wait_s() <= QUIET_S
    machine.later(QUIET_S)
    assert machine.claim().revision == 3


@pytest.mark.parametrize("step_s", BACK)
def test_a_study_that_was_made_due_by_hand(machine: Machine, step_s: float) -> None:
    machine.add()
    machine.later(2 * HOUR_S)
    assert machine.store.requeue() == 1
    machine.set_clock(step_s)
    machine.later(QUIET_S + LOOK_S)
    machine.claim()


@running_or_restarted
@pytest.mark.parametrize("step_s", [60.0, HOUR_S, 86_400.0, YEARS_S])
def test_a_clock_that_was_ahead_for_a_while(machine: Machine, step_s: float, over_a_restart: bool) -> None:
    """It is ahead when the daemon starts, a study is delivered and another waits, and then it is put right."""
    machine.set_clock(step_s, over_a_restart=True)
    machine.add(1)
    machine.later(QUIET_S)
    claim = machine.claim()
    machine.store.delivered(claim, claim.revision, b"")
    machine.set_clock(-step_s, over_a_restart)
    assert machine.store.next_due_at(DEST) is None
    status = machine.store.study_status("1.1")
    assert status is not None
    assert max(status.first_at, status.last_at) <= machine.wall()
    machine.store.set_destinations([DEST, "other"])
    due_at = machine.store.next_due_at("other")
    assert due_at is not None
    assert due_at <= machine.wall() + QUIET_S
    machine.add(2)
    machine.later(QUIET_S)
    assert machine.claim().revision == 2


def test_what_another_process_wrote_while_the_clock_was_years_ahead(machine: Machine) -> None:
    machine.add()
    other = SqliteStore.attach(machine.path, clock=lambda: machine.wall() + YEARS_S)
    assert other.requeue() == 1
    other.close()
    assert machine.wait_s() <= QUIET_S
    machine.later(QUIET_S)
    machine.claim()


def test_a_pause_from_before_version_7_ends_with_the_next_start(tmp_path: Path) -> None:
    """When it began is not known, and the clock may have been set since."""
    connection = sqlite3.connect(tmp_path / "store.db")
    for step in schema.steps()[:6]:
        connection.executescript(step)
    connection.executescript(f"""PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=6;
        INSERT INTO destination (name) VALUES ('main');
        INSERT INTO study (uid, revision, first_at, last_at) VALUES ('1.1', 1, 1, 1);
        INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at, not_before, due_at, attempts)
        VALUES (1, 1, 'waiting', 1, 1, 1700040000, 1700040000, 3);
    """)
    connection.close()
    machine = Machine(tmp_path / "store.db")
    try:
        assert machine.claim().attempts == 3
    finally:
        machine.store.close()


def test_a_step_is_followed_as_soon_as_the_store_can_be_written(tmp_path: Path) -> None:
    now = 1_700_000_000.0
    store = SqliteStore(tmp_path / "store.db", clock=lambda: now, min_free_bytes=0, busy_timeout_s=0.01)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    try:
        store.set_destinations([DEST])
        store.add(InstanceRecord("1.1", "1.1.1", "1.9", {}, {}, {}, {}), FOLDER)
        now -= HOUR_S
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="busy"):
            store.next_due_at(DEST)
        other.execute("ROLLBACK")
        assert store.next_due_at(DEST) == now + QUIET_S
    finally:
        other.close()
        store.close()


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_clock_that_is_slewed_is_not_set(rate: float) -> None:
    passed_s = 0.0
    clock = Clock(lambda: passed_s * rate, lambda: passed_s)
    for _ in range(1_000):
        passed_s += 2.0
        assert clock.now() == passed_s * rate
        assert clock.step_s() == 0.0


def test_a_step_stays_until_it_is_forgotten() -> None:
    wall, steady = 1_000.0, 10.0
    clock = Clock(lambda: wall, lambda: steady)
    assert clock.now() == 1_000.0
    for step_s in -500.0, 500.0:
        wall += step_s
        assert clock.step_s() == clock.step_s() == step_s
        clock.forget_steps(clock.read())
        assert clock.step_s() == 0.0


@pytest.mark.parametrize("step_s", [-500.0, 500.0])
def test_a_step_while_another_one_is_put_right_is_seen(step_s: float) -> None:
    wall, steady = 1_000.0, 10.0
    clock = Clock(lambda: wall, lambda: steady)
    clock.now()
    wall -= 2_000.0
    reading = clock.read()
    wall += step_s  # while the store writes
    clock.forget_steps(reading)
    assert clock.step_s() == step_s
