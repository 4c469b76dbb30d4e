"""A Dask cluster for tests: a scheduler and workers in processes (``python -m tests.dask_cluster WORKERS``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.daemon_process import ROOT, environment


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: the address of its scheduler, and the process ids of the workers that it began with."""

    address: str
    workers: list[int]


@contextmanager
def dask_cluster(workers: int) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.dask_cluster", str(workers)]
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
            yield Cluster(address, [int(pid) for pid in pids])
        finally:
            process.stdin.close()
            process.wait(60)


def main() -> None:
    """Serve until standard input ends."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
