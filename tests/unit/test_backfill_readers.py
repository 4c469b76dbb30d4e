"""What was read, where each worker that read it ended."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import pytest

from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_readers import Readers
from dicom2fhir.jobs.backfill_worker import ArchiveFile, FileBatch, Work
from dicom2fhir.receive.folder.files import Found

FILES = [Found(f"/in/{name}", 1, 2, 3) for name in ("a.dcm", "b.dcm", "c.zip")]


class Killed(Exception):
    """As a cluster tells it."""


@pytest.mark.parametrize(
    ("work", "names"), [(FileBatch(FILES[:2]), ["/in/a.dcm", "/in/b.dcm"]), (ArchiveFile(FILES[2]), ["/in/c.zip"])]
)
def test_each_file_is_told_and_none_is_recorded_as_done(work: Work, names: list[str]) -> None:
    future: Future[Chunk] = Future()
    future.set_exception(Killed())
    chunk = Readers(Executor(), 1, gave_up=(Killed,)).result(future, work)
    assert [work.path(chunk, place) for place, _ in chunk.unreadable] == names
    assert all("Several Dask workers ended" in reason for _, reason in chunk.unreadable)
    assert work.marks(chunk) + work.last_marks(chunk) == []
    with pytest.raises(Killed):
        Readers(Executor(), 1).result(future, work)
