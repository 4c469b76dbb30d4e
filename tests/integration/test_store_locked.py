"""Another process (a backup, a shell) keeps the store locked while something ends that has to be recorded."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE

from dicom2fhir.deliver import threads
from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.outcomes import Delivered, Outcome, Refused, Retry
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import State
from tests.daemon_process import DaemonProcess, wait_until
from tests.doubles import OneByOne
from tests.store_contract.bench import claimed

QUIET_S, MAX_WAIT_S = 30.0, 900.0
DEST = "main"
WITHIN_S = 30.0
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        yield


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_store(path: Path, clock: Clock) -> SqliteStore:
    return SqliteStore(
        path, quiet_period_s=QUIET_S, max_wait_s=MAX_WAIT_S, clock=clock, min_free_bytes=0, busy_timeout_s=0.05
    )


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    made = open_store(tmp_path / "store.db", clock)
    made.set_destinations([DEST])
    yield made
    made.close()


def add(store: SqliteStore, study: str = "1.1", association: str = "") -> None:
    origin = Origin("dimse", calling_ae="CT1", association=association)
    store.add(InstanceRecord(study, f"{study}.1", f"{study}.1.1", {}, {}, {}, {"SOPClassUID": "1.2"}), origin)


def end(store: SqliteStore, association: str) -> None:
    with pytest.raises(StoreUnavailable, match="Another process is locking the store"):
        store.association_ended(association)


def test_the_end_of_an_association_is_recorded_when_the_lock_is_gone(store: SqliteStore, clock: Clock) -> None:
    for name in "abc":
        add(store, f"1.{name}", name)
    with locked(store.path):
        end(store, "a")
        end(store, "b")
        clock.now += 1.0
        with pytest.raises(StoreUnavailable, match="Another process is locking the store"):
            claimed(store, DEST, "w", 60.0)
    assert store.next_due_at(DEST) == clock.now - 1.0 + QUIET_S
    clock.now += QUIET_S
    claims = [claimed(store, DEST, "w", 60.0) for _ in range(3)]
    assert {claim.study_uid for claim in claims if claim} == {"1.a", "1.b"}
    assert store.next_due_at(DEST) == clock.now + 60.0
    status = store.study_status("1.c")
    assert status is not None and status.association_open


def test_an_association_that_goes_on_in_another_holds_until_both_have_ended(store: SqliteStore, clock: Clock) -> None:
    add(store, association="a")
    add(store, association="b")
    with locked(store.path):
        end(store, "a")
    clock.now += QUIET_S
    assert claimed(store, DEST, "w", 60.0) is None
    store.association_ended("b")
    assert claimed(store, DEST, "w", 60.0) is not None


def test_only_associations_that_hold_something_are_remembered(store: SqliteStore) -> None:
    add(store, association="a")
    with locked(store.path):
        for number in range(20):
            end(store, f"echo-{number}")
        end(store, "a")
        end(store, "a")
        assert store._ended == {"a"}
    assert store.next_due_at(DEST) is not None
    assert not store._ended


def test_an_end_that_was_not_recorded_does_not_outlive_the_process(
    store: SqliteStore, clock: Clock, tmp_path: Path
) -> None:
    add(store, association="a")
    with locked(store.path):
        end(store, "a")
        store.close()
    again = open_store(tmp_path / "store.db", clock)
    try:
        assert again.next_due_at(DEST) == clock.now + QUIET_S
    finally:
        again.close()


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Delivered(b""), State.DELIVERED),
        (Refused(("no",)), State.REFUSED),
        (Retry("later", after_s=3_000.0), State.WAITING),
        (Retry("away", after_s=3_000.0, whole_destination=True), State.WAITING),
    ],
    ids=["delivered", "refused", "failed", "down"],
)
def test_an_outcome_is_recorded_when_the_lock_is_gone(
    store: SqliteStore, clock: Clock, outcome: Outcome, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STORE_PAUSE_S", 0.01)
    answering, answer = threading.Event(), threading.Event()
    tries = []

    class Destination(OneByOne):
        name = DEST

        def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
            tries.append(study.uid)
            answering.set()
            assert answer.wait(WITHIN_S)
            return outcome

    add(store)
    clock.now += QUIET_S
    complaints = threading.Event()
    monkeypatch.setattr(threads.log, "error", lambda *_, **__: complaints.set())
    deliverer = Deliverer(store, Destination(), workers=1, lease_s=3_600.0, policy=RetryPolicy(), wall_clock=clock)
    deliverer.start()
    try:
        assert answering.wait(WITHIN_S)
        with locked(store.path):
            answer.set()
            assert complaints.wait(WITHIN_S)
        status = wait_until(
            lambda: (found := store.study_status("1.1")) and found.deliveries[0].state is state and found,
            WITHIN_S,
            f"the delivery is {state}",
        )
        assert status.deliveries[0].attempts == (0 if state is State.DELIVERED else 1)
        assert tries == ["1.1"]
    finally:
        assert deliverer.stop(WITHIN_S)


def test_a_worker_that_cannot_record_an_outcome_can_be_stopped(store: SqliteStore, clock: Clock) -> None:
    answering, answer = threading.Event(), threading.Event()

    class Destination(OneByOne):
        name = DEST

        def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
            answering.set()
            assert answer.wait(WITHIN_S)
            return Delivered(b"")

    add(store)
    clock.now += QUIET_S
    deliverer = Deliverer(store, Destination(), workers=1, wall_clock=clock)
    deliverer.start()
    assert answering.wait(WITHIN_S)
    with locked(store.path):
        answer.set()
        assert deliverer.stop(WITHIN_S)


def test_a_study_whose_association_ends_under_a_lock_is_delivered_after_its_quiet_period(tmp_path: Path) -> None:
    settings = f'[destinations.files]\ntype = "file"\ndirectory = "{tmp_path / "out"}"\n'
    daemon = DaemonProcess(tmp_path / "daemon", ("--quiet-period", "1"), settings)
    try:
        daemon.start()
        sender = AE("SENDER")
        sample = instance("CT", "one")
        sender.add_requested_context(sample.SOPClassUID)
        association = sender.associate(*daemon.address, ae_title="DICOM2FHIR")
        assert association.send_c_store(sample).Status == 0
        with locked(daemon.store_path):
            association.release()
            daemon.says(("association.end_not_recorded",))
        assert daemon.settled().delivered == 1  # within far less than the longest wait
    finally:
        daemon.clean_up()
