"""The workers, on a real store."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog

from dicom2fhir.deliver import successes, threads, worker
from dicom2fhir.deliver.destination import Destination
from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.outcomes import Delivered, Job, Outcome, Refused, Retry
from dicom2fhir.store.base import Claim, Success
from dicom2fhir.store.selection import Selection
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DeliveryStatus, State
from tests.daemon_process import wait_until
from tests.doubles import FunctionMapper, OneByOne
from tests.servers.outage_proxy import OutageProxy

NAME = "there"
QUICK = RetryPolicy(first_s=0.02, cap_s=0.1)
PATIENCE_S = 60.0
ORIGIN = Origin("file")


class Scripted(OneByOne):
    """A destination that answers as the test says, and remembers who was there at once."""

    name = NAME

    def __init__(self, answer: Callable[[Study, bytes], Outcome]) -> None:
        self.answer = answer
        self.seen: list[tuple[str, int]] = []
        self.most_at_once = 0
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        with self._lock:
            self._now[study.uid] += 1
            assert self._now[study.uid] == 1, "one delivery of a study at a time"
            self.most_at_once = max(self.most_at_once, self._now.total())
            self.seen.append((study.uid, study.revision))
        try:
            return self.answer(study, base)
        finally:
            with self._lock:
                self._now[study.uid] -= 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=0.0, max_wait_s=0.0, min_free_bytes=0)
    made.set_destinations([NAME])
    yield made
    made.close()


@contextmanager
def running(
    store: SqliteStore, destination: Destination, workers: int = 2, policy: RetryPolicy = QUICK
) -> Iterator[Deliverer]:
    deliverer = Deliverer(store, destination, workers=workers, lease_s=60.0, policy=policy)
    deliverer.start()
    try:
        yield deliverer
    finally:
        assert deliverer.stop(PATIENCE_S)


def add(store: SqliteStore, *studies: str, instance: int = 1) -> None:
    for uid in studies:
        attrs = {"SOPClassUID": "1.2", "InstanceNumber": str(instance)}
        store.add(InstanceRecord(uid, f"{uid}.1", f"{uid}.1.{instance}", {}, {}, {}, attrs), ORIGIN)


def row(store: SqliteStore, uid: str) -> DeliveryStatus:
    status = store.study_status(uid)
    assert status is not None
    return status.deliveries[0]


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def all_delivered(store: SqliteStore, studies: int) -> Callable[[], bool]:
    return lambda: store.stats().delivered == studies


def at_revision(store: SqliteStore, uid: str, revision: int) -> Callable[[], bool]:
    return lambda: row(store, uid).delivered_revision == revision


def test_every_revision_arrives_and_what_was_sent_is_remembered(store: SqliteStore) -> None:
    bases: list[bytes] = []

    def answer(study: Study, base: bytes) -> Outcome:
        bases.append(base)
        return Delivered(b"revision %d" % study.revision, written=study.revision != 3)

    destination = Scripted(answer)
    with running(store, destination) as deliverer:
        for revision in (1, 2, 3):
            add(store, "1.1", instance=revision)
            eventually(at_revision(store, "1.1", revision))
        assert bases == [b"", b"revision 1", b"revision 2"]
        eventually(lambda: deliverer.counts().unchanged == 1)
        assert deliverer.counts().written == 2
        assert set(deliverer.heartbeats()) == {"deliver-there-1", "deliver-there-2"}


GROUP = [f"1.{number}" for number in range(1, 9)]
"""As many studies as one worker claims at once."""


def sending(store: SqliteStore) -> list[str]:
    return [uid for uid in GROUP if row(store, uid).state is State.SENDING]


def test_a_worker_claims_several_studies_and_leaves_as_many_to_each_other_one(store: SqliteStore) -> None:
    held: list[int] = []

    def answer(study: Study, base: bytes) -> Outcome:
        held.append(len(sending(store)))
        return Delivered(b"")

    add(store, *GROUP)
    with running(store, Scripted(answer), workers=1):
        eventually(all_delivered(store, 8))
    assert held == [8] * 8
    held.clear()
    add(store, *GROUP[:3], instance=2)
    everybody = threading.Barrier(3)

    def answer_together(study: Study, base: bytes) -> Outcome:
        everybody.wait(PATIENCE_S)
        return Delivered(b"")

    with running(store, Scripted(answer_together), workers=3):
        eventually(lambda: all(row(store, uid).delivered_revision == 2 for uid in GROUP[:3]))


@contextmanager
def commits(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The studies that are recorded as delivered together."""
    found: list[list[str]] = []
    record = store.delivered

    def counting(together: Sequence[Success]) -> None:
        found.append([success.claim.study_uid for success in together])
        record(together)

    with monkeypatch.context() as patch:
        patch.setattr(store, "delivered", counting)
        yield found


