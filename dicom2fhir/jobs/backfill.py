"""Import archives into the store (``dicom2fhir backfill``).

Worker processes read headers; only this process writes. The results of some hundred files - instances, marks in the
ledger, rejections - are one transaction. A run that was killed is therefore resumed by running it again: files that
have not changed since the ledger recorded them are not read again. The daemon delivers the studies; it may run at the
same time, because the transactions are short, or be started afterwards.

A study should not be sent before all its files are imported. Only the order of the archive tells when that is: a study
is held, as by an open association, until :data:`WINDOW_FILES` further files in a row did not belong to it, or until the
end of the run. ``max_wait_s`` limits this. If a study was released too early, its other files make a new revision,
which is sent again; nothing is lost.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.errors import Permanent, attempt
from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_readers import Readers, dask_readers, local_readers
from dicom2fhir.jobs.backfill_sources import Sources, count_files, real_roots
from dicom2fhir.jobs.backfill_summary import Summary
from dicom2fhir.jobs.backfill_worker import Work, read_work, work_of
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.receive.folder.files import Found
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import Rejection

if TYPE_CHECKING:
    from pathlib import Path

    from dicom2fhir.store.base import Store

WINDOW_FILES = 10_000
"""A study is released when this many files in a row did not belong to it. With more, whole archives would wait; with
fewer, studies whose files are in many folders would be sent twice."""
_CHUNK_FILES = 256
"""Read by one worker and written in one transaction of about 20 ms, so that the daemon can write, too."""
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
        may_reject: bool = True,
        budgets: Budgets = DEFAULT_BUDGETS,
        on_progress: Callable[[Summary, int | None], None] | None = None,
    ) -> None:
        self._store = store
        self._writes = None if dry_run else store
        self._workers = workers
        self._dask = dask
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
        holds = _Holds(self._writes, sources.roots, self._may_reject)
        pending: dict[Future[Chunk], Work] = {}
        with dask_readers(self._dask) if self._dask else local_readers(self._workers) as readers:
            if self._on_progress:
                self._total = readers.submit(count_files, sources)
            for work in self._work(sources):
                pending[readers.submit(read_work, work, self._budgets)] = work
                if len(pending) >= readers.most_pending:
                    self._settle(pending, readers, holds)
            while pending:
                self._settle(pending, readers, holds)
        holds.release()
        self._tell(started)
        return self._summary

    def _tell(self, started: float) -> None:
        self._summary.seconds = time.monotonic() - started
        self._summary.studies = len(self._studies)

    def _work(self, sources: Sources) -> Iterator[Work]:
        """The files to read, in their order, so that those of a study come together."""
        files = sources.files(self._cannot_read)
        while some := list(islice(files, _CHUNK_FILES)):
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

    def _settle(self, pending: dict[Future[Chunk], Work], readers: Readers, holds: _Holds) -> None:
        """Write the oldest pending result: of several files of one instance, the last is kept."""
        future = next(iter(pending))
        work = pending.pop(future)
        left = self._take(work, readers.result(future, work), holds)
        while left:
            work, future = left, readers.submit(read_work, left, self._budgets)
            left = self._take(work, readers.result(future, work), holds)

    def _take(self, work: Work, chunk: Chunk, holds: _Holds) -> Work | None:
        """Write a result; what is left to read of an archive."""
        left = work.left(self._keep(work, chunk, holds.origin(len(chunk))))
        self._summary.archives += bool(chunk.names) and left is None
        self._summary.members += chunk.members
        if self._on_progress:
            self._on_progress(self._summary, self._files_in_all())
        return left

    def _keep(self, work: Work, chunk: Chunk, origin: Origin) -> Chunk:
        """Write the results of some files, in one transaction unless they are too many; with what the store rejected.

        An instance that the store rejects fails only its own file.
        """
        if len(chunk) <= _CHUNK_FILES:
            with suppress(Permanent):
                self._write(work, chunk, origin, work.marks(chunk) + work.last_marks(chunk))
                return chunk
        rest = chunk.rest()
        for part in chunk.instances(_CHUNK_FILES):
            rest.rejected += self._refused(work, part, origin)
        self._write(work, rest, origin, work.marks(rest) + work.last_marks(rest))
        return rest

    def _refused(self, work: Work, chunk: Chunk, origin: Origin) -> list[tuple[int, str, str]]:
        """Write instances; those that the store rejects."""
        try:
            self._write(work, chunk, origin, work.marks(chunk))
        except Permanent as error:
            if len(chunk) == 1:
                return [(chunk.taken[0], error.kind, str(error))]
            return [one for part in chunk.instances(1) for one in self._refused(work, part, origin)]
        return []

    def _write(self, work: Work, chunk: Chunk, origin: Origin, marks: Sequence[FileMark]) -> None:
        records = [InstanceRecord(*plain) for plain in chunk.plain]
        if self._writes:
            now = time.time()
            changes = attempt(
                self._writes.add_many,
                records,
                origin,
                marks,
                [
                    Rejection(now, Origin("file", path=work.path(chunk, place)), reason, kind)
                    for place, kind, reason in chunk.rejected
                ],
            )
            self._summary.new += changes.count(Change.NEW)
            self._summary.changed += changes.count(Change.CHANGED)
            self._summary.unchanged += changes.count(Change.UNCHANGED)
        self._studies.update(hash(record.study_uid) for record in records)
        self._summary.taken += len(records)
        self._summary.skipped += len(chunk.skipped)
        failed = [*((place, reason) for place, _, reason in chunk.rejected), *chunk.unreadable]
        for place, reason in failed:
            self._summary.fail(work.path(chunk, place), reason)


class _Holds:
    """Names of the associations that hold studies: two in turn, so that a study is held beyond the window it came in.

    The names derive from the paths, so that a run that resumes a killed one also releases what that one held.
    """

    def __init__(self, store: Store | None, roots: Sequence[str], may_reject: bool) -> None:
        self._store = store
        self._may_reject = may_reject
        self._name = hashlib.sha256(os.fsencode("\0".join(roots))).hexdigest()[:12]
        self._window = 0
        self._left = WINDOW_FILES

    def origin(self, files: int) -> Origin:
        """The origin of the next ``files`` files."""
        if self._left <= 0:
            self._window = 1 - self._window
            self._left = WINDOW_FILES
            self._end(self._window)
        self._left -= files
        return Origin("file", association=self._association(self._window), may_reject=self._may_reject)

    def release(self) -> None:
        """Release all studies."""
        for window in (0, 1):
            self._end(window)

    def _association(self, window: int) -> str:
        return f"backfill-{self._name}-{window}"

    def _end(self, window: int) -> None:
        if self._store:
            self._store.association_ended(self._association(window))


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
