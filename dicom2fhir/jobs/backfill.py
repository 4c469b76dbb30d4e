"""Import archives into the store (``dicom2fhir backfill``).

Workers read headers, and only this process writes, except that workers of a Dask cluster write into a database
themselves. The results of some hundred files - instances, marks in the ledger, rejections - are one transaction
(:mod:`dicom2fhir.jobs.backfill_keeping`). A run that was killed is therefore resumed by running it again: files that
have not changed since the ledger recorded them are not read again. The daemon delivers the studies; it may run at the
same time, because the transactions are short, or be started afterwards.

A study should not be sent before all its files are imported. Only the order of the archive tells when that is: a study
is held, as by an open association, until some thousand further files in a row did not belong to it
(:mod:`dicom2fhir.jobs.backfill_holds`), or until the end of the run. ``max_wait_s`` limits this. If a study was
released too early, its other files make a new revision, which is sent again; nothing is lost.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_holds import Holds
from dicom2fhir.jobs.backfill_keeping import TRANSACTION_FILES, Kept, keep, read_work
from dicom2fhir.jobs.backfill_readers import Readers, dask_readers, local_readers
from dicom2fhir.jobs.backfill_sources import Sources, count_files, real_roots
from dicom2fhir.jobs.backfill_summary import Summary
from dicom2fhir.jobs.backfill_worker import Work, work_of
from dicom2fhir.model import Origin
from dicom2fhir.receive.folder.files import Found

if TYPE_CHECKING:
    from pathlib import Path

    from dicom2fhir.store.base import Store

_BATCH_FILES = TRANSACTION_FILES
"""Read by one worker at a time."""
_DEADLY = "Several Dask workers ended while they read it; give them more memory, or import it without --dask"
_Pending = tuple[Future[Chunk | Kept], Work, Origin]
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Backfill:
    """One run.

    Parameters
    ----------
    store
        The store; None for a dry run without one.
    dry_run
        Read and count, write nothing.
    again
        Also read files that were done before.
    since
        Ignore files that were last modified before, in seconds since the epoch; they are not counted.
    archives
        Read the files in zip and tar archives; otherwise archives are ignored and not counted.
    s3_endpoint
        URL of the object store of ``s3://``; None: as the AWS tools find it.
    dask
        Address of a Dask scheduler whose workers read instead of processes of this machine; they need the same paths.
    attach
        Opens the store in a worker, which then writes what it has read; None: only this process writes.
    may_reject
        Whether rejection notes are applied.
    on_progress
        Called from time to time, in the calling thread, with the progress and the number of all files, which is None
        while it is not known.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        workers: int,
        dry_run: bool = False,
        again: bool = False,
        since: float | None = None,
        archives: bool = True,
        s3_endpoint: str | None = None,
        dask: str | None = None,
        attach: Callable[[], Store] | None = None,
        may_reject: bool = True,
        budgets: Budgets = DEFAULT_BUDGETS,
        on_progress: Callable[[Summary, int | None], None] | None = None,
    ) -> None:
        self._store = store
        self._writes = None if dry_run else store
        self._workers = workers
        self._dask = dask
        self._attach = None if dry_run else attach
        self._again = again
        self._sources = Sources((), None if since is None else int(since * 1e9), archives, s3_endpoint)
        self._may_reject = may_reject
        self._budgets = budgets
        self._on_progress = on_progress
        self._total: Future[int] | None = None
        self._summary = Summary()
        self._studies: set[int] = set()

    def run(self, paths: Iterable[str | Path]) -> Summary:
        """Import every file below ``paths``: files, folders and ``s3://bucket/prefix``.

        Raises
        ------
        StoreUnavailable
            It cannot be written any more; another run continues from there.
        BridgeError
            A worker ended, probably because of a lack of memory, or the Dask cluster cannot be used.
        ConfigError
            Dask is not installed.
        """
        started = time.monotonic()
        sources = replace(self._sources, roots=real_roots(paths))
        holds = Holds(self._writes, sources.roots, self._may_reject)
        pending: deque[_Pending] = deque()
        with dask_readers(self._dask) if self._dask else local_readers(self._workers) as readers:
            if self._on_progress:
                self._total = readers.submit(count_files, sources)
            for work in self._work(sources):
                origin = holds.origin()
                pending.append((self._submit(readers, work, origin), work, origin))
                if len(pending) >= readers.most_pending:
                    self._settle(pending, readers, holds)
            while pending:
                self._settle(pending, readers, holds)
        holds.release()
        self._summary.seconds = time.monotonic() - started
        self._summary.studies = len(self._studies)
        return self._summary

    def _work(self, sources: Sources) -> Iterator[Work]:
        """The files to read, in their order, so that those of a study come together."""
        files = sources.files(self._cannot_read)
        while some := list(islice(files, _BATCH_FILES)):
            self._summary.files += len(some)
            left = self._without_done(some)
            if left:
                yield from work_of(left)
            elif self._on_progress:
                self._on_progress(self._summary, self._files_in_all())

    def _cannot_read(self, path: str, error: OSError) -> None:
        self._summary.files += 1
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
        self._summary.fail(text, error.strerror or str(error))

    def _without_done(self, files: Sequence[Found]) -> list[Found]:
        """The files that the ledger does not record as done."""
        marks = self._store.file_marks([file.text for file in files]) if self._store and not self._again else {}
        left = []
        for file in files:
            mark = marks.get(file.text)
            if mark is None or not mark.holds_for(file.size_bytes, file.mtime_ns):
                left.append(file)
            elif mark.outcome == "rejected":
                self._summary.fail(file.text, mark.reason)
            else:
                self._summary.done_before += 1
                self._summary.outdated += mark.by_other_reader
        return left

    def _files_in_all(self) -> int | None:
        return self._total.result() if self._total and self._total.done() and not self._total.exception() else None

    def _submit(self, readers: Readers, work: Work, origin: Origin) -> Future[Chunk | Kept]:
        return readers.submit(read_work, work, self._budgets, self._attach, origin)

    def _settle(self, pending: deque[_Pending], readers: Readers, holds: Holds) -> None:
        """Await the oldest task; of several files of one instance, this process keeps the last.

        What several workers ended at is divided, so that only the file that ends them is not imported. The parts are
        read one after the other, because Dask also gives up a task that only waited where workers ended.
        """
        future, work, origin = pending.popleft()
        left = deque([work])
        files = 0
        while left:
            work = left.popleft()
            result = readers.result(future)
            if result is None and (parts := work.parts()):
                left.extendleft(reversed(parts))
            else:
                kept = self._kept(work, work.unread(_DEADLY) if result is None else result, origin)
                files += kept.files
                if kept.left:
                    left.appendleft(kept.left)
            if left:
                future = self._submit(readers, left[0], origin)
        holds.settled(files)

    def _kept(self, work: Work, result: Chunk | Kept, origin: Origin) -> Kept:
        """Write the result of a task, unless its worker has, and tell how far the run is."""
        kept = keep(self._writes, work, result, origin) if isinstance(result, Chunk) else result
        self._summary.add(kept.counts)
        self._studies.update(map(hash, kept.study_uids))
        if self._on_progress:
            self._on_progress(self._summary, self._files_in_all())
        return kept


def moment(text: str, now: float) -> float:
    """Read a date (``2026-01-31``, ``2026-01-31T08:00``; local time) or how long ago (``90m``, ``7d``, ``2w``).

    Raises
    ------
    ValueError
        It is neither.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if ago:
        return now - float(ago[1]) * _UNITS_S[ago[2]]
    return datetime.fromisoformat(text.strip()).timestamp()
