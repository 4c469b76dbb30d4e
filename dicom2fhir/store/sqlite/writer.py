"""Group commit into an SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager

from dicom2fhir.store.sql.writer import Fault, GroupWriter
from dicom2fhir.store.sqlite.schema import primary_code
from dicom2fhir.store.sqlite.statements import transaction

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
"""The file or the disk is at fault, not the statement. After a failed fsync the content of the disk is unknown, so this
process does not write again (https://wiki.postgresql.org/wiki/Fsync_Errors)."""


class SqliteWriter(GroupWriter[sqlite3.Connection]):
    """See :class:`dicom2fhir.store.sql.writer.GroupWriter`."""

    def _transaction(self, connection: sqlite3.Connection) -> AbstractContextManager[None]:
        return transaction(connection)

    def _judge(self, error: Exception) -> tuple[Fault, str] | None:
        if isinstance(error, sqlite3.Error):
            if primary_code(error) in _BUSY:
                return Fault.PASSES, f"Another process is locking the store: {error}"
            if primary_code(error) in _FAILED:
                return Fault.LASTS, f"The store cannot be written: {error}"
        return None
