"""Group commit: all waiting writes are committed together, and each caller returns after the commit.

One fsync costs as much as dozens of statements; only a shared fsync makes a commit before each acknowledgement
affordable. There is no writer thread. If nobody writes, a caller becomes the leader: it commits all waiting jobs, with
its own, and then makes the caller that has waited longest the leader. So a single caller never waits for another thread
to wake up.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.store.sqlite.schema import primary_code
from dicom2fhir.store.sqlite.statements import transaction

log = structlog.get_logger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")

_MAX_BATCH = 256
"""Limits how long the first job of a batch waits; larger batches were not measurably faster."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_FAILED = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""The file or the disk is at fault, not the statement. After a failed fsync the content of the disk is unknown, so this
process does not write again (https://wiki.postgresql.org/wiki/Fsync_Errors)."""


class _Job:
    """An operation that one caller waits for."""

    def __init__(self, operation: Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]], item: Any) -> None:
        self.operation = operation
        self.item = item
        self.is_done = False
        self.value: Any = None
        self.problem: Exception | None = None
        self.gate = threading.Lock()
        """Released when the job is done, or when its caller must lead."""
        self.gate.acquire()


class Writer:
    """Runs operations one after the other, in the threads of their callers, and commits them in groups.

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
        connection: sqlite3.Connection,
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

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``operation`` in a transaction and return its value after the commit.

        If another operation of the group fails, the group is rolled back and each operation is run once more.

        Raises
        ------
        StoreUnavailable
            It was not committed.
        """

        def by_itself(connection: sqlite3.Connection, _: Sequence[None]) -> Sequence[T]:
            with transaction(connection):
                return [operation(connection)]

        return self.run_together(by_itself, None)

    def run_together(self, operation: Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T]], item: Item) -> T:
        """As :meth:`run`, but waiting items of the same operation are passed to it in one call.

        Parameters
        ----------
        operation
            Returns a value for each item. It must be atomic: one statement, or
            :func:`~dicom2fhir.store.sqlite.statements.transaction`.

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
        with suppress(sqlite3.Error):
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
            self._run_all(batch)
            self._confirm()
        except StoreUnavailable as error:
            self._give_up(batch, str(error))
            return
        except sqlite3.Error as error:
            if primary_code(error) in _BUSY:
                self._roll_back()
                self._refuse(batch, f"Another process is locking the store: {error}")
            else:
                self._give_up(batch, f"The store cannot be written: {error}")
            return
        for job in batch:
            job.is_done = True
        self._on_commit()

    def _run_all(self, batch: list[_Job]) -> None:
        """Run all operations; if one fails, roll back and run each by itself."""
        together: dict[object, list[_Job]] = {}
        for job in batch:
            together.setdefault(job.operation, []).append(job)
        try:
            with transaction(self._connection) if len(together) > 1 else nullcontext():
                for jobs in together.values():
                    values = jobs[0].operation(self._connection, [job.item for job in jobs])
                    for job, value in zip(jobs, values, strict=True):
                        job.value = value
        except Exception as error:
            if _is_of_the_file(error):
                raise
            self._roll_back()
            with transaction(self._connection):
                for job in batch:
                    self._run_alone(job)

    def _run_alone(self, job: _Job) -> None:
        """Run one operation in its own savepoint: its failure does not affect the others of the batch."""
        self._connection.execute("SAVEPOINT job")
        try:
            (job.value,) = job.operation(self._connection, [job.item])
        except Exception as error:  # raised in the caller that waits for this job
            if _is_of_the_file(error):
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
        # SQLite rolls back by itself after some errors.
        with suppress(sqlite3.Error):
            self._connection.rollback()
        self._on_roll_back()


def _is_of_the_file(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and primary_code(error) in _FAILED | _BUSY
