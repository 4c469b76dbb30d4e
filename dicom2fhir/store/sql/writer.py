"""Group commit: all waiting writes are committed together, and each caller returns after the commit.

One fsync costs as much as dozens of statements; only a shared fsync makes a commit before each acknowledgement
affordable. There is no writer thread. If nobody writes, a caller becomes the leader: it commits all waiting jobs, with
its own, and then makes the caller that has waited longest the leader. So a single caller never waits for another thread
to wake up.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields

log = structlog.get_logger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")


class Connection(Protocol):
    """What the writer does itself with a connection to a database."""

    def execute(self, query: str, /) -> object:
        """Run a statement."""

    def rollback(self) -> None:
        """Roll back."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Connection)

_MAX_BATCH = 256
"""Limits how long the first job of a batch waits; larger batches were not measurably faster."""

_STEP_BACK_S = 0.01
_ATTEMPTS = 10
"""How often a group is run that the database has chosen to end a deadlock."""


class Fault(Enum):
    """Why a group was not committed, if none of its operations is at fault."""

    AGAIN = "again"
    """The database has ended a deadlock: the same group succeeds when it is run again."""
    PASSES = "passes"
    """A later write may succeed."""
    LASTS = "lasts"
    """This process must not write again."""


class _Job:
    """An operation that one caller waits for."""

    def __init__(self, operation: Callable[[Any, Sequence[Any]], Sequence[Any]], item: Any) -> None:
        self.operation = operation
        self.item = item
        self.is_done = False
        self.value: Any = None
        self.problem: Exception | None = None
        self.gate = threading.Lock()
        """Released when the job is done, or when its caller must lead."""
        self.gate.acquire()


