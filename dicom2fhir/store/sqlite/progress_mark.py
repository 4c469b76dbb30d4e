"""The number of revisions, written beside the store, so that missing changes are noticed.

When a write-ahead log is lost, cut off or changed, the newest commits are lost with it, and the rest is a valid store.
Every second the owner writes the number of revisions and does not wait for the disk, so that it is never more than what
is durable. A commit that is lost within a second, or with the power, may go unnoticed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.system.permissions import give_to_owner

END = ".progress"
"""Suffix of the file; the rest of its name is that of the store."""
_DIGITS = 20


class Progress:
    """The file; created if absent."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        give_to_owner(self._descriptor, path.parent)
        self._written = self._read()

    def lacking(self, sql: Statements) -> int:
        """The number of committed changes that the store lacks."""
        return max(self._written - _revisions(sql), 0)

    def follow(self, sql: Statements) -> None:
        """Write the present number of revisions."""
        revisions = _revisions(sql)
        if revisions != self._written:
            os.pwrite(self._descriptor, f"{revisions:0{_DIGITS}}\n".encode("ascii"), 0)
            self._written = revisions

    def close(self) -> None:
        """Sync the file and close it."""
        with suppress(OSError):  # the store itself is on disk
            os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> int:
        """The number in the file; -1 if there is none."""
        try:
            return int(os.pread(self._descriptor, _DIGITS, 0))
        except ValueError:
            return -1


def _revisions(sql: Statements) -> int:
    row = sql.one("revisions")
    return int(row[0]) if row else 0
