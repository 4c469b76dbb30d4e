"""The statements of ``queries.sql``, run by name on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.sqlite.schema import queries


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


class SqliteStatements(Statements):
    """See :class:`dicom2fhir.store.sql.statements.Statements`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._queries = queries()

    def transaction(self) -> AbstractContextManager[None]:
        """See :func:`transaction`."""
        return transaction(self._connection)

    def one(self, name: str, /, **parameters: object) -> Row | None:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.one`."""
        row: Row | None = self._connection.execute(self._queries[name], parameters).fetchone()
        return row

    def all(self, name: str, /, **parameters: object) -> list[Row]:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.all`."""
        return self._connection.execute(self._queries[name], parameters).fetchall()

    def run(self, name: str, /, **parameters: object) -> int:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.run`."""
        return self._connection.execute(self._queries[name], parameters).rowcount

    def run_many(self, name: str, rows: Iterable[Mapping[str, object]], /) -> None:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.run_many`."""
        self._connection.executemany(self._queries[name], rows)

    def insert(self, name: str, /, **parameters: object) -> int:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.insert`."""
        return self._connection.execute(self._queries[name], parameters).lastrowid or 0

    def writes_of_others(self, owns: bool) -> int:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.writes_of_others`."""
        if not owns:
            self.run("count_attached_write")
        (count,) = self.one("attached_writes") or (0,)
        return int(count)
