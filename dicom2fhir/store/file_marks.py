"""The part of the contract of a store for the files of watched folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileMark:
    """The outcome for one file of a watched folder; a file whose size or time has changed is read again."""

    path: str
    size_bytes: int
    mtime_ns: int
    outcome: str
    """``"taken"``, ``"skipped"`` (not a SOP instance) or ``"rejected"``."""
    reason: str = ""
    by_other_reader: bool = False
    """Whether another version of the program read the file, which may have read less of it."""

    def holds_for(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether a file with this size and time need not be read.

        A file that was taken is read again only if it has changed; any other file also by another version of the
        program, which may understand it.
        """
        is_same = (self.size_bytes, self.mtime_ns) == (size_bytes, mtime_ns)
        return is_same and (self.outcome == "taken" or not self.by_other_reader)


class Ledger(Protocol):
    """Which files of watched folders have been processed."""

    def file_mark(self, path: str) -> FileMark | None:
        """The mark of ``path``, if there is one."""

    def mark_file(self, mark: FileMark) -> None:
        """Record the outcome of a file; durable when it returns."""
