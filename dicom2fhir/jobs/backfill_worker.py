"""The work of a backfill: some hundred files, or an archive, whose headers one worker process reads."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from multiprocessing import parent_process
from typing import Protocol

from dicom2fhir.dicom.completeness import noted
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, NotDicom, attempt
from dicom2fhir.jobs.archives import Member, is_archive, members
from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_sources import Opening, opened, openings
from dicom2fhir.jobs.objects import FoundObject
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.receive.folder.files import Found
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.system.text import counted

_MOST_CONTENT_BYTES = 16 * 1024 * 1024
"""Of the reports and documents that are read of an archive at once; in memory they take ten times as much. The rest is
read afterwards, which decompresses a compressed tar archive again."""
_PARTS = 16
"""Into how many pieces files are divided to find the one that ends workers: each time, several workers are lost."""
_IMAGE_BYTES = 1024
"""Instances up to this size, such as images, do not count, because the number of files in an archive is limited."""


class Work(Protocol):
    """What one worker reads, and what the ledger records of it."""

    def read(self, budgets: Budgets) -> Chunk:
        """Read the headers, in a worker process."""

    def parts(self) -> Sequence[Work]:
        """The same in smaller pieces; none if it cannot be divided."""

    def unread(self, reason: str) -> Chunk:
        """The result if it cannot be read this time."""

    def path(self, chunk: Chunk, place: int) -> str:
        """What a file is called, by its index."""

    def marks(self, chunk: Chunk) -> list[FileMark]:
        """What the ledger records with a part of the results."""

    def last_marks(self, chunk: Chunk) -> list[FileMark]:
        """What it records when all results are stored."""

    def left(self, chunk: Chunk) -> Work | None:
        """What is to be read after these results were stored."""


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Some files, each with an entry of its own in the ledger."""

    files: Sequence[Found]

    def read(self, budgets: Budgets) -> Chunk:
        """See :meth:`Work.read`."""
        chunk = Chunk()
        reader = InstanceReader(budgets)
        for place, (file, opening) in enumerate(zip(self.files, openings(self.files), strict=True)):
            with _failures_kept(chunk, place):
                _keep(chunk, place, attempt(_read, file, opening, reader))
        return chunk

    def parts(self) -> Sequence[Work]:
        """See :meth:`Work.parts`."""
        size = ceil(len(self.files) / _PARTS)
        starts = range(0, len(self.files), size) if len(self.files) > 1 else ()
        return [FileBatch(self.files[start : start + size]) for start in starts]

    def unread(self, reason: str) -> Chunk:
        """See :meth:`Work.unread`."""
        return Chunk(unreadable=[(place, reason) for place in range(len(self.files))])

    def path(self, chunk: Chunk, place: int) -> str:
        """See :meth:`Work.path`."""
        return self.files[place].text

    def marks(self, chunk: Chunk) -> list[FileMark]:
        """See :meth:`Work.marks`."""
        outcomes = [(place, "taken", "") for place in chunk.taken]
        outcomes += [(place, "skipped", reason) for place, reason in chunk.skipped]
        outcomes += [(place, "rejected", reason) for place, _, reason in chunk.rejected]
        return [_mark(self.files[place], outcome, reason) for place, outcome, reason in outcomes]

    def last_marks(self, chunk: Chunk) -> list[FileMark]:
        """See :meth:`Work.last_marks`."""
        return []

    def left(self, chunk: Chunk) -> Work | None:
        """See :meth:`Work.left`."""
        return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of the files of an archive so far."""

    passed: int = 0
    taken: int = 0
    unreadable: int = 0
    problems: int = 0
    first_problem: str = ""

    def and_of(self, chunk: Chunk) -> _Outcome:
        """That of more of its files, too."""
        problem = self.first_problem
        if chunk.rejected and not problem:
            place, _, reason = chunk.rejected[0]
            problem = f"{chunk.names[place]}: {reason}" if chunk.names[place] else reason
        return _Outcome(
            self.passed + chunk.cut_after,
            self.taken + chunk.members - len(chunk.skipped),
            self.unreadable + len(chunk.unreadable),
            self.problems + len(chunk.rejected),
            problem,
        )


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive. It has one entry in the ledger, when all that was read of it is stored.

    If the run is killed before, the archive is read again, which changes nothing for the instances that are stored.

    Attributes
    ----------
    earlier
        What became of its first files, which were read before.
    """

    file: Found
    earlier: _Outcome = _Outcome()

    def read(self, budgets: Budgets) -> Chunk:
        """See :meth:`Work.read`."""
        chunk = Chunk()
        with _failures_kept(chunk, _next(chunk, "")):
            attempt(self._read_members, chunk, InstanceReader(budgets))
        return chunk

    def _read_members(self, chunk: Chunk, reader: InstanceReader) -> None:
        def tell(reason: str) -> None:
            if not self.earlier.passed:
                chunk.rejected.append((_next(chunk, ""), "cannot-understand", reason))

        content_bytes = 0
        with opened(self.file) as source:
            found = members(source, self.file.path, self.file.size_bytes, tell)
            for number, member in enumerate(islice(found, self.earlier.passed, None)):
                if content_bytes > _MOST_CONTENT_BYTES:
                    chunk.cut_after = number
                    return
                place = _next(chunk, member.name)
                with _failures_kept(chunk, place):
                    record = attempt(self._read_member, member, reader)
                    size_bytes = len(pickle.dumps(record.instance, pickle.HIGHEST_PROTOCOL))
                    content_bytes += size_bytes if size_bytes > _IMAGE_BYTES else 0
                    _keep(chunk, place, record)

    def _read_member(self, member: Member, reader: InstanceReader) -> InstanceRecord:
        with member.open() as source:
            header = reader.read_file(source)
        return reader.decode(header.received(Origin("file", path=_inside(self.file, member.name))))

    def parts(self) -> Sequence[Work]:
        """See :meth:`Work.parts`."""
        return ()

    def unread(self, reason: str) -> Chunk:
        """See :meth:`Work.unread`."""
        return Chunk(unreadable=[(0, reason)], names=[""])

    def path(self, chunk: Chunk, place: int) -> str:
        """See :meth:`Work.path`."""
        return _inside(self.file, chunk.names[place])

    def marks(self, chunk: Chunk) -> list[FileMark]:
        """See :meth:`Work.marks`."""
        return []

    def last_marks(self, chunk: Chunk) -> list[FileMark]:
        """See :meth:`Work.last_marks`."""
        all_of_it = self.earlier.and_of(chunk)
        if chunk.cut_after or all_of_it.unreadable:
            return []
        if all_of_it.problems:
            more = f"{counted(all_of_it.problems, 'problem')}, the first: " if all_of_it.problems > 1 else ""
            return [_mark(self.file, "rejected", more + all_of_it.first_problem)]
        return [_mark(self.file, "taken" if all_of_it.taken else "skipped", "")]

    def left(self, chunk: Chunk) -> Work | None:
        """See :meth:`Work.left`."""
        has_failed = any(not chunk.names[place] for place, _ in chunk.unreadable)
        return replace(self, earlier=self.earlier.and_of(chunk)) if chunk.cut_after and not has_failed else None


