"""Compare stores: one process with SQLite, and one to three processes with PostgreSQL: ``python -m bench.nodes``.

Each process stores plain CT instances, as several associations do that each send studies of their own. An instance is
on disk before the next one of its association comes. Both stores are on the same disk and take turns. Receiving, which
costs the same with both, is left out. PostgreSQL is Debian's, with its own settings.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from bench.report import Result, Row, options, progress, show
from bench.store import records, sample_record
from dicom2fhir.model import Origin
from dicom2fhir.ops import logs
from dicom2fhir.store.sql.store import SqlStore
from dicom2fhir.wiring.store_options import StoreAddress
from tests.postgres_cluster import Cluster

ASSOCIATIONS = 4
"""Of each process."""
PER_STUDY = 100
_WITHIN_S = 600.0


def store_all(address: StoreAddress, process: int, instances: int, is_ready: Barrier) -> None:
    """What one process does."""
    logs.configure("error", "text")
    store = address.own(quiet_period_s=0.0, max_wait_s=900.0, min_free_bytes=0)
    try:
        store.set_destinations(["main"])
        threads = [
            threading.Thread(target=_send, args=(store, process * ASSOCIATIONS + number, instances // ASSOCIATIONS))
            for number in range(ASSOCIATIONS)
        ]
        is_ready.wait(_WITHIN_S)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        is_ready.wait(_WITHIN_S)
    finally:
        store.close()


def _send(store: SqlStore, association: int, instances: int) -> None:
    coming = records(sample_record(), 1 + instances // PER_STUDY, 1_000 * association, PER_STUDY)
    origin = Origin("dimse", calling_ae="CT", association=str(association))
    for record in islice(coming, instances):
        store.add(record, origin)


def run(address: StoreAddress, processes: int, instances: int) -> float:
    """Instances per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    is_ready = context.Barrier(processes + 1)
    workers = [
        context.Process(target=store_all, args=(address, number, instances, is_ready)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    is_ready.wait(_WITHIN_S)
    started = time.perf_counter()
    is_ready.wait(_WITHIN_S)
    seconds = time.perf_counter() - started
    for worker in workers:
        worker.join()
    store = address.open_readonly()
    try:
        assert store.stats().instances == processes * instances
    finally:
        store.close()
    return processes * instances / seconds


def addresses(folder: Path, cluster: Cluster, rounds: int) -> Iterator[tuple[str, StoreAddress, int]]:
    """What is measured, in turns; each time in a new store."""
    for number in range(rounds):
        yield "SQLite, 1 process", StoreAddress(folder / str(number)), 1
        for processes in (1, 2, 3):
            name = f"PostgreSQL, {processes} process{'es' * (processes > 1)}"
            yield name, StoreAddress(folder, cluster.new_database()), processes


def measure(instances: int, rounds: int) -> Result:
    """Measure each, and compare it with SQLite."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        cluster = Cluster(on_disk=True)
        try:
            with progress(4 * rounds, "storing") as advance:
                for what, address, processes in addresses(Path(name), cluster, rounds):
                    found.setdefault(what, []).append(run(address, processes, instances))
                    advance()
        finally:
            cluster.remove()
    base = median(next(iter(found.values())))
    rows: list[Row] = [
        {
            "store": what,
            "stores/s": median(speeds),
            "least": min(speeds),
            "most": max(speeds),
            "against SQLite": median(speeds) / base,
        }
        for what, speeds in found.items()
    ]
    remarks = [f"{ASSOCIATIONS} associations of each process, {instances:,} instances of each; median of {rounds}"]
    return Result("Stores of one and of several processes", rows, (), remarks)


def main() -> None:
    """Run the bench."""
    chosen = options(__doc__).parse_args()
    logs.configure("error", "text")
    show(measure(200, 1) if chosen.quick else measure(2_000, 3), chosen.json)


if __name__ == "__main__":
    main()
