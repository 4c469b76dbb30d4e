"""Who is at fault when deliveries fail: a study that is given up, a destination that is waited for without end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.outcomes import Delivered, Outcome, Retry
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DeliveryStatus, State
from tests.daemon_process import wait_until
from tests.doubles import OneByOne

pytestmark = [pytest.mark.bar(3), pytest.mark.timeout(120)]

NAME = "there"
PATIENCE_S = 20.0
HOUR = 3_600.0
DAY = 24 * HOUR
POLICY = RetryPolicy(first_s=0.01, cap_s=0.02, give_up_after_s=DAY)
POISON = "1.0"
ERROR = Retry(
    "HTTP 500: the server failed", whole_destination=True, unclear=True, issues=("error: no room for Doe^John",)
)
AWAY = Retry("connection refused", whole_destination=True)
CONFLICT = Retry("HTTP 409")


class Bridge(OneByOne):
    """A store and its workers, at a time that the test sets; a restart makes both anew.

    Attributes
    ----------
    answers
        What the destination says to a study; success where nothing is said.
    all
        What it says to every study, if anything.
    """

    name = NAME

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_700_000_000.0
        self.passed_s = 0.0
        self.answers: dict[str, Outcome] = {POISON: ERROR}
        self.all: Outcome | None = None
        self.studies = 0
        self.tries: list[str] = []
        self.start()

    def start(self) -> None:
        self.store = SqliteStore(
            self.path, quiet_period_s=0.0, max_wait_s=0.0, min_free_bytes=0, clock=lambda: self.now
        )
        self.store.set_destinations([NAME])
        self.deliverer = Deliverer(
            self.store,
            self,
            workers=2,
            policy=POLICY,
            lease_s=60.0,
            wall_clock=lambda: self.now,
            clock=lambda: time.monotonic() + self.passed_s,
            jitter=lambda: 1.0,
        )
        self.deliverer.start()

    def stop(self) -> None:
        assert self.deliverer.stop(PATIENCE_S)
        self.store.close()

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        self.tries.append(study.uid)
        return self.all or self.answers.get(study.uid) or Delivered(b"")

    def add(self, uid: str) -> None:
        self.store.add(
            InstanceRecord(uid, f"{uid}.1", f"{uid}.1.1", {}, {}, {}, {"SOPClassUID": "1.2"}), Origin("file")
        )

    def row(self, uid: str = POISON) -> DeliveryStatus:
        status = self.store.study_status(uid)
        assert status is not None
        return status.deliveries[0]

    def another(self) -> str:
        """A further study."""
        self.studies += 1
        self.add(uid := f"1.{self.studies}")
        return uid

    def another_passes(self) -> None:
        uid = self.another()
        wait_until(lambda: self.row(uid).state is State.DELIVERED, PATIENCE_S, "another study is delivered")

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.passed_s += seconds

    def fails(self, after_s: float) -> None:
        """Let time pass, and the study that fails be tried once more."""
        self._pass(after_s)
        before = self.tries.count(POISON)
        self.deliverer.wake()
        wait_until(lambda: self.tries.count(POISON) > before, PATIENCE_S, "it is tried again")
        wait_until(lambda: self.row().state is not State.SENDING, PATIENCE_S, "the outcome is recorded")

    def delivered(self, number: int) -> None:
        """Let seconds pass until so many studies are delivered."""

        def look() -> bool:
            self._pass(1.0)
            self.deliverer.wake()
            return self.store.stats().delivered == number

        wait_until(look, PATIENCE_S, f"{number} studies are delivered")

    def hours(self, number: int) -> None:
        """One study passes in each hour, and the one that fails is tried once."""
        for _ in range(number):
            self.another_passes()
            self.fails(HOUR)

    def hours_until_refused(self) -> int:
        """How many such hours it takes until the study is given up."""
        for number in range(1, 100):
            self.hours(1)
            if self.row().state is State.REFUSED:
                return number
        raise AssertionError("it is never given up")


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    made = Bridge(tmp_path / "store.db")
    made.add(POISON)
    wait_until(lambda: made.tries and made.row().state is State.WAITING, PATIENCE_S, "the first try fails")
    yield made
    made.stop()


@pytest.mark.parametrize("failure", [ERROR, CONFLICT])
def test_a_study_that_fails_while_others_pass_is_given_up_after_its_time(bridge: Bridge, failure: Outcome) -> None:
    bridge.answers[POISON] = failure
    assert bridge.hours_until_refused() == 24
    assert "give_up_after_s" in bridge.row().reason and failure.reason in bridge.row().reason  # type: ignore[union-attr]


def test_it_does_not_hold_up_the_others(bridge: Bridge) -> None:
    with structlog.testing.capture_logs() as logs:
        bridge.another_passes()
        for _ in range(5):
            bridge.fails(1.0)
            assert bridge.deliverer.down == ""
        bridge.another_passes()
    assert "destination.down" not in [entry["event"] for entry in logs], "it was down for the first failure alone"
    assert bridge.row().attempts == 6


def test_what_the_server_says_is_shown_and_not_logged(bridge: Bridge) -> None:
    with structlog.testing.capture_logs() as logs:
        bridge.hours(1)
        assert bridge.row().reason == "HTTP 500: the server failed; the server says: error: no room for Doe^John"
        bridge.all = ERROR
        bridge.another()
        wait_until(lambda: bridge.deliverer.down, PATIENCE_S, "it is down")
        assert "Doe^John" in bridge.deliverer.down
        bridge.all = None
        bridge.delivered(2)
        bridge.hours_until_refused()
    assert "Doe^John" in bridge.row().reason
    assert {"delivery.postponed", "destination.down", "delivery.refused"} <= {entry["event"] for entry in logs}
    assert "Doe" not in str(logs)


@pytest.mark.parametrize("outage", [ERROR, AWAY])
def test_an_outage_refuses_nothing_however_long_it_is(bridge: Bridge, outage: Outcome) -> None:
    bridge.hours(20)
    bridge.all = outage
    waiting = [bridge.another() for _ in range(5)]
    for _ in range(10):
        bridge.fails(30 * DAY)
    bridge.all = None
    bridge.delivered(20 + len(waiting))
    bridge.fails(1.0)
    assert bridge.store.stats().refused == 0
    bridge.answers.clear()
    bridge.delivered(20 + len(waiting) + 1)


def test_nothing_is_given_up_where_nobody_else_is_accepted(bridge: Bridge) -> None:
    for _ in range(10):
        bridge.fails(10 * DAY)
    assert bridge.row().state is State.WAITING


@pytest.mark.parametrize("step_s", [HOUR, -HOUR, 3650 * DAY, -3650 * DAY])
def test_a_step_of_the_clock_neither_gives_up_nor_keeps_for_ever(bridge: Bridge, step_s: float) -> None:
    bridge.hours(6)
    bridge.now += step_s
    assert 12 <= bridge.hours_until_refused() <= 19, "a step counts for no longer than the destination has been up"


def test_a_restart_neither_gives_up_nor_begins_anew(bridge: Bridge) -> None:
    bridge.hours(12)
    bridge.stop()
    bridge.start()
    assert bridge.hours_until_refused() == 12


def test_retry_gives_it_its_whole_time_again(bridge: Bridge) -> None:
    bridge.hours_until_refused()
    before = bridge.tries.count(POISON)
    bridge.store.requeue(POISON)
    wait_until(lambda: bridge.tries.count(POISON) > before, PATIENCE_S, "it is tried again")
    assert bridge.hours_until_refused() == 24


def test_a_destination_that_asks_all_to_wait_is_no_fault_of_the_study(bridge: Bridge) -> None:
    bridge.answers[POISON] = AWAY
    bridge.hours(30)
    assert bridge.row().state is State.WAITING


def test_retry_of_another_process_ends_a_pause(bridge: Bridge) -> None:
    bridge.all = Retry("HTTP 429", 7 * DAY, whole_destination=True)
    uid = bridge.another()
    wait_until(lambda: bridge.deliverer.standing().state == "paused", PATIENCE_S, "it is paused")
    tries = len(bridge.tries)
    bridge.another()
    assert bridge.deliverer.standing().until > bridge.now + 6 * DAY
    requeue(bridge, uid)
    wait_until(lambda: len(bridge.tries) > tries, PATIENCE_S, "it is asked")
    wait_until(lambda: bridge.deliverer.standing().until > bridge.now + 6 * DAY, PATIENCE_S, "it is paused again")
    bridge.all = None
    requeue(bridge, None)
    bridge.delivered(2)


def requeue(bridge: Bridge, study_uid: str | None) -> None:
    other = SqliteStore.attach(bridge.path, clock=lambda: bridge.now)
    other.requeue(study_uid)
    other.close()


def test_retry_of_another_destination_ends_no_pause(bridge: Bridge) -> None:
    bridge.store.set_destinations([NAME, "elsewhere"])
    before = bridge.store.requeued(NAME)
    bridge.store.requeue(destination="elsewhere")
    bridge.store.requeue(POISON, "elsewhere")
    assert (bridge.store.requeued(NAME), bridge.store.requeued("elsewhere")) == (before, 2)
