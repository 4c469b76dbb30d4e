"""Measure a store of which most studies are sealed: ``python -m bench.sealed``.

Plain CT instances with everything that the bridge keeps of them, in studies of 200, delivered to one destination. Four
of five studies are sealed as they come, the last fifth stays open. ``--instances`` sets how many instances there are.
Bytes are those of the pages in use.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from uuid import uuid4

from bench.report import Goal, Result, Row, options, progress, show, use_one_core
from bench.store import PER_STUDY, ask_status, claim_and_deliver, index, median_s, records, sample_record
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.ops import logs
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Success
from dicom2fhir.store.sqlite.store import SqliteStore

SIZE = 1_000_000
_WAVE = 100
"""Studies that arrive, are delivered, and are sealed together."""
_BATCH = 256
_ROUNDS = 15
_ASKED_BYTES = 40.0


def fill(store: SqliteStore, studies: Iterator[InstanceRecord], number: int) -> None:
    """Store studies and deliver them."""
    instances = islice(studies, number * PER_STUDY)
    while batch := list(islice(instances, _BATCH)):
        store.add_many(batch, Origin("file"))
    while claims := store.claim("main", "bench", 60, most=_WAVE):
        store.delivered([Success(claim, claim.revision, Delivered(b"base")) for claim in claims])
    index(store)


def seal(store: SqliteStore) -> float:
    """Seal what can be sealed; how long it took."""
    started = time.perf_counter()
    while store.seal_delivered(0) is not None:
        pass
    return time.perf_counter() - started


def used_bytes(path: Path) -> int:
    """The pages of a store that are not free."""
    with closing(sqlite3.connect(path)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def block_bytes(path: Path) -> float:
    """Of an instance."""
    with closing(sqlite3.connect(path)) as connection:
        ((found,),) = connection.execute("SELECT sum(length(block)) * 1.0 / sum(instances) FROM sealed")
    return float(found)


def random_uids_bytes() -> float:
    """Of an instance in a block, if each has a random UID, which is the most that a UID needs."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        path = Path(name, "store.db")
        with closing(SqliteStore(path, quiet_period_s=0, min_free_bytes=0)) as store:
            store.set_destinations(["main"])
            instances = (replace(one, sop_uid=f"2.25.{uuid4().int}") for one in records(sample_record(), 5))
            fill(store, instances, 5)
            seal(store)
        return block_bytes(path)


def waves(studies: int) -> Iterator[int]:
    """Studies in parts."""
    for first in range(0, studies, _WAVE):
        yield min(_WAVE, studies - first)


def ask(store: SqliteStore, path: Path, sample: InstanceRecord, studies: int) -> dict[str, float]:
    """What calls cost, by wall time."""
    new = records(sample, 1, studies)
    late = (replace(next(records(sample, 1, number)), sop_uid=f"2.25.{number}") for number in range(_ROUNDS))
    found = {
        "add": median_s(_ROUNDS, lambda: store.add(next(new), Origin("file"))),
        "late instance": median_s(_ROUNDS, lambda: store.add(next(late), Origin("file"))),
        "claim and deliver": median_s(_ROUNDS, lambda: claim_and_deliver(store)),
        "status": median_s(_ROUNDS, lambda: ask_status(path)),
    }
    return {f"{name} ms": 1000 * seconds for name, seconds in found.items()}


def measure(instances: int) -> Result:
    """Fill a store and ask."""
    studies, sample, sealing_s = instances // PER_STUDY, sample_record(), 0.0
    sealed = studies * 4 // 5
    coming = records(sample, studies)
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name, progress(studies, "studies") as advance:
        path = Path(name, "store.db")
        with closing(SqliteStore(path, quiet_period_s=0, min_free_bytes=0)) as store:
            store.set_destinations(["main"])
            for number in waves(sealed):
                fill(store, coming, number)
                sealing_s += seal(store)
                advance(number)
            of_sealed = used_bytes(path)
            for number in waves(studies - sealed):
                fill(store, coming, number)
                advance(number)
            row: Row = {
                "instances": f"{instances:,}",
                "bytes a sealed one": of_sealed / (sealed * PER_STUDY),
                "bytes an open one": (used_bytes(path) - of_sealed) / ((studies - sealed) * PER_STUDY),
                "bytes of a block": block_bytes(path),
                "seal ms a study": 1000 * sealing_s / sealed,
                **ask(store, path, sample, studies),
            }
        started = time.perf_counter()
        SqliteStore(path, min_free_bytes=0).close()
        row = {**row, "start and stop ms": 1000 * (time.perf_counter() - started)}
    blocks = {"counted UIDs": float(row["bytes of a block"]), "random UIDs": random_uids_bytes()}
    goals = [
        Goal(f"bytes of a block for an instance, {uids}", found, f"<= {_ASKED_BYTES:g}", found <= _ASKED_BYTES)
        for uids, found in blocks.items()
    ]
    remarks = [
        f"bytes for each instance: of the pages in use, and of blocks alone; calls by wall time, median of {_ROUNDS}",
        "a late instance is the first that comes of a sealed study, which is opened",
    ]
    return Result(f"A store with sealed studies of {PER_STUDY}, one of five is open", [row], goals, remarks)


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--instances", type=int, default=SIZE, help="how many (1000000); 10000000 takes half an hour")
    chosen = parser.parse_args()
    use_one_core()
    logs.configure("error", "text")
    show(measure(20_000 if chosen.quick else chosen.instances), chosen.json)


if __name__ == "__main__":
    main()
