"""Whatever waits to be written is committed together, and only then is anybody told that it is done.

One fsync costs as much as dozens of statements; sharing it is what makes an acknowledgement per instance affordable.
There is no thread of its own: who comes first while nobody writes commits what waits, its own job among it, and hands
the file on to the next who came meanwhile. So a caller that is alone never waits for another thread to wake up.
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
"""Bounds how long the first of a batch waits; no gain was measured above."""

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
"""The file or the disk is at fault and not the statement. After a failed fsync nobody knows what the disk holds, so
nothing is tried again in this process (https://wiki.postgresql.org/wiki/Fsync_Errors)."""


class _Job:
    """What one caller waits for."""

    def __init__(self, operation: Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]], item: Any) -> None:
        self.operation = operation
        self.item = item
        self.is_done = False
        self.value: Any = None
        self.problem: Exception | None = None
        self.gate = threading.Lock()
        """Opened when the job is done, or when its caller has to lead."""
        self.gate.acquire()


class Writer:
    """Runs operations one after the other, in the threads of those who want them, and commits them in groups.

    Parameters
    ----------
    connection
        Becomes the writer's own, and is closed by :meth:`close`.
    confirm
        Called after each commit, before anybody is told of it; where it raises :class:`StoreUnavailable`, nobody is,
        and the store has failed.
    on_commit
        Called after each commit, in whatever thread made it; must be quick.
    on_roll_back
        Called when operations were undone, and before any is tried again.
    on_failure
        Called once, with the reason, when the store cannot be written any more.
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
        """Whose caller writes now, or was told to; nothing waits while there is none."""
        self._idle = threading.Condition(self._lock)
        self._closing = False
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing can be written any more; None while all is well."""
        return self._failure

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``operation`` in a transaction and return its value once that is on disk.

        It is run once more, after everything was undone, when another one of its group makes a mistake.

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
        """Do what :meth:`run` does; items that wait for the same operation are handed to it together.

        Parameters
        ----------
        operation
            Returns a value for each item. What it does is all or nothing by itself, by one statement or
            :func:`~dicom2fhir.store.sqlite.statements.transaction`.

        Raises
        ------
        StoreUnavailable
            It was not committed.
        """
        job = _Job(operation, item)
        try:
            if not self._enqueue(job):
                job.gate.acquire()  # until it is done, or is the one that leads
            if not job.is_done:
                self._lead()
        except BaseException:  # Ctrl-C comes anywhere: nobody else may wait for this caller
            self._withdraw(job)
            raise
        if job.problem is not None:
            raise job.problem
        value: T = job.value
        return value

    def fail(self, reason: str) -> None:
        """Write nothing any more."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = reason
        log.critical("store.failed", reason=reason)
        self._on_failure(reason)

    def close(self) -> None:
        """Let what waits be committed, and close the connection."""
        with self._lock:
            self._closing = True
            while self._leader is not None:
                self._idle.wait()
        # Closing the last connection checkpoints; a store that has failed keeps its WAL for the next start.
        with suppress(sqlite3.Error):
            self._connection.close()

    def _enqueue(self, job: _Job) -> bool:
        """Have a job wait for its turn; whether that is now."""
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
        """Commit what waits, the job of this caller first."""
        with self._lock:
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_batch))]
        try:
            self._commit(batch)
        except Exception as error:  # whatever it is: nobody may wait for ever, and nobody may be told success
            log.error("writer.failed", **log_fields(BridgeFault(error)))
            self._give_up(batch, f"The writer of the store failed: {type(error).__name__}")
        except BaseException:  # Ctrl-C
            self._roll_back()
            self._refuse(batch, "The writer was interrupted")
            raise
        finally:
            self._hand_on()  # first, because the disk has nothing to do
            for job in batch:
                job.gate.release()

    def _hand_on(self) -> None:
        """Let the one that has waited longest lead."""
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
        """Run every operation; when one makes a mistake, all again and each by itself."""
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
        """One operation in its own savepoint: its own mistake does not touch the others of the batch."""
        self._connection.execute("SAVEPOINT job")
        try:
            (job.value,) = job.operation(self._connection, [job.item])
        except Exception as error:  # belongs to the caller that waits for this job
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
        # SQLite has rolled back by itself after some errors.
        with suppress(sqlite3.Error):
            self._connection.rollback()
        self._on_roll_back()


def _is_of_the_file(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and primary_code(error) in _FAILED | _BUSY
