"""Backfill by the workers of a Dask cluster: a scheduler and workers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, counts
from tests.command_line import run_here
from tests.daemon_process import ROOT, environment, run_command, wait_until
from tests.dask_cluster import Cluster, dask_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with dask_cluster(2) as running:
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def backfill(archive: Archive, cluster: Cluster, status: int = 0) -> dict[str, Any]:
    done = run_command(*archive.command("--json", "--dask", cluster.address, archive.files))
    assert done.returncode == status, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def running(archive: Archive, cluster: Cluster) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dicom2fhir"]
    command += archive.command("--json", "--dask", cluster.address, archive.files)
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait_for_instances(archive: Archive) -> None:
    with closing(SqliteStore.open_readonly(archive.state / "store.db")) as reader:
        wait_until(lambda: reader.stats().instances, 90, "the first instances are kept")


def test_the_same_is_imported_as_by_processes_of_this_machine(
    archive: Archive, cluster: Cluster, tmp_path: Path
) -> None:
    files = ct_files(archive.files, 600, studies=3)
    files[1].write_bytes(files[1].read_bytes()[:400])
    (archive.files / "notes.txt").write_text("Not DICOM at all, and longer than the preamble of a file." * 9)
    first = backfill(archive, cluster, status=1)
    here = Archive(tmp_path / "here")
    expected = here.backfill(archive.files, status=1)
    assert {**first, "store": "", "seconds": 0} == {**expected, "store": "", "seconds": 0}
    second = backfill(archive, cluster, status=1)
    assert counts(second) == {"files": 601, "done_before": 600, "failed": 1}


def test_a_killed_run_goes_on(archive: Archive, cluster: Cluster) -> None:
    ct_files(archive.files, 1500, studies=10)
    archive.store().close()
    with running(archive, cluster) as process:
        wait_for_instances(archive)
        process.kill()
    with closing(archive.store()) as store:
        done = store.stats().instances
    summary = counts(backfill(archive, cluster))
    assert (summary["done_before"], summary.get("new", 0)) == (done, 1500 - done)


def test_no_scheduler(archive: Archive) -> None:
    ct_files(archive.files, 1)
    done = run_command(*archive.command("--dask", "tcp://127.0.0.1:9", archive.files))
    assert done.returncode == 1
    assert b"There is no Dask scheduler at tcp://127.0.0.1:9" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_missing_extra(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    ct_files(archive.files, 1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = run_here(*archive.command("--dask", "tcp://127.0.0.1:9", archive.files))
    assert done.status == 78, done.stderr
    assert "pip install 'dicom2fhir-bridge[dask]'" in done.stderr


def test_folders_are_imported_without_loading_dask() -> None:
    code = "import sys, dicom2fhir.cli.backfill, dicom2fhir.jobs.backfill; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_what_a_lost_worker_had_is_read_by_another(archive: Archive, cluster: Cluster) -> None:
    ct_files(archive.files, 2000, studies=10)
    archive.store().close()
    with running(archive, cluster) as process:
        wait_for_instances(archive)
        os.kill(cluster.workers[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
    assert counts(json.loads(out)) == {"files": 2000, "taken": 2000, "new": 2000, "studies": 10}
    with closing(archive.store()) as store:
        assert store.stats().instances == 2000
