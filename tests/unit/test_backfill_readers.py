"""What is imported where each worker that reads a certain file ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.errors import BridgeError
from dicom2fhir.jobs import backfill
from dicom2fhir.jobs.backfill_readers import Readers
from dicom2fhir.jobs.backfill_worker import ArchiveFile, FileBatch, Work
from dicom2fhir.receive.folder.files import Found

FILES = [Found(f"/in/{name}", 1, 2, 3) for name in ("a.dcm", "b.dcm", "c.zip")]
FATAL = ("b/fatal.dcm", "c/fatal.zip", "c/0255.dcm")


class Killed(Exception):
    """As a cluster tells it."""


class FragileWorkers(Executor):
    """Give up each task with one of :data:`FATAL`; count these tasks."""

    def __init__(self) -> None:
        self.ended = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        """See :meth:`concurrent.futures.Executor.submit`."""
        future: Future[Any] = Future()
        work = arguments[0]
        files = work.files if isinstance(work, FileBatch) else [work.file] if isinstance(work, ArchiveFile) else []
        if any(file.path.endswith(FATAL) for file in files):
            self.ended += 1
            future.set_exception(Killed())
        else:
            future.set_result(function(*arguments))
        return future


def test_only_the_files_that_end_workers_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for number in range(256):
            (tmp_path / name / f"{number:04}.dcm").touch()
    for name in FATAL:
        (tmp_path / name).touch()
    workers = FragileWorkers()

    @contextmanager
    def fragile(_: int) -> Iterator[Readers]:
        yield Readers(workers, 1, gave_up=(Killed,))

    monkeypatch.setattr(backfill, "local_readers", fragile)
    summary = backfill.Backfill(None, workers=1, dry_run=True).run([tmp_path])
    assert summary.files == 770
    assert (summary.skipped, summary.failed) == (767, 3)
    assert {path for path, _ in summary.failures} == {str(tmp_path / name) for name in FATAL}
    assert all("Several Dask workers ended" in reason for _, reason in summary.failures)
    assert workers.ended <= 3 * 3, "each is found among 256 files by three tasks"


@pytest.mark.parametrize(
    ("work", "names"), [(FileBatch(FILES[:2]), ["/in/a.dcm", "/in/b.dcm"]), (ArchiveFile(FILES[2]), ["/in/c.zip"])]
)
def test_each_file_that_was_not_read_is_told_and_none_is_recorded_as_done(work: Work, names: list[str]) -> None:
    chunk = work.unread("lost")
    assert [(work.path(chunk, place), reason) for place, reason in chunk.unreadable] == [
        (name, "lost") for name in names
    ]
    assert work.marks(chunk) + work.last_marks(chunk) == []


def test_a_failure_that_is_not_given_up_is_raised() -> None:
    future: Future[None] = Future()
    future.set_exception(Killed())
    with pytest.raises(Killed):
        Readers(Executor(), 1).result(future)


def test_a_worker_that_joins_with_another_version_ends_the_run() -> None:
    with ThreadPoolExecutor(1) as pool:
        readers = Readers(pool, 1, version="0.1.0 with Python 3.11")
        with pytest.raises(
            BridgeError, match=r"Dask workers have dicom2fhir .*, and this machine has 0\.1\.0 with Python"
        ):
            readers.result(readers.submit(len, "work"))
