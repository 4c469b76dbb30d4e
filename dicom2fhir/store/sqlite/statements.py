"""The statements of ``queries.sql``, run by name on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dicom2fhir.store.sqlite.schema import queries

Row = tuple[Any, ...]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction; within another transaction it becomes part of that one.

    After an exception the owner of the connection must roll back.
    """
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


class Statements:
    """A connection with the named statements, for one operation.

    Attributes
    ----------
    wake
        Set by an operation that may have made the next due time earlier.
    claims_of
        UIDs of the studies for which the operation takes or ends a claim.
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
        """Change rows; their number."""
        return self._connection.execute(self._queries[name], parameters).rowcount

    def run_many(self, name: str, rows: Iterable[Mapping[str, object]], /) -> None:
        """Run a statement once for each mapping of parameters."""
        self._connection.executemany(self._queries[name], rows)

    def insert(self, name: str, /, **parameters: object) -> int:
        """Add a row to a table with rowids; its id."""
        return self._connection.execute(self._queries[name], parameters).lastrowid or 0