def test_studies_that_are_delivered_together_are_recorded_together(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successes, "_RECORD_WITHIN_S", PATIENCE_S)
    add(store, *GROUP)
    with commits(store, monkeypatch) as found, running(store, Scripted(lambda *_: Delivered(b"")), workers=1):
        eventually(all_delivered(store, 8))
    assert found == [GROUP]


def test_each_study_of_a_slow_destination_is_recorded_at_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successes, "_RECORD_WITHIN_S", 0.0)
    held: list[int] = []

    def answer(study: Study, base: bytes) -> Outcome:
        held.append(len(sending(store)))
        return Delivered(b"")

    add(store, *GROUP)
    with commits(store, monkeypatch) as found, running(store, Scripted(answer), workers=1):
        eventually(all_delivered(store, 8))
    assert found == [[uid] for uid in GROUP]
    assert held == [8, 7, 6, 5, 4, 3, 2, 1]


def test_what_was_delivered_is_recorded_before_a_failure_and_when_the_bridge_fails(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successes, "_RECORD_WITHIN_S", PATIENCE_S)
    ends: list[tuple[str, int]] = []
    refuse = store.refuse

    def refusing(claim: Claim, revision: int, reason: str) -> None:
        ends.append((claim.study_uid, store.stats().delivered))
        refuse(claim, revision, reason)

    def answer(study: Study, base: bytes) -> Outcome:
        if study.uid == GROUP[5]:
            raise RuntimeError("no")
        return Refused(("HTTP 422",)) if study.uid == GROUP[2] else Delivered(b"")

    monkeypatch.setattr(store, "refuse", refusing)
    add(store, *GROUP)
    with commits(store, monkeypatch) as found, running(store, Scripted(answer), workers=1):
        eventually(all_delivered(store, 6))
    assert found == [GROUP[:2], GROUP[3:5], GROUP[6:]]
    assert ends == [(GROUP[2], 2), (GROUP[5], 4)]


