"""Group commit into PostgreSQL, over one connection that is opened again when it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import errors

from dicom2fhir.store.postgres.schema import Connection, is_idle
from dicom2fhir.store.sql.writer import Fault, GroupWriter

_PASSING = (
    psycopg.OperationalError,  # connections, resources, shutdown, lock timeouts (classes 08, 53, 55, 57, 58)
    psycopg.InterfaceError,
    errors.InternalError,
    errors.ReadOnlySqlTransaction,  # a standby that was promoted elsewhere
)


class WriteConnection:
    """The connection of the writer.

    Parameters
    ----------
    open_
        Opens a connection.

    Attributes
    ----------
    transactions
        How many have begun.
    """

    def __init__(self, open_: Callable[[], Connection]) -> None:
        self._open = open_
        self._connection = open_()
        self.transactions = 0

    @property
    def in_transaction(self) -> bool:
        """Whether one has begun."""
        return not self._connection.closed and not is_idle(self._connection)

    @property
    def backend(self) -> int:
        """The number of the server's process, as notifications name it; 0 while the connection is lost."""
        return 0 if self._connection.closed else self._connection.info.backend_pid

    def begin(self) -> None:
        """Begin a transaction; a connection that was lost is opened again."""
        if self._connection.closed:
            self._connection = self._open()
        self.transactions += 1
        self._connection.execute("BEGIN")

    def execute(self, query: Any, parameters: Any = None, *, binary: bool = False) -> psycopg.Cursor[Any]:
        """See :meth:`psycopg.Connection.execute`."""
        return self._connection.execute(query, parameters, binary=binary)

    def cursor(self) -> psycopg.Cursor[Any]:
        """See :meth:`psycopg.Connection.cursor`."""
        return self._connection.cursor()

    def rollback(self) -> None:
        """See :meth:`psycopg.Connection.rollback`."""
        self._connection.rollback()

    def close(self) -> None:
        """See :meth:`psycopg.Connection.close`."""
        self._connection.close()


@contextmanager
def transaction(connection: WriteConnection) -> Iterator[None]:
    """Run the block in a transaction; within another transaction it becomes part of that one.

    After an exception the owner of the connection must roll back.
    """
    if connection.in_transaction:
        yield
        return
    connection.begin()
    yield
    connection.execute("COMMIT")


class PostgresWriter(GroupWriter[WriteConnection]):
    """See :class:`dicom2fhir.store.sql.writer.GroupWriter`.

    It never fails for good: whether a commit whose answer was lost is on disk is not known, and its callers are told
    that it is not; what they send again changes nothing.
    """

    def _transaction(self, connection: WriteConnection) -> AbstractContextManager[None]:
        return transaction(connection)

    def _judge(self, error: Exception) -> tuple[Fault, str] | None:
        if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
            return Fault.AGAIN, f"The store cannot be written: {error}"
        if isinstance(error, _PASSING):
            return Fault.PASSES, f"The store cannot be written: {error}"
        return None
