"""The store that moves: a file that no daemon uses and that nobody changes meanwhile."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.migration.tables import LEFT_OUT, UNMOVED_TOTALS
from dicom2fhir.store.sql.statements import Row
from dicom2fhir.store.sqlite.disk import require_permission
from dicom2fhir.store.sqlite.ownership import take_lock
from dicom2fhir.store.sqlite.schema import connect, primary_code, require_version, steps

_BUSY_TIMEOUT_S = 5.0
_COUNTERS = """
SELECT 'total', 0, name, n FROM total UNION ALL SELECT 'tally', destination_id, state, n FROM tally
UNION ALL SELECT 'made', destination_id, recipe, n FROM made UNION ALL SELECT 'rejected', 0, kind, n FROM rejected
UNION ALL SELECT 'reader', id, '', studies FROM reader
"""


class Source:
    """An open file; nobody else writes to it until it is closed.

    Raises
    ------
    NoStore
        There is no file.
    StoreInUse
        A daemon uses it.
    ConfigError
        It is of another version.
    StoreUnavailable
        It cannot be opened, or another process is writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_permission(path, os.R_OK | os.W_OK)
        with ExitStack() as undo:
            undo.callback(os.close, take_lock(path))
            self._connection = connect(path, read_only=False, busy_timeout_s=_BUSY_TIMEOUT_S)
            undo.callback(self._connection.close)
            require_version(self._connection, path, len(steps()), exact=True)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise self._unreadable(error) from error
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def columns(self, table: str) -> Sequence[str]:
        """The columns of a table that move."""
        names = (str(name) for _, name, *_ in self._rows(f"PRAGMA table_info({table})"))
        return [name for name in names if f"{table}.{name}" not in LEFT_OUT]

    def count(self, table: str) -> int:
        """The number of rows."""
        ((number,),) = self._rows(f"SELECT count(*) FROM {table}")  # noqa: S608
        return int(number)

    def rows(self, table: str, first: int = 0) -> Iterator[Row]:
        """The rows of a table in the order of their keys, from the row with this number on."""
        keys = [str(name) for _, name, *_, key in self._rows(f"PRAGMA table_info({table})") if key]
        columns, order = ", ".join(self.columns(table)), ", ".join(keys or "1")
        yield from self._rows(f"SELECT {columns} FROM {table} ORDER BY {order} LIMIT -1 OFFSET {first}")  # noqa: S608

    def counters(self) -> Sequence[tuple[str, int, str, int]]:
        """What the store has counted: the kind, the number of what is counted, its name, and how many there are."""
        return [row for row in self._rows(_COUNTERS) if row[0] != "total" or row[2] not in UNMOVED_TOTALS]

    def total(self, name: str) -> int:
        """What the store has counted under a name; ``last_forgotten`` is the highest number of a study that is gone."""
        ((number,),) = self._rows(f"SELECT n FROM total WHERE name = '{name}'")  # noqa: S608
        return int(number)

    def _rows(self, query: str) -> Iterator[Row]:
        try:
            yield from self._connection.execute(query)
        except sqlite3.Error as error:
            raise self._unreadable(error) from (error if primary_code(error) else None)

    def _unreadable(self, error: sqlite3.Error) -> StoreUnavailable:
        # an error without a code is one of the sqlite3 module, and quotes the text
        reason = str(error) if primary_code(error) else "text in its rows is not UTF-8"
        return StoreUnavailable(f"The store {self.path} cannot be read: {reason}")
