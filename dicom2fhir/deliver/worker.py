"""Workers that deliver from the store to one destination: claim, read, deliver, record.

The store holds all state except whether the destination is up: a restart costs one probe.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import structlog

from dicom2fhir.deliver.destination import DeliveryCounts, Destination
from dicom2fhir.deliver.retry import Circuit, Permit, RetryPolicy, Standing
from dicom2fhir.deliver.successes import Successes
from dicom2fhir.deliver.threads import WorkerThreads
from dicom2fhir.errors import BridgeFault, Permanent, StoreUnavailable, attempt, log_fields
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Job, Outcome, Refused, Retry, Withheld
from dicom2fhir.store.base import Claim, Failing, Store, Success
from dicom2fhir.store.selection import Selection
from dicom2fhir.system.text import quoted

T = TypeVar("T")

_LOOK_AGAIN_S = 2.0
"""Another process may make a study due (``dicom2fhir retry``) and cannot wake us."""
_MOST_CLAIMED = 12
"""Studies that one worker claims together, so that the destination can look up all of them in one request."""
_MANY_INSTANCES = 2_000
"""Limit for memory: once the studies have this many instances together, no further one is read."""
_GIVEN_UP = (
    "given up, because it kept failing for give_up_after_s while other studies were accepted; `dicom2fhir"
    " retry` tries again. The last failure:"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A fault of the bridge itself, by the name of its exception class."""

    error: str


