"""The one thread that writes: whatever waits is committed together, and only then is anybody told that it is done.

One fsync costs as much as hundreds of statements; sharing it is what makes an acknowledgement per instance affordable.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import structlog

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.schema import primary_code

log = structlog.get_logger()

T = TypeVar("T")

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


@dataclass(slots=True, eq=False)
class _Job:
    operation: Callable[[sqlite3.Connection], Any]
    future: Future[Any] = field(default_factory=Future)


class Writer:
    """Runs operations one by one in one thread, commits them in groups.

    Parameters
    ----------
    connection
        Becomes the writer's own, and is closed by :meth:`close`.
    on_commit
        Called in the writer's thread after each commit; must be quick.
    on_failure
        Called once, with the reason, when the store cannot be written any more.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        on_commit: Callable[[], None] = lambda: None,
        on_failure: Callable[[str], None] = lambda _reason: None,
        max_batch: int = _MAX_BATCH,
    ) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._max_batch = max_batch
        self._jobs: deque[_Job] = deque()
        self._waiting = threading.Condition()
        self._closing = False
        self._failure: str | None = None
        # Does not keep a process alive: what was not committed was not promised to anybody.
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why nothing can be written any more; None while all is well."""
        return self._failure

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``operation`` in a transaction and return its value once that is on disk.

        Raises
        ------
        StoreUnavailable
            It was not committed.
        """
        job = _Job(operation)
        with self._waiting:
            if self._closing:
                raise StoreUnavailable("The store is closed")
            if self._failure is not None:
                raise StoreUnavailable(self._failure)
            self._jobs.append(job)
            self._waiting.notify()
        return cast(T, job.future.result())

    def fail(self, reason: str) -> None:
        """Write nothing any more."""
        with self._waiting:
            if self._failure is not None:
                return
            self._failure = reason
        log.critical("store_failed", reason=reason)
        self._on_failure(reason)

    def close(self) -> None:
        """Commit what waits, end the thread and close the connection."""
        with self._waiting:
            self._closing = True
            self._waiting.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._commit(batch)
            except Exception as error:  # whatever it is: nobody may wait for ever, and nobody may be told success
                log.exception("store_writer_error")
                self._give_up(batch, f"The store's writer failed: {type(error).__name__}")
        # Closing the last connection checkpoints; a store that has failed keeps its WAL for the next start.
        with suppress(sqlite3.Error):
            self._connection.close()

    def _next_batch(self) -> list[_Job]:
        with self._waiting:
            while not self._jobs and not self._closing:
                self._waiting.wait()
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_batch))]

    def _commit(self, batch: list[_Job]) -> None:
        if self._failure is not None:
            self._refuse(batch, self._failure)
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [self._attempt(job) for job in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if primary_code(error) in _BUSY:
                self._roll_back()
                self._refuse(batch, f"Another process keeps the store busy: {error}")
            else:
                self._give_up(batch, f"The store cannot be written: {error}")
            return
        for job, (value, problem) in zip(batch, results, strict=True):
            if problem is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(problem)
        self._on_commit()

    def _attempt(self, job: _Job) -> tuple[Any, Exception | None]:
        """One operation in its own savepoint: its own mistake does not touch the others of the batch."""
        self._connection.execute("SAVEPOINT job")
        try:
            value, problem = job.operation(self._connection), None
        except Exception as error:  # belongs to the caller that waits for this job
            if isinstance(error, sqlite3.Error) and primary_code(error) in _FAILED | _BUSY:
                raise
            value, problem = None, error
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")
        return value, problem

    def _give_up(self, batch: list[_Job], reason: str) -> None:
        self._roll_back()
        self.fail(reason)
        self._refuse(batch, reason)

    def _refuse(self, batch: list[_Job], reason: str) -> None:
        for job in batch:
            if not job.future.done():
                job.future.set_exception(StoreUnavailable(reason))

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors.
        with suppress(sqlite3.Error):
            self._connection.rollback()
