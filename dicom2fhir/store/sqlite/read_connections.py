"""A pool of read-only connections; each is used by one caller at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom2fhir.errors import StoreDamaged, StoreUnavailable
from dicom2fhir.store.sqlite.schema import connect, primary_code


class Readers:
    """The pool. There is not one connection per thread, because threads start and end with associations."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the present state of the store; later writes are not visible.

        Raises
        ------
        StoreUnavailable
            The store is closed or cannot be read.
        StoreDamaged
            Text in the rows is not UTF-8.
        """
        connection = self._borrow()
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            if primary_code(error) == 0:  # an error of the sqlite3 module, whose message quotes the text
                raise StoreDamaged("Text in the rows of the store is not UTF-8") from None
            raise StoreUnavailable(f"The store cannot be read: {error}") from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close idle connections now, and the others when they are returned."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("The store is closed")
            if self._idle:
                return self._idle.pop()
        return connect(self._path, read_only=True, busy_timeout_s=self._busy_timeout_s)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.rollback()
        except sqlite3.Error:
            connection.close()
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
