"""Zip and tar archives below the paths of a backfill."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.jobs import backfill, backfill_keeping, backfill_worker
from dicom2fhir.jobs.backfill import Backfill
from dicom2fhir.jobs.backfill_chunk import Chunk
from dicom2fhir.jobs.backfill_keeping import read_work
from dicom2fhir.jobs.backfill_readers import Readers
from dicom2fhir.jobs.backfill_worker import Work
from dicom2fhir.model import Origin
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, counts, pack


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def instances(store: SqliteStore) -> set[str]:
    uids = [status.study_uid for status in store.studies(limit=1000)]
    studies = [store.study(uid) for uid in uids]
    return {one.uid for study in studies if study for series in study.series for one in series.instances}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_the_files_in_archives_are_imported_like_others(archive: Archive, tmp_path: Path, suffix: str) -> None:
    files = ct_files(archive.files, 12, studies=3)
    packed = pack(files[:4], archive.files / "deep" / f"one{suffix}")
    pack(files[4:9], archive.files / f"TWO{suffix}".upper())
    first = archive.backfill()
    assert counts(first) == {"files": 5, "archives": 2, "members": 9, "taken": 12, "new": 12, "studies": 3}
    ct_files(tmp_path / "unpacked", 12, studies=3)
    plain = Archive(tmp_path / "plain")
    plain.backfill(tmp_path / "unpacked")
    with closing(archive.store()) as store, closing(plain.store()) as expected:
        assert instances(store) == instances(expected)

    assert counts(archive.backfill()) == {"files": 5, "done_before": 5}
    assert counts(archive.backfill("--again", packed)) == {
        "files": 1,
        "archives": 1,
        "members": 4,
        "taken": 4,
        "unchanged": 4,
        "studies": 1,
    }
    assert not list(archive.files.parent.rglob("../*.dcm")), "nothing was extracted"


def test_archives_are_ignored_on_request_and_read_later(archive: Archive) -> None:
    pack(ct_files(archive.files, 4)[:3], archive.files / "x.zip")
    assert counts(archive.backfill("--no-archives", archive.files)) == {"files": 1, "taken": 1, "new": 1, "studies": 1}
    assert counts(archive.backfill())["new"] == 3


def test_failures_name_the_file_in_its_archive_and_are_known_next_time(archive: Archive) -> None:
    files = ct_files(archive.files, 5)
    files[1].write_bytes(files[1].read_bytes()[:400])
    files[2].write_bytes(b"Not DICOM at all, and longer than the preamble of a file." * 9)
    packed = pack(files, archive.files / "x.zip")
    first = archive.backfill(status=1)
    told = {"files": 1, "archives": 1, "members": 5, "taken": 3, "new": 3, "skipped": 1, "failed": 1, "studies": 1}
    assert counts(first) == told
    assert [one["path"] for one in first["failures"]] == [f"{packed}!/../../{files[1].name}"]
    with closing(archive.store()) as store:
        assert [one.origin.path for one in store.rejections()] == [first["failures"][0]["path"]]

    second = archive.backfill(status=1)
    assert counts(second) == {"files": 1, "failed": 1}
    assert second["failures"] == [
        {"path": str(packed), "reason": f"../../{files[1].name}: {first['failures'][0]['reason']}"}
    ]
    with closing(archive.store()) as store:
        assert len(store.rejections()) == 1


def test_what_came_before_the_damage_is_imported(archive: Archive) -> None:
    packed = pack(ct_files(archive.files, 5), archive.files / "x.tar")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    first = archive.backfill(status=1)
    assert 0 < first["taken"] < 5
    assert first["members"] == first["taken"] + 1, "one is cut"
    assert first["failed"] == 2
    assert first["failures"][-1]["path"] == str(packed)
    assert "damaged" in first["failures"][-1]["reason"]
    assert counts(archive.backfill(status=1)) == {"files": 1, "failed": 1}


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """Headers are read in this process; what is read."""
    results: list[Chunk] = []

    @contextmanager
    def readers(workers: int) -> Iterator[Readers]:
        with ThreadPoolExecutor(workers) as pool:
            yield Readers(pool, workers)

    def read(work: Work, budgets: Budgets, attach: None, origin: Origin) -> Chunk:
        result = read_work(work, budgets, attach, origin)
        assert isinstance(result, Chunk)
        results.append(result)
        return result

    monkeypatch.setattr(backfill, "local_readers", readers)
    monkeypatch.setattr(backfill, "read_work", read)
    return results


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_an_archive_of_much_content_is_read_in_parts(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_threads: list[Chunk], suffix: str
) -> None:
    """With the same end as when it is read at once, and never more content in memory than that of one instance more."""
    files = ct_files(archive.files, 12, studies=3)
    files[1].write_bytes(files[1].read_bytes()[:400])
    files[2].write_bytes(b"Not DICOM at all, and longer than the preamble of a file." * 9)
    files[-1].write_bytes(files[-1].read_bytes()[:400])
    pack(files, archive.files / f"x{suffix}")
    expected = [archive.backfill(status=1) for _ in range(2)]
    (whole,) = in_threads
    most = 3 * len(pickle.dumps(whole.plain[0][-2], pickle.HIGHEST_PROTOCOL))
    monkeypatch.setattr(backfill_worker, "_IMAGE_BYTES", 0)
    monkeypatch.setattr(backfill_worker, "_MOST_CONTENT_BYTES", most)
    parts = Archive(tmp_path / "parts")
    found = [parts.backfill(archive.files, status=1) for _ in range(2)]
    for one, other in zip(found, expected, strict=True):
        assert {**one, "store": "", "seconds": 0} == {**other, "store": "", "seconds": 0}
    assert [len(chunk.taken) for chunk in in_threads[1:]] == [4, 4, 1]
    with closing(archive.store()) as store, closing(parts.store()) as other_store:
        assert instances(store) == instances(other_store)


def test_an_instance_that_the_store_rejects_fails_alone(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_keeping, "TRANSACTION_FILES", 2)
    files = ct_files(archive.files, 5)
    refused = str(pydicom.dcmread(files[2]).SOPInstanceUID)
    packed = pack(files, archive.files / "x.zip")
    with closing(archive.store()) as store:
        add_many = store.add_many

        def refuse_one(records, *rest):  # type: ignore[no-untyped-def]
            if any(record.sop_uid == refused for record in records):
                raise ValueError("not this one")
            return add_many(records, *rest)

        monkeypatch.setattr(store, "add_many", refuse_one)
        summary = Backfill(store, workers=1).run([archive.files])
        assert (summary.taken, summary.new, summary.failed) == (4, 4, 1)
        mark = store.file_marks([str(packed)])[str(packed)]
        assert mark.outcome == "rejected" and "ValueError" in mark.reason
        assert store.stats().instances == 4


def test_a_run_that_was_killed_within_an_archive_goes_on_and_stores_nothing_twice(archive: Archive) -> None:
    files = ct_files(archive.files, 3000, studies=10)
    files[2990].write_bytes(files[2990].read_bytes()[:400])
    packed = pack(files, archive.files / "x.tar")
    archive.kill("--json", archive.files, within_s=60)
    with closing(archive.store()) as store:  # not the reader, which may not see the last transaction before the kill
        done = store.stats().instances
        assert not store.file_marks([str(packed)]) or done == 2999
    summary = counts(archive.backfill(status=1))
    with closing(archive.store()) as store:
        assert store.stats().instances == 2999
        assert len(store.rejections()) == 1
    assert summary.get("new", 0) + done == 2999
