"""Snapshots of the store for those who read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom2fhir.errors import StoreDamaged, StoreUnavailable
from dicom2fhir.store.sql.connection_pool import ConnectionPool
from dicom2fhir.store.sqlite.schema import connect, primary_code


class ReadConnections:
    """A pool of read-only connections."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._pool = ConnectionPool(lambda: connect(path, read_only=True, busy_timeout_s=busy_timeout_s))
        self.close = self._pool.close

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
        connection = self._pool.borrow()
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            if primary_code(error) == 0:  # an error of the sqlite3 module, whose message quotes the text
                raise StoreDamaged("Text in the rows of the store is not UTF-8") from None
            raise StoreUnavailable(f"The store cannot be read: {error}") from error
        finally:
            self._pool.give_back(connection)
