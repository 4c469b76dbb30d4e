"""From the store to one destination: claim, read, deliver, record.

Nothing is kept here that the store does not hold, but whether the destination is up: a restart costs one probe.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import structlog

from dicom2fhir.deliver.destination import DeliveryCounts, Destination
from dicom2fhir.deliver.retry import Circuit, Permit, RetryPolicy, Standing
from dicom2fhir.errors import BridgeFault, Permanent, StoreUnavailable, attempt, log_fields
from dicom2fhir.model import Delivered, Job, Outcome, Refused, Retry, Study
from dicom2fhir.store.base import Claim, Failing, Store
from dicom2fhir.store.selection import Selection
from dicom2fhir.system.text import quoted

T = TypeVar("T")

_LOOK_AGAIN_S = 2.0
"""Another process may make something due (``dicom2fhir retry``), and does not wake us."""
_STORE_PAUSE_S = 1.0
_MOST_CLAIMED = 8
"""Studies that one worker claims at once, so that the destination can be asked about all of them in one request."""
_MANY_INSTANCES = 2_000
"""Studies of so many instances together fill memory enough."""
_GIVEN_UP = (
    "given up, because it kept failing for give_up_after_s while other studies were accepted; `dicom2fhir"
    " retry` tries again. The last failure:"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A fault of the bridge itself, by the name of its class."""

    error: str