def test_studies_that_fill_memory_are_not_held_together(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_MANY_INSTANCES", 2)
    jobs: list[int] = []

    class Counting(Scripted):
        def deliver_all(self, group: Sequence[Job]) -> Iterator[Outcome]:
            jobs.append(len(group))
            return super().deliver_all(group)

    add(store, *GROUP)
    with running(store, Counting(lambda *_: Delivered(b"")), workers=1):
        eventually(all_delivered(store, 8))
    assert jobs == [2, 2, 2, 2]


def test_a_worker_sends_again_when_another_process_resumes_its_destination(store: SqliteStore) -> None:
    assert store.pause(NAME)
    add(store, "1.1")
    with running(store, Scripted(lambda *_: Delivered(b""))):
        other = SqliteStore.attach(store.path)
        try:
            assert not other.stats().delivered
            assert other.resume(NAME)
        finally:
            other.close()
        eventually(all_delivered(store, 1))


def test_what_was_claimed_waits_as_before_when_the_destination_goes_down(store: SqliteStore) -> None:
    def answer(study: Study, base: bytes) -> Outcome:
        return Delivered(b"") if study.uid == GROUP[0] else Retry("down", after_s=3600.0, whole_destination=True)

    destination = Scripted(answer)
    add(store, *GROUP)
    with running(store, destination, workers=1) as deliverer:
        eventually(lambda: deliverer.down != "" and not sending(store))
        assert [uid for uid, _ in destination.seen] == GROUP[:2]
        others = [row(store, uid) for uid in GROUP[2:]]
    assert {(one.state, one.attempts, one.reason) for one in others} == {(State.WAITING, 0, "")}
    assert all(one.due_at <= time.time() for one in others)


def test_what_was_claimed_waits_as_before_when_the_worker_is_stopped(store: SqliteStore) -> None:
    answering, answer = threading.Event(), threading.Event()

    def wait(study: Study, base: bytes) -> Outcome:
        answering.set()
        assert answer.wait(PATIENCE_S)
        return Delivered(b"")

    add(store, *GROUP)
    destination = Scripted(wait)
    with running(store, destination, workers=1) as deliverer:
        assert answering.wait(PATIENCE_S)
        assert not deliverer.stop(0.0)
        answer.set()
    assert len(destination.seen) == 1
    assert [row(store, uid).state for uid in GROUP] == [State.DELIVERED] + [State.WAITING] * 7


def test_none_begins_in_the_second_half_of_the_lease(store: SqliteStore) -> None:
    now = time.monotonic()
    held: list[int] = []

    def answer(study: Study, base: bytes) -> Outcome:
        nonlocal now
        now += 31.0
        held.append(len(sending(store)))
        return Delivered(b"")

    add(store, *GROUP)
    deliverer = Deliverer(store, Scripted(answer), workers=1, lease_s=60.0, policy=QUICK, clock=lambda: now)
    taken_again: list[int] = []
    release = store.release

    def counted(claims: Collection[Claim]) -> None:
        taken_again.append(len(claims))
        release(claims)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "release", counted)
        deliverer.start()
        try:
            eventually(all_delivered(store, 8))
        finally:
            assert deliverer.stop(PATIENCE_S)
    assert (held, taken_again) == ([8, 7, 6, 5, 4, 3, 2, 1], [7, 6, 5, 4, 3, 2, 1])


def test_a_slice_that_comes_while_its_study_is_sent_is_sent_too(store: SqliteStore) -> None:
    arrived = threading.Event()

    def answer(study: Study, base: bytes) -> Outcome:
        if study.revision == 1:
            add(store, "1.1", instance=2)
            arrived.set()
        return Delivered(b"")

    add(store, "1.1")
    destination = Scripted(answer)
    with running(store, destination):
        eventually(at_revision(store, "1.1", 2))
    assert destination.seen == [("1.1", 1), ("1.1", 2)]


