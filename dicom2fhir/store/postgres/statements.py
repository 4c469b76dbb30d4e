"""The statements of ``queries.sql``, run by name on one connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg

from dicom2fhir.store.postgres.schema import Connection, queries
from dicom2fhir.store.postgres.writer import WriteConnection, transaction
from dicom2fhir.store.sql.statements import Row, Statements

DUE_CHANNEL = "dicom2fhir_due"


class PostgresStatements(Statements):
    """See :class:`dicom2fhir.store.sql.statements.Statements`.

    Parameters
    ----------
    connection
        Of the writer, or one that reads a snapshot.
    """

    def __init__(self, connection: WriteConnection | Connection) -> None:
        super().__init__()
        self._writing = connection if isinstance(connection, WriteConnection) else None
        self._connection = connection
        self._queries = queries()

    def transaction(self) -> AbstractContextManager[None]:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.transaction`."""
        return transaction(self._writing) if self._writing else nullcontext()

    def one(self, name: str, /, **parameters: object) -> Row | None:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.one`."""
        return self._execute(name, parameters).fetchone()

    def all(self, name: str, /, **parameters: object) -> list[Row]:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.all`."""
        return self._execute(name, parameters).fetchall()

    def run(self, name: str, /, **parameters: object) -> int:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.run`."""
        return self._execute(name, parameters).rowcount

    def run_many(self, name: str, rows: Iterable[Mapping[str, object]], /) -> None:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.run_many`; in one round trip."""
        found = [_storable(row) for row in rows]
        if found:
            with self._connection.cursor() as cursor:
                cursor.executemany(self._queries[name].encode(), found)

    def insert(self, name: str, /, **parameters: object) -> int:
        """See :meth:`dicom2fhir.store.sql.statements.Statements.insert`; 0 if another process has added it."""
        (number,) = self.one(name, **parameters) or (0,)
        return int(number)

    def writes_of_others(self, owns: bool) -> int:
        """Another number in each transaction: other daemons may write at any time."""
        return self._writing.transactions if self._writing else 0

    def notify(self) -> None:
        """Wake the other daemons when the transaction is committed."""
        self._connection.execute(f"NOTIFY {DUE_CHANNEL}")

    def _execute(self, name: str, parameters: Mapping[str, object]) -> psycopg.Cursor[Row]:
        return self._connection.execute(self._queries[name].encode(), _storable(parameters), binary=True)


def storable(value: Any) -> Any:
    """The value without the one character that a text in PostgreSQL cannot contain."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _storable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: storable(value) for name, value in parameters.items()}
