"""Write what was read of some files into the store, in this process or in the worker that has read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.errors import Permanent, attempt
from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_summary import Summary
from dicom2fhir.jobs.backfill_worker import Work
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import Rejection

if TYPE_CHECKING:
    from dicom2fhir.store.base import Store

TRANSACTION_FILES = 256
"""Written in one transaction, of about 20 ms, so that the daemon can write, too."""


@dataclass(slots=True)
class Kept:
    """What became of some files."""

    files: int
    """Of an archive: those in it."""
    counts: Summary = field(default_factory=Summary)
    """Without the files that were found, and without the studies."""
    study_uids: set[str] = field(default_factory=set)
    left: Work | None = None
    """What is to be read now."""


def read_work(work: Work, budgets: Budgets, attach: Callable[[], Store] | None, origin: Origin) -> Chunk | Kept:
    """Read headers, in a worker process; where it can open the store, it writes what it has read.

    Raises
    ------
    StoreUnavailable
        The store cannot be opened or written.
    """
    chunk = work.read(budgets)
    if attach is None:
        return chunk
    with closing(attach()) as store:
        return keep(store, work, chunk, origin)


def keep(store: Store | None, work: Work, chunk: Chunk, origin: Origin) -> Kept:
    """Write the results of some files, in one transaction unless they are too many.

    An instance that the store rejects fails only its own file.

    Parameters
    ----------
    store
        None: only count.
    """
    keeping = _Keeping(store, work, origin, Kept(len(chunk)))
    done = keeping.keep(chunk)
    kept = keeping.kept
    kept.left = work.left(done)
    kept.counts.members = chunk.members
    kept.counts.archives = int(bool(chunk.names) and kept.left is None)
    return kept


@dataclass(frozen=True, slots=True)
class _Keeping:
    store: Store | None
    work: Work
    origin: Origin
    kept: Kept

    def keep(self, chunk: Chunk) -> Chunk:
        """Write it; with what the store rejected."""
        work = self.work
        if len(chunk) <= TRANSACTION_FILES:
            with suppress(Permanent):
                self._write(chunk, work.marks(chunk) + work.last_marks(chunk))
                return chunk
        rest = chunk.rest()
        for part in chunk.instances(TRANSACTION_FILES):
            rest.rejected += self._refused(part)
        self._write(rest, work.marks(rest) + work.last_marks(rest))
        return rest

    def _refused(self, chunk: Chunk) -> list[tuple[int, str, str]]:
        """Write instances; those that the store rejects."""
        try:
            self._write(chunk, self.work.marks(chunk))
        except Permanent as error:
            if len(chunk) == 1:
                return [(chunk.taken[0], error.kind, str(error))]
            return [one for part in chunk.instances(1) for one in self._refused(part)]
        return []

    def _write(self, chunk: Chunk, marks: Sequence[FileMark]) -> None:
        records = [InstanceRecord(*plain) for plain in chunk.plain]
        counts = self.kept.counts
        if self.store:
            now = time.time()
            changes = attempt(
                self.store.add_many,
                records,
                self.origin,
                marks,
                [
                    Rejection(now, Origin("file", path=self.work.path(chunk, place)), reason, kind)
                    for place, kind, reason in chunk.rejected
                ],
            )
            counts.new += changes.count(Change.NEW)
            counts.changed += changes.count(Change.CHANGED)
            counts.unchanged += changes.count(Change.UNCHANGED)
        self.kept.study_uids.update(record.study_uid for record in records)
        counts.taken += len(records)
        counts.skipped += len(chunk.skipped)
        failed = [*((place, reason) for place, _, reason in chunk.rejected), *chunk.unreadable]
        for place, reason in failed:
            counts.fail(self.work.path(chunk, place), reason)