class Deliverer:
    """Workers that deliver all due studies to one destination.

    Parameters
    ----------
    workers
        Threads; each sends one study at a time.
    lease_s
        Duration of a claim. Must be longer than the maximum duration of one delivery.
    policy
        Pauses of a study that failed and of the destination while it is down.
    selection
        The studies that are delivered; others are never sent.
    wall_clock
        Seconds since the epoch, like the store's due times.
    clock
        Monotonic seconds.
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
        self._lock = threading.Lock()
        self._requeued = 0
        self._counts: Counter[str] = Counter()
        self._threads = WorkerThreads(destination.name, workers, self._deliver_next, clock)

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._destination.name

    def standing(self) -> Standing:
        """The state of the destination; times are seconds since the epoch, and ``reason`` is like :attr:`down`."""
        standing = self._circuit.standing
        ahead = self._wall_clock() - self._clock()
        return replace(standing, since=standing.since + ahead, until=standing.until + ahead)

    @property
    def down(self) -> str:
        """Why the destination is down; empty while it is up. May quote the destination, so it must not be logged."""
        return self._circuit.reason

    def counts(self) -> DeliveryCounts:
        """Outcomes of deliveries since the start."""
        with self._lock:
            counts = self._counts
            return DeliveryCounts(**{one.name: counts[one.name] for one in fields(DeliveryCounts)})

    def heartbeats(self) -> Mapping[str, float]:
        """Last heartbeat of each worker, on ``clock``: with one older than ``lease_s``, a worker is stuck or dead."""
        return self._threads.heartbeats()

    def start(self) -> None:
        """Start the workers; once only."""
        self._store.set_selection(self.name, str(self._selection))
        self._store.subscribe(self.wake)
        self._threads.start()

    def wake(self) -> None:
        """Check now for due studies."""
        self._threads.wake()

    def stop(self, timeout_s: float) -> bool:
        """Claim no more studies and wait for deliveries to end; False if they have not ended in time."""
        self._store.unsubscribe(self.wake)
        return self._threads.stop(timeout_s)

    def _deliver_next(self) -> float:
        """Deliver the study that is due longest; return the seconds to wait before the next check."""
        permit = self._circuit.enter()
        if permit is None and self._circuit.wait_s() > 0 and self._is_hurried():
            self._circuit.hurry()
            permit = self._circuit.enter()
        if permit is None:
            return min(max(self._circuit.wait_s(), self._policy.first_s / 10), _LOOK_AGAIN_S)
        try:
            most = 1 if permit.is_probe else _MOST_CLAIMED
            passed_over = int(self._jitter() * permit.choice)
            claims = self._store.claim(self.name, self._owner, self.lease_s, passed_over, most, len(self._threads))
        except BaseException:
            self._circuit.leave(permit)
            raise
        if not claims:
            self._circuit.leave(permit)
            due_at = self._store.next_due_at(self.name)
            # A study that is due and cannot be claimed is claimed by another worker.
            return _LOOK_AGAIN_S if due_at is None else min(max(due_at - self._wall_clock(), 0.05), _LOOK_AGAIN_S)
        self._deliver_claimed(claims, permit)
        return 0.0

    def _deliver_claimed(self, held: list[Claim], permit: Permit) -> None:
        """Deliver claimed studies, one after another.

        One delivery takes at most half a lease, so none starts in the second half of the lease.
        """
        begin_by = self._clock() + self.lease_s / 2
        unused: Permit | None = permit
        try:
            studies = self._studies(held)
            outcomes = self._destination.deliver_all([Job(study, claim.base, claim.again) for claim, study in studies])
            with Successes(self._record_successes, self._clock) as successes:
                for claim, study in studies:
                    unused = unused or self._permit_to_go_on(begin_by)
                    if unused is None:
                        break
                    held.remove(claim)
                    outcome = self._outcome(outcomes, study)
                    if isinstance(outcome, Delivered):
                        self._used(unused, outcome.answered)
                        successes.add(Success(claim, study.revision, outcome))
                    else:
                        successes.record()
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
        self._threads.beat()
        return None if self._threads.stopping or self._clock() > begin_by else self._circuit.enter()

    def _studies(self, held: list[Claim]) -> list[tuple[Claim, Study]]:
        """The claimed studies, up to a limit for memory; studies that cannot be delivered are removed from ``held``."""
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
        """The claimed study; None, with the outcome recorded, if it cannot be read or is excluded."""
        try:
            study = attempt(self._store.study, claim.study_uid)
            exclusion = attempt(self._exclusion, study) if study else ""
        except Permanent as error:
            self._refuse(claim, claim.revision, str(error))
            return None
        if study is None:
            self._refuse(claim, claim.revision, "the study is no longer in the store")
        elif exclusion:
            self._exclude(claim, exclusion)
            return None
        return study

    def _exclusion(self, study: Study) -> str:
        """Why a study is not selected for the destination; empty if it is.

        To be called after the study was read, so that everything that is sent was checked.
        """
        if study.is_announced and not self._selection.announced:
            return 'no instance has arrived yet, and resources.registered = "never"'
        # the destination has the rest of a late part, and so takes the study
        selection = replace(self._selection, only={}) if study.is_late_part else self._selection
        return selection.refuses(self._store.stated(study.uid)) if selection.chooses else ""

    def _outcome(self, outcomes: Iterator[Outcome], study: Study) -> Outcome | _Failed:
        """The destination's outcome, or a fault of the bridge."""
        try:
            return next(outcomes)
        except MemoryError:
            return Retry("not enough memory", answered=False)
        except Exception as error:  # a fault of the bridge with one study must not block the others
            log.error("delivery.failed", destination=self.name, study=study.uid, **log_fields(BridgeFault(error)))
            return _Failed(type(error).__name__)

    def _record_successes(self, successes: Sequence[Success]) -> None:
        self._keep(lambda: self._store.delivered(successes))
        for success in successes:
            written = success.outcome.written
            self._count("written" if written else "unchanged")
            log.info(
                "delivery.completed",
                destination=self.name,
                study=success.claim.study_uid,
                revision=success.revision,
                written=written,
            )

    def _record(
        self, claim: Claim, study: Study, outcome: Refused | Withheld | Retry | _Failed, permit: Permit
    ) -> None:
        match outcome:
            case Refused(issues, answered):
                self._used(permit, answered)
                self._refuse(claim, study.revision, "\n".join(issues))
            case Withheld(reason):
                self._circuit.leave(permit)
                self._exclude(claim, reason)
            case Retry():
                self._record_failure(claim, study, outcome, permit)
            case _Failed(error):
                self._circuit.leave(permit)
                self._refuse(claim, study.revision, f"the bridge failed on this study ({error}); see its log")

    def _record_failure(self, claim: Claim, study: Study, failure: Retry, permit: Permit) -> None:
        """Decide whether the destination or the study is at fault, and postpone it.

        If both are possible, it is the study once the destination has accepted others since the study began to fail.
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
            self._refuse(claim, study.revision, f"{_GIVEN_UP}\n{_message(failure)}")
        else:
            self._postpone(claim, failure, failing)

    def _postpone(self, claim: Claim, failure: Retry, failing: Failing | None) -> None:
        pause_s = self._policy.pause_s(claim.attempts + 1, failure.after_s, self._jitter())
        self._keep(lambda: self._store.retry(claim, pause_s, _message(failure), failing=failing))
        self._count("failed")
        log.warning(
            "delivery.postponed",
            destination=self.name,
            study=claim.study_uid,
            reason=failure.reason,
            pause_s=round(pause_s, 1),
        )

    def _keep(self, record: Callable[[], T]) -> T:
        """Record an outcome; retry while the store is unavailable: else the study would wait for its lease to end."""
        while True:
            try:
                return record()
            except StoreUnavailable as error:
                if self._threads.stopping:
                    raise
                self._threads.pause(error)

    def _refuse(self, claim: Claim, revision: int, reason: str) -> None:
        self._keep(lambda: self._store.refuse(claim, revision, reason))
        self._count("refused")
        log.warning("delivery.refused", destination=self.name, study=claim.study_uid, revision=revision)

    def _exclude(self, claim: Claim, reason: str) -> None:
        self._keep(lambda: self._store.exclude(claim, reason, str(self._selection)))
        self._count("excluded")
        log.info("delivery.excluded", destination=self.name, study=claim.study_uid, reason=reason)

    def _used(self, permit: Permit, answered: bool) -> None:
        """Return a permit; the destination is up only if it answered itself."""
        if not answered:
            self._circuit.leave(permit)
        elif self._circuit.answered(permit):
            log.info("destination.up", destination=self.name)
            self.wake()

    def _down(self, claim: Claim, failure: Retry, failing: Failing | None, permit: Permit) -> None:
        """Pause the destination.

        The study whose delivery found it down counts as failed, and its pause grows each time: if it is the cause (for
        example too large for a proxy), it does not block other studies. Studies of probes are not counted. The store
        keeps for all of them the time at which they began to fail.
        """
        said = _message(failure)
        found_it = self._circuit.failed(permit, said, failure.after_s)
        pause_s = self._circuit.wait_s()
        if found_it:
            self._requeued = self._keep(lambda: self._store.requeued(self.name))
            pause_s = max(pause_s, self._policy.pause_s(claim.attempts + 1, failure.after_s, self._jitter()))
            log.warning("destination.down", destination=self.name, reason=failure.reason, pause_s=round(pause_s, 1))
        self._keep(lambda: self._store.retry(claim, pause_s, said, count=found_it, failing=failing))
        self._count("failed")

    def _is_hurried(self) -> bool:
        """Whether a retry was requested (``dicom2fhir retry``) since the destination went down."""
        requeued = self._store.requeued(self.name)
        with self._lock:
            is_new = requeued != self._requeued
            self._requeued = requeued
        return is_new

    def _count(self, kind: str) -> None:
        with self._lock:
            self._counts[kind] += 1


def _message(failure: Retry) -> str:
    """The reason with the destination's message, which must not be logged."""
    return f"{failure.reason}{quoted(failure.issues)}"
