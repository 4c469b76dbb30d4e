"""What was read of some files, on its way from a worker to the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Plain = tuple[Any, ...]
"""The fields of an :class:`~dicom2fhir.model.InstanceRecord`: pickled ten times as fast, and shared mappings once."""


@dataclass(slots=True)
class Chunk:
    """The result of a worker: ``plain`` are the records of the files at the indexes ``taken``, in this order."""

    plain: list[Plain] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    """Index of the file, and reason."""
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    """Files that will not be understood next time either: index, kind and reason."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """Files that may be readable another time."""
    names: list[str] = field(default_factory=list)
    """Of an archive: the names of its files; empty for the archive itself."""
    cut_after: int = 0
    """Of an archive: how many of its files these are, if others are left because the content of these is large."""

    @property
    def members(self) -> int:
        """The number of files of an archive."""
        return sum(map(bool, self.names))

    def __len__(self) -> int:
        return len(self.taken) + len(self.skipped) + len(self.rejected) + len(self.unreadable)

    def instances(self, size: int) -> Iterator[Chunk]:
        """The records alone, up to ``size`` together."""
        for at in range(0, len(self.taken), size):
            yield Chunk(self.plain[at : at + size], self.taken[at : at + size], names=self.names)

    def rest(self) -> Chunk:
        """All but the records."""
        return Chunk(
            skipped=self.skipped,
            rejected=self.rejected,
            unreadable=self.unreadable,
            names=self.names,
            cut_after=self.cut_after,
        )