def test_a_commit_wakes_the_workers(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_AGAIN_S", 3600.0)
    with running(store, Scripted(lambda *_: Delivered(b""))):
        add(store, "1.1")
        eventually(all_delivered(store, 1))


def test_a_refused_study_waits_for_a_person_or_a_new_slice(store: SqliteStore) -> None:
    def answer(study: Study, base: bytes) -> Outcome:
        return Delivered(b"") if study.revision > 1 or study.uid != "1.1" else Refused(("no", "never"))

    add(store, "1.1", "1.2")
    with running(store, Scripted(answer)) as deliverer:
        eventually(lambda: store.stats().refused == 1 and store.stats().delivered == 1)
        assert row(store, "1.1").reason == "no\nnever"
        assert deliverer.counts().refused == 1
        add(store, "1.1", instance=2)
        eventually(all_delivered(store, 2))


def test_a_study_that_fails_is_tried_again_and_counted(store: SqliteStore) -> None:
    tries = iter(range(4))
    attempts: list[int] = []

    def answer(study: Study, base: bytes) -> Outcome:
        attempts.append(row(store, study.uid).attempts)
        return Delivered(b"") if next(tries) == 3 else Retry("not now")

    add(store, "1.1")
    with running(store, Scripted(answer)) as deliverer:
        eventually(all_delivered(store, 1))
        assert deliverer.counts().failed == 3
    assert attempts == [0, 1, 2, 3]


def test_a_fault_of_ours_refuses_one_study_and_tells_nothing_of_its_patient(store: SqliteStore) -> None:
    def answer(study: Study, base: bytes) -> Outcome:
        if study.uid == "1.1":
            raise ValueError("Doe^John")
        return Delivered(b"")

    add(store, "1.1", "1.2", "1.3")
    with structlog.testing.capture_logs() as logs, running(store, Scripted(answer)):
        eventually(lambda: store.stats().refused == 1 and store.stats().delivered == 2)
    assert "ValueError" in row(store, "1.1").reason
    assert "Doe" not in row(store, "1.1").reason
    (event,) = [entry for entry in logs if entry["event"] == "delivery.failed"]
    assert event["kind"] == "bridge-fault" and "ValueError" in event["reason"]
    assert any("test_delivery_worker.py" in frame for frame in event["frames"])
    assert "Doe" not in str(logs)


def test_one_probe_at_a_time_while_the_destination_is_down(store: SqliteStore) -> None:
    is_down = threading.Event()
    is_down.set()
    probes = threading.Semaphore(0)

    def answer(study: Study, base: bytes) -> Outcome:
        probes.release()
        return Retry("away", 0.0, whole_destination=True) if is_down.is_set() else Delivered(b"")

    destination = Scripted(answer)
    with structlog.testing.capture_logs() as logs, running(store, destination, workers=8) as deliverer:
        add(store, "1.0")
        assert probes.acquire(timeout=PATIENCE_S)
        eventually(lambda: deliverer.down == "away")
        destination.most_at_once = 0
        studies = [f"1.{number}" for number in range(1, 50)]
        add(store, *studies)
        for _ in range(10):
            assert probes.acquire(timeout=PATIENCE_S)
        assert destination.most_at_once == 1
        attempts = [row(store, uid).attempts for uid in ["1.0", *studies]]
        assert sum(attempts) == attempts[0] == 1, "probes do not count"
        is_down.clear()
        eventually(all_delivered(store, 50))
        assert deliverer.down == ""
    events = [entry["event"] for entry in logs if entry["event"].startswith("destination.")]
    assert events == ["destination.down", "destination.up"]


def test_only_an_answer_of_the_destination_s_own_ends_its_being_down(store: SqliteStore) -> None:
    ours: dict[str, Outcome] = {
        "1.1": Refused(("two patients",), answered=False),
        "1.2": Delivered(b"", written=False, answered=False),
        "1.3": Retry("no memory", answered=False),
    }
    seen: Counter[str] = Counter()

    def answer(study: Study, base: bytes) -> Outcome:
        seen[study.uid] += 1
        if study.uid == "1.0":
            return Retry("away", 0.0, whole_destination=True)
        return ours.get(study.uid) or Delivered(b"")

    with structlog.testing.capture_logs() as logs, running(store, Scripted(answer), workers=1) as deliverer:
        assert deliverer.standing().state == "untried"
        add(store, "1.1")
        eventually(lambda: seen["1.1"] == 1)
        add(store, "1.0")
        eventually(lambda: deliverer.down == "away")
        down = deliverer.standing()
        assert (down.state, down.reason) == ("down", "away")
        assert abs(down.since - time.time()) < PATIENCE_S
        add(store, "1.1", instance=2)
        add(store, "1.2", "1.3")
        eventually(lambda: seen["1.1"] == 2 and seen["1.2"] == 1 and seen["1.3"] > 2)
        assert deliverer.down == "away"
        add(store, "1.4")
        eventually(lambda: row(store, "1.4").state is State.DELIVERED)
        eventually(lambda: "destination.up" in [entry["event"] for entry in logs])


def test_a_study_at_fault_that_was_tried_last_in_an_outage_is_not_tried_always(store: SqliteStore) -> None:
    studies = [f"1.{number}" for number in range(4)]
    seen: Counter[str] = Counter()
    at_fault: list[str] = []

    def answer(study: Study, base: bytes) -> Outcome:
        seen[study.uid] += 1
        if not at_fault and seen[study.uid] > 5:
            at_fault.append(study.uid)  # from now on the destination takes all others
        return Delivered(b"") if at_fault and study.uid not in at_fault else Retry("away", whole_destination=True)

    add(store, *studies)
    # as with real pauses: what was tried last is due again when the worker looks for it
    with running(store, Scripted(answer), workers=1, policy=RetryPolicy(first_s=0.1, cap_s=0.1)):
        eventually(lambda: [row(store, uid).state for uid in studies].count(State.DELIVERED) == len(studies) - 1)
    assert seen[at_fault[0]] < 6 + 20, "a quarter of the tries, until one of the others was chosen"


def test_what_a_destination_does_not_take_never_reaches_it_and_says_nothing_about_it(store: SqliteStore) -> None:
    seen: list[str] = []

    def answer(study: Study, base: bytes) -> Outcome:
        seen.append(study.uid)
        return Delivered(b"")

    add(store, "1.1", "1.2")
    store.add(InstanceRecord("1.3", "1.3.1", "1.3.1.1", {}, {}, {"Modality": "CT"}, {"SOPClassUID": "1.2"}), ORIGIN)
    deliverer = Deliverer(
        store, Scripted(answer), workers=2, policy=QUICK, selection=Selection(only={"modality": ("ct",)})
    )
    deliverer.start()
    try:
        eventually(lambda: store.stats().excluded == 2 and store.stats().delivered == 1)
        assert (seen, deliverer.counts().excluded) == (["1.3"], 2)
        assert row(store, "1.1").reason == "only.modality matches no value of the study"
    finally:
        assert deliverer.stop(PATIENCE_S)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(only={"modality": ("CT",)}), State.DELIVERED),
        (Selection(never={"modality": ("SR",)}), State.EXCLUDED),
        (Selection(only={"modality": ("CT",)}, never={"modality": ("SR",)}), State.EXCLUDED),
    ],
)
def test_a_late_part_goes_where_the_rest_is(store: SqliteStore, selection: Selection, expected: State) -> None:
    """Whatever it would be chosen by may be in what the store has forgotten."""
    store.add(InstanceRecord("1.3", "1.3.1", "1.3.1.1", {}, {}, {"Modality": "CT"}, {"SOPClassUID": "1.2"}), ORIGIN)
    deliverer = Deliverer(store, Scripted(lambda *_: Delivered(b"")), workers=1, policy=QUICK, selection=selection)
    deliverer.start()
    try:
        eventually(lambda: row(store, "1.3").state is State.DELIVERED)
        eventually(lambda: store.forget_delivered(1e-6) == ["1.3"])
        store.add(InstanceRecord("1.3", "1.3.2", "1.3.2.1", {}, {}, {"Modality": "SR"}, {"SOPClassUID": "1.2"}), ORIGIN)
        eventually(lambda: row(store, "1.3").state is expected)
    finally:
        assert deliverer.stop(PATIENCE_S)


