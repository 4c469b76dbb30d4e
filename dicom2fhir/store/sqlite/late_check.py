"""When the pages of a store are checked: a small one at the start of its owner, a large one after it, table by table.

Whatever makes a store fail leaves a mark beside it, with which it is checked as a whole at the next start. So damage
that is found late has the same end as damage that is found at the start.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.sqlite.schema import connect, is_corrupt
from dicom2fhir.system.durable import replacing, sync_directory

END = ".check"
"""Suffix of the mark; the rest of its name is that of the store."""
_CHECKED_AT_START_BYTES = 128 << 20
"""Takes about a second."""
_BETWEEN_QUESTIONS = 10_000
"""Instructions of SQLite until it is asked whether to stop."""


def is_due_at_start(path: Path) -> bool:
    """Whether the store is to be checked as a whole before it is used."""
    try:
        return os.path.lexists(f"{path}{END}") or path.stat().st_size <= _CHECKED_AT_START_BYTES
    except OSError:
        return True


def mark(path: Path) -> None:
    """Have the store checked at the next start, if that can be written."""
    with suppress(OSError), replacing(Path(f"{path}{END}"), f"{path.name}{END}.new"):
        pass


def remove_mark(path: Path) -> None:
    """The store was checked and is sound."""
    if os.path.lexists(f"{path}{END}"):
        os.unlink(f"{path}{END}")
        sync_directory(path.parent)


class LateCheck:
    """The check of a store that was not checked at the start; for one thread."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._tables: list[str] | None = None
        """Those that are left; None before the first part."""
        self._number = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._tables == []

    @property
    def progress(self) -> tuple[int, int]:
        """How many tables were checked, and how many there are; none before the first part."""
        return self._number - len(self._tables or ()), self._number

    def check_table(self, is_stopping: Callable[[], bool]) -> str:
        """Check the next table and its indexes in one snapshot; what is wrong with them, empty if nothing is.

        Raises
        ------
        StoreUnavailable
            It cannot be read now, or ``is_stopping``; the table is left.
        """
        try:
            with closing(connect(self._path, read_only=True, busy_timeout_s=self._busy_timeout_s)) as connection:
                connection.set_progress_handler(is_stopping, _BETWEEN_QUESTIONS)
                if self._tables is None:
                    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                    self._tables = [name for (name,) in rows]
                    self._number = len(self._tables)
                table = self._tables[-1].replace("'", "''")
                (verdict,) = connection.execute(f"PRAGMA integrity_check('{table}')").fetchone()
        except sqlite3.Error as error:
            if is_corrupt(error):
                return str(error)
            raise StoreUnavailable(f"The store {self._path} cannot be checked: {error}") from error
        self._tables.pop()
        return "" if verdict == "ok" else str(verdict)
