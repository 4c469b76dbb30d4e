"""The workers of a Dask cluster write what they read into the database themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Never

import pytest

from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.jobs.backfill import Backfill
from dicom2fhir.jobs.backfill_summary import Summary
from dicom2fhir.store.postgres.store import PostgresStore
from dicom2fhir.wiring.store_options import StoreAddress
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, pack
from tests.daemon_process import ROOT, environment, wait_until
from tests.dask_cluster import Cluster
from tests.postgres_cluster import Cluster as Database
from tests.postgres_cluster import cluster as database
from tests.store_contract.bench import claimed

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture
def address(tmp_path: Path) -> StoreAddress:
    return StoreAddress(tmp_path, database().new_database())


@pytest.fixture
def daemon(address: StoreAddress) -> Iterator[PostgresStore]:
    """The store as a daemon has it."""
    with closing(PostgresStore(address.url, quiet_period_s=0)) as store:
        store.set_destinations(["main"])
        yield store


def backfill(address: StoreAddress, dask_workers: Cluster, paths: list[Path], **options: Any) -> Summary:
    attach = partial(address.attach, reader=fingerprint(), quiet_period_s=0)
    with closing(attach()) as store:
        return Backfill(store, workers=1, dask=dask_workers.address, attach=attach, **options).run(paths)


def command(folder: Path, url: str, dask_workers: Cluster, files: Path) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    config = folder / "config.toml"
    config.write_text(f'[store]\nurl = "{url}"\nquiet_period_s = 0\n')
    arguments = ["backfill", str(files), "--config", str(config), "--json", "--dask", dask_workers.address]
    return subprocess.Popen(
        [sys.executable, "-m", "dicom2fhir", *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_same_is_imported_as_through_one_writer(
    address: StoreAddress, daemon: PostgresStore, dask_workers: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Archive(tmp_path / "here")
    files = ct_files(here.files, 700, studies=3)
    files[1].write_bytes(files[1].read_bytes()[:400])
    (here.files / "notes.txt").write_text("Not DICOM at all, and longer than the preamble of a file." * 9)
    pack(files[300:], here.files / "x.tar")
    early = []

    def look(_summary: Summary, _total: int | None) -> None:
        early.append(claimed(daemon, "main", "early", 60))

    def write(*_arguments: object) -> Never:
        raise AssertionError("the process that runs the backfill wrote")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresStore, "add_many", write)
        first = backfill(address, dask_workers, [here.files], on_progress=look)
    assert set(early) == {None}, "no study is due before its files are in"
    second = backfill(address, dask_workers, [here.files])
    for done in (first, second):
        assert {**done.as_json(), "store": "", "seconds": 0} == {**here.backfill(status=1), "store": "", "seconds": 0}
    claims = [claimed(daemon, "main", str(n), 60) for n in range(4)]
    assert len({claim.study_uid for claim in claims if claim}) == 3


def test_what_a_lost_worker_had_is_written_by_another(
    address: StoreAddress, daemon: PostgresStore, dask_workers: Cluster, tmp_path: Path
) -> None:
    ct_files(tmp_path / "files", 2000, studies=10)
    with command(tmp_path, address.url, dask_workers, tmp_path / "files") as process:
        wait_until(lambda: daemon.stats().instances, 90, "the first instances are kept")
        os.kill(dask_workers.workers[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    assert (daemon.stats().instances, daemon.stats().studies) == (2000, 10)
    summary = backfill(address, dask_workers, [tmp_path / "files"])
    assert summary.done_before == 2000


def wait_for_what_still_runs(dask_workers: Cluster) -> None:
    """A worker may still write its last batch of a run that has ended; with one thread, it does this one then."""
    from distributed import Client

    with Client(dask_workers.address, set_as_default=False) as client:
        for worker in client.scheduler_info()["workers"]:
            client.submit(os.getpid, workers=[worker], pure=False).result(60)


def test_a_database_that_goes_away_ends_the_run_and_the_next_one_goes_on(dask_workers: Cluster, tmp_path: Path) -> None:
    own = Database()
    try:
        address = StoreAddress(tmp_path, own.new_database())
        ct_files(tmp_path / "files", 2000, studies=10)
        with (
            closing(address.open_readonly()) as reader,
            command(tmp_path, address.url, dask_workers, tmp_path / "files") as process,
        ):
            wait_until(lambda: reader.stats().instances, 90, "the first instances are kept")
            own.stop()
            _, errors = process.communicate(timeout=100)
        assert process.returncode == 74, errors.decode()
        assert "Traceback" not in errors.decode()
        own.start()
        wait_for_what_still_runs(dask_workers)
        with closing(address.open_readonly()) as reader:
            done = reader.stats().instances
        summary = backfill(address, dask_workers, [tmp_path / "files"])
        assert (summary.done_before, summary.new) == (done, 2000 - done)
        with closing(address.open_readonly()) as reader:
            assert reader.stats().instances == 2000
    finally:
        own.remove()