def test_a_store_that_fails_while_a_choice_is_made_refuses_nothing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STORE_PAUSE_S", 0.01)
    failures: Iterator[Exception] = iter([StoreUnavailable(), ValueError("Doe^John")])
    stated = store.stated

    def failing(study_uid: str) -> Mapping[str, Sequence[str]]:
        if failure := next(failures, None):
            raise failure
        return stated(study_uid)

    monkeypatch.setattr(store, "stated", failing)
    add(store, "1.1")
    selection = Selection(never={"modality": ("CT",)})
    deliverer = Deliverer(
        store, Scripted(lambda *_: Delivered(b"")), workers=1, lease_s=0.1, policy=QUICK, selection=selection
    )
    deliverer.start()
    try:
        eventually(lambda: store.stats().refused == 1)  # by the fault of ours, not by the store's
        assert "ValueError" in row(store, "1.1").reason and "Doe" not in row(store, "1.1").reason
        store.requeue("1.1")
        eventually(all_delivered(store, 1))
    finally:
        assert deliverer.stop(PATIENCE_S)


def test_a_destination_that_asks_for_patience_is_paused(store: SqliteStore) -> None:
    add(store, "1.1")
    with running(store, Scripted(lambda *_: Retry("HTTP 429", 3600.0, whole_destination=True))) as deliverer:
        eventually(lambda: deliverer.standing().state == "paused")
        assert deliverer.standing().until > time.time() + 3000


