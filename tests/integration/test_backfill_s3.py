"""Backfill from an S3 store: moto in a process of its own, which counts requests and makes faults."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.jobs import objects
from dicom2fhir.jobs.backfill_keeping import TRANSACTION_FILES
from dicom2fhir.jobs.objects import FoundObject, open_object
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, counts
from tests.command_line import run_here
from tests.daemon_process import ROOT
from tests.s3_server import BUCKET, ENVIRONMENT, S3Server, s3_server


@pytest.fixture(scope="module")
def s3_process() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, empty and without faults, as the environment names it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_process.url, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    objects._made_client.cache_clear()
    s3_process.reset()
    return s3_process


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def upload(s3: S3Server, files: list[Path], prefix: str = "ct/") -> list[str]:
    keys = [f"{prefix}{path.parent.name}/{path.name}" for path in files]
    for key, path in zip(keys, files, strict=True):
        s3.put(key, path.read_bytes())
    return keys


def url(key: str = "") -> str:
    return f"s3://{BUCKET}/{key}"


def test_headers_are_imported_with_one_request_each(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    files = ct_files(tmp_path / "made", 30, studies=3, side=400)
    keys = upload(s3, files)
    upload(s3, files[:1], "ctx/")
    s3.put("ct/folder/", b"")
    s3.put("ct/notes with ü & +.txt", b"Not DICOM at all, and longer than the preamble of a file." * 9)
    s3.set()
    first = archive.backfill(url("ct/"))
    assert counts(first) == {"files": 31, "taken": 30, "new": 30, "skipped": 1, "studies": 3}
    cost = s3.counts()
    assert (cost["gets"], cost["lists"]) == (31, 1)
    assert cost["bytes"] < 31 * 65_536 < sum(file.stat().st_size for file in files)
    with closing(archive.store()) as store:
        assert store.stats().instances == 30
        assert len(store.file_marks([url(key) for key in keys])) == 30

    s3.set()
    assert counts(archive.backfill(url("ct/"))) == {"files": 31, "done_before": 31}
    assert s3.counts() == {"lists": 1}
    s3.put(keys[0], files[0].read_bytes() + bytes(2))
    assert counts(archive.backfill(url("ct/")))["taken"] == 1


def test_a_long_header_takes_more_ranges(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    made = pydicom.dcmread(ct_files(tmp_path / "made", 1)[0])
    made.add_new((0x0009, 0x0010), "LO", "BRIDGE")
    made.add_new((0x0009, 0x1001), "OB", bytes(300_000))
    content = io.BytesIO()
    made.save_as(content)
    s3.put("long.dcm", content.getvalue())
    s3.set()
    assert counts(archive.backfill(url()))["taken"] == 1
    assert 3 <= s3.counts()["gets"] <= 4


def test_archives_in_a_bucket(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    files = ct_files(tmp_path / "made", 6)
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as into:
        for file in files[:3]:
            into.write(file, file.name)
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        for file in files[3:]:
            tar.add(file, file.name)
    s3.put("a.zip", zipped.getvalue())
    s3.put("b.tar.gz", tarred.getvalue())
    told = {"files": 2, "archives": 2, "members": 6, "taken": 6, "new": 6, "studies": 1}
    assert counts(archive.backfill(url())) == told
    assert counts(archive.backfill(url())) == {"files": 2, "done_before": 2}


# Errors


def test_a_bucket_that_is_not_there_or_may_not_be_listed(archive: Archive, s3: S3Server) -> None:
    missing = archive.backfill("s3://nowhere-at-all", status=1)
    assert missing["failures"][0]["path"] == "s3://nowhere-at-all"
    assert "NoSuchBucket" in missing["failures"][0]["reason"] and "check the bucket" in missing["failures"][0]["reason"]
    s3.set(deny_list=9)
    assert "s3:ListBucket" in archive.backfill(url(), status=1)["failures"][0]["reason"]


def test_without_credentials(archive: Archive, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    reason = archive.backfill(url(), status=1)["failures"][0]["reason"]
    assert "set AWS_PROFILE" in reason


def test_nobody_at_the_endpoint(archive: Archive, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_ATTEMPTS", 1)
    summary = archive.backfill("--s3-endpoint", "http://127.0.0.1:9", url(), status=1)
    assert "check --s3-endpoint" in summary["failures"][0]["reason"]


def test_throttling_and_a_body_that_ends_too_early_are_retried(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    upload(s3, ct_files(tmp_path / "made", 8))
    s3.set(slow_down=2, cut=2)
    assert counts(archive.backfill(url())) == {"files": 8, "taken": 8, "new": 8, "studies": 1}
    assert s3.counts()["gets"] >= 10


def test_what_cannot_be_read_now_is_tried_again(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    keys = upload(s3, ct_files(tmp_path / "made", 1))
    s3.set(deny=1)
    denied = archive.backfill(url(), status=1)
    assert denied["failures"][0]["path"] == url(keys[0])
    assert "s3:GetObject" in denied["failures"][0]["reason"]
    s3.set(cut=100)
    assert archive.backfill(url(), status=1)["failed"] == 1
    s3.set()
    assert counts(archive.backfill(url())) == {"files": 1, "taken": 1, "new": 1, "studies": 1}


def test_the_threads_of_a_worker_share_a_client(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("x", b"content")
    files = [FoundObject(url("x"), 7, 0, 0, s3.client.head_object(Bucket=BUCKET, Key="x")["ETag"], None)] * 16
    made: list[Any] = []
    create = Session.create_client

    def create_client(*arguments: Any, **more: Any) -> Any:
        made.append(create(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(Session, "create_client", create_client)
    for opening in objects.open_ahead(files):
        assert opening().read() == b"content"
    assert len(made) == 1


def test_an_object_that_changed_since_it_was_listed(s3: S3Server) -> None:
    s3.put("x", b"new")
    for etag, key in (('"0123"', "x"), ('"0123"', "gone")):
        with pytest.raises(OSError, match="changed or was deleted"):
            open_object(FoundObject(url(key), 3, 0, 0, etag, None))


def test_a_killed_run_goes_on_without_requesting_again(archive: Archive, s3: S3Server, tmp_path: Path) -> None:
    """It is killed while it waits for the objects of the second transaction."""
    upload(s3, ct_files(tmp_path / "made", TRANSACTION_FILES + 20, studies=4))
    s3.set(most_gets=TRANSACTION_FILES)
    archive.kill(url(), within_s=90, workers=1)
    s3.set()
    summary = counts(archive.backfill(url()))
    assert (summary["done_before"], summary.get("new", 0)) == (TRANSACTION_FILES, 20)
    assert s3.counts()["gets"] == 20
    with closing(archive.store()) as store:
        assert (store.stats().instances, store.stats().studies) == (TRANSACTION_FILES + 20, 4)


def test_wrong_usage_and_a_missing_extra(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_here(*archive.command("s3:///key"))
    assert done.status == 2 and "names no bucket" in done.stderr
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    done = run_here(*archive.command(url()))
    assert done.status == 78, done.stderr
    assert "pip install 'dicom2fhir-bridge[s3]'" in done.stderr


def test_folders_are_imported_without_loading_the_client() -> None:
    code = "import sys, dicom2fhir.cli.backfill, dicom2fhir.jobs.backfill; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@given(st.integers(0, 300_000), st.lists(st.tuples(st.integers(0, 300_000), st.integers(-1, 200_000)), max_size=8))
def test_an_object_reads_like_a_file(size: int, reads: list[tuple[int, int]]) -> None:
    content = random.Random(size).randbytes(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_get", lambda _file, begin, end: content[begin:end])
        ours, theirs = open_object(FoundObject(url("x"), size, 0, 0, "", None)), io.BytesIO(content)
        for position, length in reads:
            if position % 2:
                assert ours.seek(position) == theirs.seek(position)
            assert ours.read(length) == theirs.read(length)
            assert ours.tell() == theirs.tell()
