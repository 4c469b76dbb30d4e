"""The worker processes of a backfill: read the headers of some hundred files at a time."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import parent_process
from typing import Any

from dicom2fhir.dicom.completeness import noted
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, NotDicom, attempt
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.receive.folder.files import Found, found, open_file, walk

Plain = tuple[Any, ...]
"""The fields of an :class:`InstanceRecord`: pickled ten times as fast, and shared mappings only once."""


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

    def apart(self) -> Iterator[Chunk]:
        """Each record by itself, with the index of its file; then the others."""
        for place, plain in zip(self.taken, self.plain, strict=True):
            yield Chunk(plain=[plain], taken=[place])
        yield Chunk(skipped=self.skipped, rejected=self.rejected, unreadable=self.unreadable)


def read_chunk(files: Sequence[Found], budgets: Budgets) -> Chunk:
    """Read headers, in a worker process."""
    chunk = Chunk()
    reader = InstanceReader(budgets)
    for place, file in enumerate(files):
        try:
            record = attempt(_read, file, reader)
        except NotDicom as error:
            chunk.skipped.append((place, str(error)))
        except BridgeError as error:
            chunk.rejected.append((place, error.kind, str(error)))
        except OSError as error:
            chunk.unreadable.append((place, error.strerror or str(error)))
        except MemoryError:
            chunk.unreadable.append((place, "Not enough memory to read the file"))
        else:
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
    return chunk


def _read(file: Found, reader: InstanceReader) -> InstanceRecord:
    with open_file(file.path) as source:
        header = reader.read_file(source)
        notes = noted(source, header.rest, file.size_bytes)
        if found(file.path, os.fstat(source.fileno())) != file:
            raise OSError(errno.EAGAIN, "The file changed while it was read")
    return reader.decode(header.received(origin_of(file), notes))


def origin_of(file: Found) -> Origin:
    """The origin of an instance from a file."""
    return Origin("file", path=file.text)


def count_files(paths: Sequence[str]) -> int:
    """The number of files, for the estimate of the remaining time; runs in a worker process."""
    return sum(1 for _ in walk(paths, on_error=lambda _path, _error: None))


def end_with_parent() -> None:
    """Prepare a worker: its parent handles Ctrl-C, and it ends when its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
