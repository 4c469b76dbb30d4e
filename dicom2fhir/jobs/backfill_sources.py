"""Where a backfill finds files: folders and object stores, each with archives in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

from dicom2fhir.jobs.archives import is_archive
from dicom2fhir.jobs.objects import SCHEME, FoundObject, list_objects, open_ahead, open_object
from dicom2fhir.receive.folder.files import Found, found, open_file, walk

Opening = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Sources:
    """Which files are imported.

    Attributes
    ----------
    roots
        Files and folders by their real paths, and ``s3://bucket/prefix``.
    since_ns
        The earliest time of modification, in nanoseconds since the epoch.
    archives
        Whether archives are imported.
    s3_endpoint
        URL of the object store; None: as the AWS tools find it.
    """

    roots: Sequence[str]
    since_ns: int | None = None
    archives: bool = True
    s3_endpoint: str | None = None

    def files(self, on_error: Callable[[str, OSError], None]) -> Iterator[Found]:
        """The files in order: those of a folder or bucket by name."""
        for root in self.roots:
            if is_url(root):
                found_below = list_objects(root, self.s3_endpoint, on_error)
            else:
                found_below = walk([root], in_order=True, on_error=on_error)
            takes_all = self.since_ns is None and self.archives
            yield from found_below if takes_all else filter(self._is_wanted, found_below)

    def _is_wanted(self, file: Found) -> bool:
        is_new = self.since_ns is None or file.mtime_ns >= self.since_ns
        return is_new and (self.archives or not is_archive(file.path))


def is_url(path: str | Path) -> bool:
    """Whether a source is an object store."""
    return str(path).startswith(SCHEME)


def real_roots(paths: Iterable[str | Path]) -> list[str]:
    """The sources by the names that the ledger knows."""
    return [str(path) if is_url(path) else os.path.realpath(path) for path in paths]


def count_files(sources: Sources) -> int:
    """The number of files, for the estimate of the remaining time; runs in a worker process."""
    return sum(1 for _ in sources.files(lambda _path, _error: None))


@contextmanager
def opened(file: Found) -> Iterator[BinaryIO]:
    """Open a file that was found.

    Raises
    ------
    OSError
        It cannot be opened or read, or has changed (``EAGAIN``).
    """
    if isinstance(file, FoundObject):
        with open_object(file) as source:
            yield source
        return
    with open_file(file.path) as source:
        yield source
        if found(file.path, os.fstat(source.fileno())) != file:
            raise OSError(errno.EAGAIN, "The file changed while it was read")


def openings(files: Iterable[Found]) -> Iterator[Opening]:
    """For each file what opens it. Objects are requested together before the first of them is read."""
    for are_objects, some in groupby(files, lambda file: isinstance(file, FoundObject)):
        if are_objects:
            yield from open_ahead(cast("list[FoundObject]", list(some)))
        else:
            yield from (partial(opened, file) for file in some)