class GroupWriter(ABC, Generic[C]):
    """Runs operations one after the other, in the threads of their callers, and commits them in groups.

    A database derives from it, and says how a transaction begins and what its errors mean.

    Parameters
    ----------
    connection
        Owned by the writer; :meth:`close` closes it.
    confirm
        Called after each commit, before the callers return. If it raises :class:`StoreUnavailable`, their calls fail,
        and the store has failed.
    on_commit
        Called after each commit, in the thread that committed; must be quick.
    on_roll_back
        Called after operations were rolled back, before any is run again.
    on_failure
        Called once, with the reason, when the store can no longer be written.
    """

    def __init__(
        self,
        connection: C,
        *,
        confirm: Callable[[], None] = lambda: None,
        on_commit: Callable[[], None] = lambda: None,
        on_roll_back: Callable[[], None] = lambda: None,
        on_failure: Callable[[str], None] = lambda _reason: None,
        max_batch: int = _MAX_BATCH,
    ) -> None:
        self._connection = connection
        self._confirm = confirm
        self._on_commit = on_commit
        self._on_roll_back = on_roll_back
        self._on_failure = on_failure
        self._max_batch = max_batch
        self._jobs: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._leader: _Job | None = None
        """The job whose caller writes now, or is about to; if there is none, no job waits."""
        self._idle = threading.Condition(self._lock)
        self._closing = False
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the store can no longer be written; None if it can."""
        return self._failure

    def run(self, operation: Callable[[C], T]) -> T:
        """Run ``operation`` in a transaction and return its value after the commit.

        If another operation of the group fails, the group is rolled back and each operation is run once more.

        Raises
        ------
        StoreUnavailable
            It was not committed.
        """

        def by_itself(connection: C, _: Sequence[None]) -> Sequence[T]:
            with self._transaction(connection):
                return [operation(connection)]

        return self.run_together(by_itself, None)

    def run_together(self, operation: Callable[[C, Sequence[Item]], Sequence[T]], item: Item) -> T:
        """As :meth:`run`, but waiting items of the same operation are passed to it in one call.

        Parameters
        ----------
        operation
            Returns a value for each item. It must be atomic: one statement, or
            :meth:`~dicom2fhir.store.sql.statements.Statements.transaction`.

        Raises
        ------
        StoreUnavailable
            It was not committed.
        """
        job = _Job(operation, item)
        try:
            if not self._enqueue(job):
                job.gate.acquire()  # until the job is done, or its caller leads
            if not job.is_done:
                self._lead()
        except BaseException:  # Ctrl-C may come anywhere: no other caller may be left waiting for this one
            self._withdraw(job)
            raise
        if job.problem is not None:
            raise job.problem
        value: T = job.value
        return value

    def fail(self, reason: str) -> None:
        """Refuse all further writes."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = reason
        log.critical("store.failed", reason=reason)
        self._on_failure(reason)

    def close(self) -> None:
        """Wait until all waiting jobs are committed, and close the connection."""
        with self._lock:
            self._closing = True
            while self._leader is not None:
                self._idle.wait()
        # Closing the last connection checkpoints; a store that has failed keeps its WAL for the next start.
        with suppress(Exception):
            self._connection.close()

    def _enqueue(self, job: _Job) -> bool:
        """Add a job to the queue; whether its caller leads."""
        with self._lock:
            if self._closing:
                raise StoreUnavailable("The store is closed")
            if self._failure is not None:
                raise StoreUnavailable(self._failure)
            self._jobs.append(job)
            leads = self._leader is None
            if leads:
                self._leader = job
            return leads

    def _withdraw(self, job: _Job) -> None:
        with self._lock:
            if job in self._jobs:
                self._jobs.remove(job)
            leads = self._leader is job
        if leads:
            self._hand_on()

    def _lead(self) -> None:
        """Commit the waiting jobs; the first is that of this caller."""
        with self._lock:
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_batch))]
        try:
            self._commit(batch)
        except Exception as error:  # any error: no caller may wait forever, and none may return success
            log.error("writer.failed", **log_fields(BridgeFault(error)))
            self._give_up(batch, f"The writer of the store failed: {type(error).__name__}")
        except BaseException:  # Ctrl-C
            self._roll_back()
            self._refuse(batch, "The writer was interrupted")
            raise
        finally:
            self._hand_on()  # first, because the disk is idle
            for job in batch:
                job.gate.release()

    def _hand_on(self) -> None:
        """Make the caller that has waited longest the leader."""
        with self._lock:
            self._leader = self._jobs[0] if self._jobs else None
            if self._leader is not None:
                self._leader.gate.release()
            else:
                self._idle.notify_all()

    def _commit(self, batch: list[_Job]) -> None:
        if self._failure is not None:
            self._refuse(batch, self._failure)
            return
        try:
            self._run_until_done(batch)
            self._confirm()
        except StoreUnavailable as error:
            self._give_up(batch, str(error))
            return
        except Exception as error:
            found = self._judge(error)
            if found is None:
                raise
            fault, reason = found
            if fault is Fault.LASTS:
                self._give_up(batch, reason)
            else:
                self._roll_back()
                self._refuse(batch, reason)
            return
        for job in batch:
            job.is_done = True
        self._on_commit()

    def _run_until_done(self, batch: list[_Job]) -> None:
        for attempt in range(1, _ATTEMPTS):
            try:
                self._run_all(batch)
                return
            except Exception as error:
                found = self._judge(error)
                if found is None or found[0] is not Fault.AGAIN:
                    raise
                self._roll_back()
                for job in batch:
                    job.problem = None
                time.sleep(random.uniform(0, attempt * _STEP_BACK_S))  # noqa: S311  # so that the other one may end
        self._run_all(batch)

    def _run_all(self, batch: list[_Job]) -> None:
        """Run all operations; if one fails, roll back and run each by itself."""
        together: dict[object, list[_Job]] = {}
        for job in batch:
            together.setdefault(job.operation, []).append(job)
        try:
            with self._transaction(self._connection) if len(together) > 1 else nullcontext():
                for jobs in together.values():
                    values = jobs[0].operation(self._connection, [job.item for job in jobs])
                    for job, value in zip(jobs, values, strict=True):
                        job.value = value
        except Exception as error:
            if self._judge(error):
                raise
            self._roll_back()
            with self._transaction(self._connection):
                for job in batch:
                    self._run_alone(job)

    def _run_alone(self, job: _Job) -> None:
        """Run one operation in its own savepoint: its failure does not affect the others of the batch."""
        self._connection.execute("SAVEPOINT job")
        try:
            (job.value,) = job.operation(self._connection, [job.item])
        except Exception as error:  # raised in the caller that waits for this job
            if self._judge(error):
                raise
            job.problem = error
            self._connection.execute("ROLLBACK TO job")
            self._on_roll_back()
        self._connection.execute("RELEASE job")

    def _give_up(self, batch: list[_Job], reason: str) -> None:
        self._roll_back()
        self.fail(reason)
        self._refuse(batch, reason)

    def _refuse(self, batch: list[_Job], reason: str) -> None:
        for job in batch:
            if not job.is_done:
                job.problem = StoreUnavailable(reason)
                job.is_done = True

    def _roll_back(self) -> None:
        with suppress(Exception):  # some databases have rolled back by themselves, or are gone
            self._connection.rollback()
        self._on_roll_back()

    @abstractmethod
    def _transaction(self, connection: C) -> AbstractContextManager[None]:
        """Run the block in a transaction; within another transaction it becomes part of that one."""

    @abstractmethod
    def _judge(self, error: Exception) -> tuple[Fault, str] | None:
        """The fault and its words; None if the operation is at fault that raised the error."""
