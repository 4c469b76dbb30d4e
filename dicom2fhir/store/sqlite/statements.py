"""The statements of ``queries.sql``, asked by name over one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dicom2fhir.store.sqlite.schema import queries

Row = tuple[Any, ...]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within together; within another transaction it goes with that.

    After an exception whoever looks after the connection has to roll back.
    """
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


class Statements:
    """A connection that knows the statements; lives for one operation.

    Attributes
    ----------
    wake
        Set by an operation that may have brought the next due time nearer.
    claims_of
        UIDs of the studies of which the operation takes or ends a claim.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries = queries()
        self.wake = False
        self.claims_of: set[str] = set()

    def transaction(self) -> AbstractContextManager[None]:
        """See :func:`transaction`."""
        return transaction(self._connection)

    def one(self, name: str, /, **parameters: object) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._connection.execute(self._queries[name], parameters).fetchone()
        return row

    def all(self, name: str, /, **parameters: object) -> list[Row]:
        """Every row."""
        return self._connection.execute(self._queries[name], parameters).fetchall()

    def run(self, name: str, /, **parameters: object) -> int:
        """Change rows; how many."""
        return self._connection.execute(self._queries[name], parameters).rowcount

    def run_many(self, name: str, rows: Iterable[Mapping[str, object]], /) -> None:
        """Run a statement that changes rows once for each mapping of parameters."""
        self._connection.executemany(self._queries[name], rows)

    def insert(self, name: str, /, **parameters: object) -> int:
        """Add a row to a table with rowids; its id."""
        return self._connection.execute(self._queries[name], parameters).lastrowid or 0
