"""A Dask cluster for tests in processes of its own (``python -m tests.dask_cluster WORKERS FAILURES``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.daemon_process import ROOT, environment


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: the address and process id of its scheduler, and those of the workers that it began with."""

    address: str
    scheduler: int
    workers: list[int]


@contextmanager
def dask_cluster(workers: int, failures: int = 3) -> Iterator[Cluster]:
    """A cluster that ends with the block; it gives up a task with which more than ``failures`` workers ended."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.dask_cluster", str(workers), str(failures)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            address, *pids = process.stdout.readline().split()
            yield Cluster(address, process.pid, [int(pid) for pid in pids])
        finally:
            process.stdin.close()
            process.wait(60)


def main() -> None:
    """Serve until standard input ends."""
    import dask
    from distributed import LocalCluster

    workers, failures = map(int, sys.argv[1:])
    dask.config.set({"distributed.scheduler.allowed-failures": failures})
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        preload=["tests.fatal_files"],
    ) as cluster:
        print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
