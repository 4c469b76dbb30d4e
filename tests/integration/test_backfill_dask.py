"""Backfill by the workers of a Dask cluster: a scheduler and workers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import dicom2fhir
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.errors import BridgeError
from dicom2fhir.jobs import backfill_readers
from dicom2fhir.jobs.backfill_worker import FileBatch
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, counts
from tests.command_line import run_here
from tests.daemon_process import ROOT, environment, run_command, wait_until
from tests.dask_cluster import Cluster, dask_cluster
from tests.fatal_files import ENDLESS, FATAL


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def backfill(archive: Archive, dask_workers: Cluster, status: int = 0) -> dict[str, Any]:
    done = run_command(*archive.command("--json", "--dask", dask_workers.address, archive.files))
    assert done.returncode == status, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def running(archive: Archive, dask_workers: Cluster) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dicom2fhir"]
    command += archive.command("--json", "--dask", dask_workers.address, archive.files)
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait_for_instances(archive: Archive, more_than: int = 0) -> None:
    with closing(SqliteStore.open_readonly(archive.state / "store.db")) as reader:
        wait_until(lambda: reader.stats().instances > more_than, 90, "the first instances are kept")


def test_the_same_is_imported_as_by_processes_of_this_machine(
    archive: Archive, dask_workers: Cluster, tmp_path: Path
) -> None:
    files = ct_files(archive.files, 600, studies=3)
    files[1].write_bytes(files[1].read_bytes()[:400])
    (archive.files / "notes.txt").write_text("Not DICOM at all, and longer than the preamble of a file." * 9)
    first = backfill(archive, dask_workers, status=1)
    here = Archive(tmp_path / "here")
    expected = here.backfill(archive.files, status=1)
    assert {**first, "store": "", "seconds": 0} == {**expected, "store": "", "seconds": 0}
    second = backfill(archive, dask_workers, status=1)
    assert counts(second) == {"files": 601, "done_before": 600, "failed": 1}


def test_a_killed_run_goes_on(archive: Archive, dask_workers: Cluster) -> None:
    ct_files(archive.files, 1500, studies=10)
    archive.store().close()
    with running(archive, dask_workers) as process:
        wait_for_instances(archive)
        process.kill()
    with closing(archive.store()) as store:
        done = store.stats().instances
    summary = counts(backfill(archive, dask_workers))
    assert (summary["done_before"], summary.get("new", 0)) == (done, 1500 - done)


def refused(archive: Archive, address: str) -> str:
    """What is said of a cluster that cannot be used."""
    ct_files(archive.files, 1)
    done = run_here(*archive.command("--dask", address, archive.files))
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_scheduler(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_readers, "_CONNECT_S", 0.2)
    assert "There is no Dask scheduler at tcp://127.0.0.1:9" in refused(archive, "tcp://127.0.0.1:9")


def test_no_workers(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_readers, "_WORKERS_S", 0.2)
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        assert f"has no workers; start some with: dask worker {address}" in refused(archive, address)


OTHERS = {
    "another version": (
        "import dicom2fhir; dicom2fhir.__version__ = '0.0.1'",
        f"import dicom2fhir; dicom2fhir.__version__ = {dicom2fhir.__version__!r}",
        "Dask workers have dicom2fhir 0.0.1 with Python",
    ),
    "another Python": (
        "from dicom2fhir.jobs import backfill_readers as m; m.python_version = lambda: '3.9.1'",
        "from dicom2fhir.jobs import backfill_readers as m; import platform as p; m.python_version = p.python_version",
        "with Python 3.9, and this machine has",
    ),
    "none": (
        "import sys; sys.modules['dicom2fhir.jobs.backfill_readers'] = None",
        "import sys; del sys.modules['dicom2fhir.jobs.backfill_readers']",
        "The Dask workers cannot load this version of dicom2fhir; install it for them, too",
    ),
}
"""What a worker may have: how to pretend that, how to end that, and what is said of it."""


@pytest.mark.parametrize(("begin", "end", "said"), OTHERS.values(), ids=list(OTHERS))
def test_one_worker_has_another_program(
    archive: Archive, dask_workers: Cluster, begin: str, end: str, said: str
) -> None:
    with Client(dask_workers.address, set_as_default=False) as client:
        one = next(iter(client.scheduler_info()["workers"]))
        client.run(exec, begin, workers=[one])
        try:
            assert said in refused(archive, dask_workers.address)
        finally:
            client.run(exec, end, workers=[one])


def test_a_missing_extra(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    ct_files(archive.files, 1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = run_here(*archive.command("--dask", "tcp://127.0.0.1:9", archive.files))
    assert done.status == 78, done.stderr
    assert "pip install 'dicom2fhir-bridge[dask]'" in done.stderr


def test_folders_are_imported_without_loading_dask() -> None:
    code = "import sys, dicom2fhir.cli.backfill, dicom2fhir.jobs.backfill; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_what_a_lost_worker_had_is_read_by_another(archive: Archive, dask_workers: Cluster) -> None:
    ct_files(archive.files, 2000, studies=10)
    archive.store().close()
    with running(archive, dask_workers) as process:
        wait_for_instances(archive)
        os.kill(dask_workers.workers[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
    assert counts(json.loads(out)) == {"files": 2000, "taken": 2000, "new": 2000, "studies": 10}
    with closing(archive.store()) as store:
        assert store.stats().instances == 2000


@pytest.mark.needs("dask")
@pytest.mark.parametrize("lost", ["connecting", "closed"])
def test_what_is_submitted_after_the_scheduler_ended_is_not_awaited_for_ever(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_readers, "_CONNECT_S", 1)
    monkeypatch.setattr(backfill_readers, "_LOOK_S", 0.05)
    with (
        dask_cluster(1) as dask_workers,
        pytest.raises(BridgeError, match="The Dask scheduler ended; run the same command again"),
        backfill_readers.dask_readers(dask_workers.address) as readers,
    ):
        client: Any = getattr(readers.executor, "_client")  # noqa: B009  (it is not public)
        assert readers.submit(os.getpid).result() == dask_workers.workers[0]
        os.kill(dask_workers.scheduler, signal.SIGKILL)
        wait_until(lambda: client.status == lost, 60, "the client has lost the scheduler")
        work = FileBatch([])
        readers.result(readers.submit(work.read, Budgets()))


@pytest.mark.needs("dask")
def test_a_run_goes_on_without_the_file_that_ends_workers_and_ends_with_the_scheduler(archive: Archive) -> None:
    """The next run imports the rest, once."""
    files = sorted(ct_files(archive.files, 3000, studies=20))
    fatal = files[1000].rename(files[1000].with_name(FATAL))
    late = sorted(archive.files.iterdir())[10:]
    later = archive.files.with_name("later")
    later.mkdir()
    for folder in late:
        folder.rename(later / folder.name)
    archive.store().close()
    with dask_cluster(1, failures=0) as fragile:
        first = backfill(archive, fragile, status=1)
        assert (first["new"], first["failed"]) == (1499, 1)
        (failure,) = first["failures"]
        assert failure["path"] == str(fatal)
        assert failure["reason"].startswith("Several Dask workers ended")

        fatal.rename(files[1000])
        for folder in late:
            (later / folder.name).rename(folder)
        files[-1].rename(files[-1].with_name(ENDLESS))
        with running(archive, fragile) as process:
            wait_for_instances(archive, first["new"])
            os.kill(fragile.scheduler, signal.SIGKILL)
            assert process.wait(100) == 1
    with closing(archive.store()) as store:
        done = store.stats().instances
    last = counts(archive.backfill(archive.files))
    assert (last["done_before"], last.get("new", 0)) == (done, 3000 - done)
    with closing(archive.store()) as store:
        assert (store.stats().instances, store.stats().studies) == (3000, 20)