def work_of(files: Sequence[Found]) -> Iterator[Work]:
    """Divide files into work, in their order: an archive by itself, the others together."""
    batch: list[Found] = []
    for file in files:
        if not is_archive(file.path):
            batch.append(file)
            continue
        if batch:
            yield FileBatch(batch)
            batch = []
        yield ArchiveFile(file)
    if batch:
        yield FileBatch(batch)


def _next(chunk: Chunk, name: str) -> int:
    chunk.names.append(name)
    return len(chunk.names) - 1


def _inside(file: Found, name: str) -> str:
    return f"{file.text}!/{name}" if name else file.text


def _mark(file: Found, outcome: str, reason: str) -> FileMark:
    return FileMark(file.text, file.size_bytes, file.mtime_ns, outcome, reason)


@contextmanager
def _failures_kept(chunk: Chunk, place: int) -> Iterator[None]:
    """Keep the reason why a file was not read, by what can be expected of it next time."""
    try:
        yield
    except NotDicom as error:
        chunk.skipped.append((place, str(error)))
    except BridgeError as error:
        chunk.rejected.append((place, error.kind, str(error)))
    except OSError as error:
        chunk.unreadable.append((place, error.strerror or str(error)))
    except MemoryError:
        chunk.unreadable.append((place, "Not enough memory to read the file"))


def _keep(chunk: Chunk, place: int, record: InstanceRecord) -> None:
    chunk.taken.append(place)
    chunk.plain.append(
        (
            record.study_uid,
            record.series_uid,
            record.sop_uid,
            record.patient,
            record.study,
            record.series,
            record.instance,
            record.notes,
        )
    )


def _read(file: Found, opening: Opening, reader: InstanceReader) -> InstanceRecord:
    with opening() as source:
        header = reader.read_file(source)
        # what follows the header of an object would cost another request
        notes = () if isinstance(file, FoundObject) else noted(source, header.rest, file.size_bytes)
    return reader.decode(header.received(Origin("file", path=file.text), notes))


def end_with_parent() -> None:
    """Prepare a worker: its parent handles Ctrl-C, and it ends when its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
