"""The store that is filled: a database without tables, or one that an earlier run has filled in part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

import psycopg
from psycopg import errors

from dicom2fhir.errors import ConfigError, StoreInUse, StoreUnavailable
from dicom2fhir.store.migration.tables import MOVED
from dicom2fhir.store.postgres.schema import UNFINISHED, connect, location_of, migrate, steps, unfinished, version_of
from dicom2fhir.store.postgres.statements import storable
from dicom2fhir.store.sql.statements import Row

_BUSY_TIMEOUT_S = 10.0
_NUMBERED = ("reader", "study", "attrs", "series", "destination", "rejection", "sealed")
"""Tables whose rows the database numbers."""


class Target:
    """A database that becomes the copy of a store; daemons and commands refuse it until :meth:`finish`.

    Parameters
    ----------
    url
        The connection URL.
    source
        What an earlier run must have been begun with.

    Raises
    ------
    ConfigError
        It is not a URL of PostgreSQL, the database has tables of something else, or it was begun to be filled from
        another store or by another version.
    StoreInUse
        Another process fills it.
    StoreUnavailable
        The server does not answer, or its settings do not protect what is stored.
    """

    def __init__(self, url: str, source: str) -> None:
        self.location = location_of(url)
        with ExitStack() as undo, self._errors():
            self._connection = connect(url, read_only=False, busy_timeout_s=_BUSY_TIMEOUT_S)
            undo.callback(self._connection.close)
            try:
                self._connection.execute("SELECT pg_advisory_lock(hashtext('dicom2fhir migration'))")
            except errors.LockNotAvailable:
                raise StoreInUse(f"Another process moves a store to {self.location}") from None
            self._begin_or_resume(source)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _begin_or_resume(self, source: str) -> None:
        begun = unfinished(self._connection)
        if begun is None:
            self._begin(source)
        elif begun != source:
            raise ConfigError(f"{self.location} holds part of {begun}, not of {source}; {_NEW_DATABASE}")
        elif version_of(self._connection) != len(steps()):
            raise ConfigError(f"{self.location} was begun by another version of dicom2fhir; {_NEW_DATABASE}")

    def _begin(self, source: str) -> None:
        present = self._connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        if tables := sorted(str(name) for (name,) in present):
            raise ConfigError(
                f"{self.location} has tables already ({', '.join(tables[:3])}...); it was not changed. {_NEW_DATABASE}"
            )
        with self._connection.transaction():
            migrate(self._connection, self.location)
            self._connection.execute(f"CREATE TABLE {UNFINISHED} (source TEXT NOT NULL)")
            self._connection.execute(f"INSERT INTO {UNFINISHED} VALUES (%s)".encode(), (source,))  # noqa: S608
            self._connection.execute("DELETE FROM reader; DELETE FROM due_rule")
            for table in MOVED:  # triggers count, and what they would count moves
                self._connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())

    def count(self, table: str) -> int:
        """The number of rows; they are on disk."""
        with self._errors():
            ((number,),) = self._connection.execute(f"SELECT count(*) FROM {table}".encode())  # noqa: S608
        return int(str(number))

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """Add rows in one transaction; their number.

        Raises
        ------
        StoreUnavailable
            The server does not accept them.
        """
        number = 0
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()
        with self._errors(table), self._connection.transaction(), self._connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row([storable(value) for value in row])
                number += 1
        return number

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """The rows of a table, in any order."""
        names = ", ".join(columns)
        with self._errors(table), self._connection.cursor() as cursor:
            described = cursor.execute(f"SELECT {names} FROM {table} LIMIT 0".encode()).description or ()  # noqa: S608
            with cursor.copy(f"COPY {table} ({names}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
                copy.set_types([column.type_code for column in described])
                yield from copy.rows()

    def finish(self, counters: Iterable[tuple[str, int, str, int]], last_study: int) -> None:
        """Make it a store that daemons use.

        Parameters
        ----------
        counters
            Kind, number, name and count.
        last_study
            The highest number that a study ever had.
        """
        rows: list[Row] = [(0, *counter) for counter in counters if counter[-1]]
        with self._errors(), self._connection.transaction():
            self.add("counter", ("process", "kind", "number", "label", "n"), rows)
            for table in _NUMBERED:
                last = last_study if table == "study" else 0
                highest = f"(SELECT greatest(max(id), {last}) FROM {table})"  # noqa: S608
                number = f"setval(pg_get_serial_sequence('{table}', 'id'), {highest} + 1, false)"
                self._connection.execute(f"SELECT {number}".encode())
            for table in MOVED:
                self._connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())
            self._connection.execute(f"DROP TABLE {UNFINISHED}".encode())

    @contextmanager
    def _errors(self, table: str = "") -> Iterator[None]:
        """Translate errors of the server; what they quote of the rows is left out."""
        try:
            yield
        except psycopg.Error as error:
            reason = error.diag.message_primary or str(error)
            where = f"{self.location}, table {table}," if table else self.location
            next_step = f"{_CHANGED}; {_NEW_DATABASE}" if isinstance(error, psycopg.IntegrityError) else _RESUME
            raise StoreUnavailable(f"{where} cannot be filled: {reason}. {next_step}") from None


_NEW_DATABASE = "Name a new database"
_CHANGED = "The store may have changed since an earlier run began"
_RESUME = "Run the command again to continue"