def test_a_study_that_brings_the_destination_down_does_not_hold_up_the_others(store: SqliteStore) -> None:
    def answer(study: Study, base: bytes) -> Outcome:
        return Retry("too large for the proxy", 0.0, True) if study.uid == "1.0" else Delivered(b"")

    add(store, *(f"1.{number}" for number in range(30)))
    with running(store, Scripted(answer)):
        eventually(all_delivered(store, 29))
        assert row(store, "1.0").attempts >= 1


def test_a_destination_that_asks_for_patience_is_left_alone(store: SqliteStore) -> None:
    destination = Scripted(lambda *_: Retry("away", 3600.0, whole_destination=True))
    add(store, "1.1", "1.2", "1.3")
    with running(store, destination, workers=1) as deliverer:
        eventually(lambda: deliverer.counts().failed == 1)
        assert row(store, "1.1").due_at > time.time() + 3000
    assert len(destination.seen) == 1


def test_a_run_of_studies_at_fault_is_soon_passed(store: SqliteStore) -> None:
    at_fault, good = [f"1.{number}" for number in range(60)], [f"2.{number}" for number in range(60)]
    tried: list[str] = []

    def answer(study: Study, base: bytes) -> Outcome:
        tried.append(study.uid)
        return Retry("HTTP 500", whole_destination=True, unclear=True) if study.uid in at_fault else Delivered(b"")

    add(store, *at_fault, *good)
    with structlog.testing.capture_logs() as logs, running(store, Scripted(answer), workers=1):
        eventually(all_delivered(store, len(good)))
    assert [uid in good for uid in tried].index(True) < 10
    assert [entry["event"] for entry in logs].count("destination.down") < len(at_fault) / 2