class Deliverer:
    """Workers that bring every due study to one destination.

    Parameters
    ----------
    workers
        Threads; each sends one study at a time.
    lease_s
        How long a claim holds. Must be longer than the destination takes for one study at most.
    policy
        Pauses of a study that failed, and of the destination while it is down.
    selection
        What the destination takes; the rest it is never given.
    wall_clock
        Seconds since the epoch, as the store's due times.
    clock
        Seconds that only go forward.
    """

    def __init__(
        self,
        store: Store,
        destination: Destination,
        *,
        workers: int,
        lease_s: float = 600.0,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008 (frozen)
        selection: Selection = Selection(),  # noqa: B008
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._destination = destination
        self.lease_s = lease_s
        self._policy = policy
        self._selection = selection
        self._wall_clock = wall_clock
        self._clock = clock
        self._jitter = jitter
        self._circuit = Circuit(policy, clock, jitter)
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._changed = threading.Condition()
        self._wakes = 0
        self._stopping = False
        self._requeued = 0
        self._counts: Counter[str] = Counter()
        self._beats: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"deliver-{destination.name}-{number}", daemon=True)
            for number in range(1, workers + 1)
        ]

    @property
    def name(self) -> str:
        """The destination's."""
        return self._destination.name

    def standing(self) -> Standing:
        """How the destination stands; times are seconds since the epoch, and ``reason`` as :attr:`down`."""
        standing = self._circuit.standing
        ahead = self._wall_clock() - self._clock()
        return replace(standing, since=standing.since + ahead, until=standing.until + ahead)

    @property
    def down(self) -> str:
        """Why the destination is down; empty while it is up. May quote the destination: for people, not for logs."""
        return self._circuit.reason

    def counts(self) -> DeliveryCounts:
        """What became of the tries since the start."""
        with self._changed:
            counts = self._counts
            return DeliveryCounts(**{one.name: counts[one.name] for one in fields(DeliveryCounts)})

    def heartbeats(self) -> Mapping[str, float]:
        """Last sign of life of each worker, on ``clock``: one older than ``lease_s`` is stuck or dead."""
        with self._changed:
            return dict(self._beats)

    def start(self) -> None:
        """Begin to deliver; once only."""
        self._store.set_selection(self.name, str(self._selection))
        self._store.subscribe(self.wake)
        for thread in self._threads:
            self._beat(thread.name)
            thread.start()

    def wake(self) -> None:
        """Look now whether something is due."""
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Claim nothing more and wait for what is under way; False when it has not ended in time."""
        self._store.unsubscribe(self.wake)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        name = threading.current_thread().name
        while not self._stopping:
            self._beat(name)
            wakes: int | None = self._wakes  # before looking, so that a wake-up in between is not slept through
            try:
                idle_s = self._deliver_next()
            except StoreUnavailable as error:
                self._complain(error)
                idle_s, wakes = _STORE_PAUSE_S, None
            except Exception as error:  # a worker that dies would stop the destination in silence
                log.error("worker.failed", destination=self.name, **log_fields(BridgeFault(error)))
                idle_s, wakes = _STORE_PAUSE_S, None
            if idle_s > 0:
                self._wait(idle_s, wakes)

    def _wait(self, idle_s: float, wakes: int | None) -> None:
        """Wait until the time has passed, somebody stops us, or (where counted) somebody has woken us."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or wakes not in (None, self._wakes), idle_s)

    def _deliver_next(self) -> float:
        """Deliver what is due longest; seconds to wait before looking again."""
        permit = self._circuit.enter()
        if permit is None and self._circuit.wait_s() > 0 and self._is_hurried():
            self._circuit.hurry()
            permit = self._circuit.enter()
        if permit is None:
            return min(max(self._circuit.wait_s(), self._policy.first_s / 10), _LOOK_AGAIN_S)
        try:
            claim = self._store.claim(self.name, self._owner, self.lease_s, permit.passed_over)
        except BaseException:
            self._circuit.leave(permit)
            raise
        if claim is None:
            self._circuit.leave(permit)
            due_at = self._store.next_due_at(self.name)
            # Due, and yet not to be claimed: somebody else holds it.
            return _LOOK_AGAIN_S if due_at is None else min(max(due_at - self._wall_clock(), 0.05), _LOOK_AGAIN_S)
        self._deliver_claimed(claim, permit)
        return 0.0

    def _deliver_claimed(self, first: Claim, permit: Permit) -> None:
        """Deliver a study that was claimed and others that are due, one after another.

        One delivery takes at most half a lease, so that none begins in the second half of it.
        """
        begin_by = self._clock() + self.lease_s / 2
        held = [first]
        unused: Permit | None = permit
        try:
            if not permit.is_probe:
                held += self._store.claim_more(first, self.lease_s, _MOST_CLAIMED - 1, len(self._threads))
            studies = self._studies(held)
            outcomes = self._destination.deliver_all([Job(study, claim.base, claim.again) for claim, study in studies])
            for claim, study in studies:
                unused = unused or self._permit_to_go_on(begin_by)
                if unused is None:
                    break
                held.remove(claim)
                outcome = self._outcome(outcomes, study)
                self._record(claim, study, outcome, unused)
                unused = None
                if isinstance(outcome, _Failed):
                    break
        finally:
            if unused is not None:
                self._circuit.leave(unused)
            if held:
                self._keep(lambda: self._store.release(held))

    def _permit_to_go_on(self, begin_by: float) -> Permit | None:
        self._beat(threading.current_thread().name)
        return None if self._stopping or self._clock() > begin_by else self._circuit.enter()

    def _studies(self, held: list[Claim]) -> list[tuple[Claim, Study]]:
        """The studies that were claimed, as many as memory allows for; what cannot be delivered is no longer held."""
        studies: list[tuple[Claim, Study]] = []
        instances = 0
        for claim in tuple(held):
            if instances >= _MANY_INSTANCES:
                break
            study = self._study(claim)
            if study is None:
                held.remove(claim)
            else:
                studies.append((claim, study))
                instances += sum(len(series.instances) for series in study.series)
        return studies

    def _study(self, claim: Claim) -> Study | None:
        """The study that was claimed; None, and recorded, where it cannot be had or is not for the destination."""
        try:
            study = attempt(self._store.study, claim.study_uid)
            exclusion = attempt(self._exclusion, claim.study_uid) if study else ""
        except Permanent as error:
            self._refuse(claim, claim.revision, str(error))
            return None
        if study is None:
            self._refuse(claim, claim.revision, "the study is no longer in the store")
        elif exclusion:
            self._exclude(claim, exclusion)
            return None
        return study

    def _exclusion(self, study_uid: str) -> str:
        """Why the destination does not take a study; empty where it does.

        To be asked after the study was read, so that nothing is sent that was not looked at.
        """
        return self._selection.refuses(self._store.stated(study_uid)) if self._selection.chooses else ""

    def _outcome(self, outcomes: Iterator[Outcome], study: Study) -> Outcome | _Failed:
        """The destination's answer, or what went wrong in ourselves."""
        try:
            return next(outcomes)
        except MemoryError:
            return Retry("not enough memory", answered=False)
        except Exception as error:  # a fault of ours with one study must not keep the others waiting
            log.error("delivery.failed", destination=self.name, study=study.uid, **log_fields(BridgeFault(error)))
            return _Failed(type(error).__name__)

    def _record(self, claim: Claim, study: Study, outcome: Outcome | _Failed, permit: Permit) -> None:
        match outcome:
            case Delivered(base, written, fingerprint, answered, unlinked):
                self._used(permit, answered)
                left = ", ".join(unlinked)
                self._keep(
                    lambda: self._store.delivered(claim, study.revision, base, fingerprint, left, accepted=written)
                )
                self._count("written" if written else "unchanged")
                log.info(
                    "delivery.completed",
                    destination=self.name,
                    study=study.uid,
                    revision=study.revision,
                    written=written,
                )
            case Refused(issues, answered):
                self._used(permit, answered)
                self._refuse(claim, study.revision, "\n".join(issues))
            case Retry():
                self._record_failure(claim, study, outcome, permit)
            case _Failed(error):
                self._circuit.leave(permit)
                self._refuse(claim, study.revision, f"the bridge failed on this study ({error}); see its log")

    def _record_failure(self, claim: Claim, study: Study, failure: Retry, permit: Permit) -> None:
        """Find out who is at fault, the destination or the study, and let that one wait.

        What may be either is the study's fault once the destination has accepted others since it began to fail.
        """
        failing = None
        if failure.unclear or not failure.whole_destination:
            most_s = min(self._policy.most_at_once_s, self._circuit.up_s())
            failing = self._keep(lambda: self._store.failing(claim, most_s))
        if failure.whole_destination and not (failing and failing.others_accepted):
            self._down(claim, failure, failing, permit)
            return
        self._used(permit, failure.answered and not failure.whole_destination)
        if failing and failing.for_s >= self._policy.give_up_after_s:
            self._refuse(claim, study.revision, f"{_GIVEN_UP}\n{_said(failure)}")
        else:
            self._postpone(claim, failure, failing)

    def _postpone(self, claim: Claim, failure: Retry, failing: Failing | None) -> None:
        pause_s = self._policy.pause_s(claim.attempts + 1, failure.after_s, self._jitter())
        self._keep(lambda: self._store.retry(claim, pause_s, _said(failure), failing=failing))
        self._count("failed")
        log.warning(
            "delivery.postponed",
            destination=self.name,
            study=claim.study_uid,
            reason=failure.reason,
            pause_s=round(pause_s, 1),
        )

    def _keep(self, record: Callable[[], T]) -> T:
        """Record an outcome, again while the store cannot: otherwise the study would wait for the end of its lease."""
        while True:
            try:
                return record()
            except StoreUnavailable as error:
                if self._stopping:
                    raise
                self._complain(error)
            self._wait(_STORE_PAUSE_S, None)
            self._beat(threading.current_thread().name)

    def _complain(self, error: StoreUnavailable) -> None:
        log.error("store.unavailable", destination=self.name, **log_fields(error))

    def _refuse(self, claim: Claim, revision: int, reason: str) -> None:
        self._keep(lambda: self._store.refuse(claim, revision, reason))
        self._count("refused")
        log.warning("delivery.refused", destination=self.name, study=claim.study_uid, revision=revision)

    def _exclude(self, claim: Claim, reason: str) -> None:
        self._keep(lambda: self._store.exclude(claim, reason, str(self._selection)))
        self._count("excluded")
        log.info("delivery.excluded", destination=self.name, study=claim.study_uid, reason=reason)

    def _used(self, permit: Permit, answered: bool) -> None:
        """Give a permit back; a destination is up only when it answered itself."""
        if not answered:
            self._circuit.leave(permit)
        elif self._circuit.answered(permit):
            log.info("destination.up", destination=self.name)
            self.wake()

    def _down(self, claim: Claim, failure: Retry, failing: Failing | None, permit: Permit) -> None:
        """Pause the destination.

        The study that found it down is counted as failed and waits longer each time: should it be the cause (too large
        for a proxy, say), others go first and it does not hold them up. Those that probe are not counted. The store
        remembers of all of them when they began to fail.
        """
        said = _said(failure)
        found_it = self._circuit.failed(permit, said, failure.after_s)
        pause_s = self._circuit.wait_s()
        if found_it:
            self._requeued = self._keep(lambda: self._store.requeued(self.name))
            pause_s = max(pause_s, self._policy.pause_s(claim.attempts + 1, failure.after_s, self._jitter()))
            log.warning("destination.down", destination=self.name, reason=failure.reason, pause_s=round(pause_s, 1))
        self._keep(lambda: self._store.retry(claim, pause_s, said, count=found_it, failing=failing))
        self._count("failed")

    def _is_hurried(self) -> bool:
        """Whether somebody has asked to try again (``dicom2fhir retry``) since the destination went down."""
        requeued = self._store.requeued(self.name)
        with self._changed:
            is_new = requeued != self._requeued
            self._requeued = requeued
        return is_new

    def _count(self, kind: str) -> None:
        with self._changed:
            self._counts[kind] += 1

    def _beat(self, name: str) -> None:
        with self._changed:
            self._beats[name] = self._clock()


def _said(failure: Retry) -> str:
    """The reason with the destination's own words: for people, not for logs."""
    return f"{failure.reason}{quoted(failure.issues)}"