def test_the_store_s_failures_do_not_end_a_worker(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STORE_PAUSE_S", 0.01)
    failures: Iterator[Exception] = iter([StoreUnavailable(), RuntimeError("Doe^John")])
    claim = store.claim

    def failing(*args: Any) -> list[Claim]:
        if failure := next(failures, None):
            raise failure
        return claim(*args)

    monkeypatch.setattr(store, "claim", failing)
    add(store, "1.1")
    with structlog.testing.capture_logs() as logs, running(store, Scripted(lambda *_: Delivered(b"")), workers=1):
        eventually(all_delivered(store, 1))
    assert [entry["event"] for entry in logs] == ["store.unavailable", "worker.failed", "delivery.completed"]
    assert "Doe" not in str(logs)


def test_stopping_waits_for_what_is_under_way_but_not_for_ever(store: SqliteStore) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def answer(study: Study, base: bytes) -> Outcome:
        entered.set()
        assert go_on.wait(PATIENCE_S)
        return Delivered(b"")

    add(store, "1.1", "1.2")
    deliverer = Deliverer(store, Scripted(answer), workers=1, policy=QUICK)
    deliverer.start()
    assert entered.wait(PATIENCE_S)
    assert not deliverer.stop(0.01)
    go_on.set()
    assert deliverer.stop(PATIENCE_S)
    assert [row(store, uid).state for uid in ("1.1", "1.2")] == [State.DELIVERED, State.WAITING]


def test_stopping_before_starting(store: SqliteStore) -> None:
    assert Deliverer(store, Scripted(lambda *_: Delivered(b"")), workers=2).stop(0.0)


def test_all_arrive_once_at_a_server_that_was_away(
    store: SqliteStore, server: str, outage_proxy: Callable[[str], OutageProxy]
) -> None:
    proxy = outage_proxy(server)
    root = f"2.25.{uuid.uuid4().int}"

    def map_study(study: Study, dialect: Dialect) -> Mapped:
        resource = {
            "resourceType": "ImagingStudy",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, study.uid)),
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}],
            "status": "available",
            "subject": {"display": "Unknown"},
            "numberOfInstances": sum(len(series.instances) for series in study.series),
        }
        return Mapped((Entry(resource, Write.OWN, f"identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A{study.uid}"),))

    destination = FhirDestination(NAME, FhirClient(proxy.url, timeout_s=30), FunctionMapper(map_study), DialectChoice())
    studies = [f"{root}.{number}" for number in range(30)]
    with running(store, destination, workers=4) as deliverer:
        add(store, *studies[:10])
        eventually(all_delivered(store, 10))
        proxy.go_away()
        add(store, *studies[10:])
        add(store, *studies[:10], instance=2)
        eventually(lambda: deliverer.down != "")
        proxy.come_back()
        eventually(all_delivered(store, 30))
    for number, uid in enumerate(studies):
        found = requests.get(f"{server}/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{uid}", timeout=60).json()
        (study,) = [entry["resource"] for entry in found["entry"]]
        history = requests.get(f"{server}/ImagingStudy/{study['id']}/_history", timeout=60).json()
        expected = (2, 2) if number < 10 else (1, 1)
        assert (len(history["entry"]), study["numberOfInstances"]) == expected


def test_a_successor_leaves_alone_what_is_under_way(store: SqliteStore) -> None:
    """A destination that is made of something else now is replaced while it sends."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(study: Study, _base: bytes) -> Outcome:
        if study.uid == "1.1":
            entered.set()
            assert go_on.wait(PATIENCE_S)
        return Delivered(b"old")

    old, new = Scripted(slow), Scripted(lambda _study, _base: Delivered(b"new"))
    add(store, "1.1")
    with running(store, old, workers=1) as leaving:
        assert entered.wait(PATIENCE_S)
        assert not leaving.stop(0.0)
        add(store, "1.2")
        with running(store, new):
            wait_until(lambda: store.stats().delivered == 1, PATIENCE_S, "it is done")
            assert new.seen == [("1.2", 1)]
            go_on.set()
            wait_until(lambda: store.stats().delivered == 2, PATIENCE_S, "it is done")
        assert leaving.stop(0.0)
    assert (old.seen, new.seen) == ([("1.1", 1)], [("1.2", 1)])


def test_a_destination_that_is_no_more_finishes_what_it_sends(store: SqliteStore) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(_study: Study, _base: bytes) -> Outcome:
        entered.set()
        assert go_on.wait(PATIENCE_S)
        return Delivered(b"sent")

    add(store, "1.1", "1.2")
    destination = Scripted(slow)
    with running(store, destination, workers=1) as leaving:
        assert entered.wait(PATIENCE_S)
        store.set_destinations([])
        assert not leaving.stop(0.0)
        go_on.set()
        wait_until(lambda: leaving.stop(0.0), PATIENCE_S, "it is done")
    assert len(destination.seen) == 1
    store.set_destinations([NAME])
    assert store.stats().delivered == 1
