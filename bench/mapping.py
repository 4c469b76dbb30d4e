"""Measure mapping and serialising a study: ``python -m bench.mapping``.

The road is the real one: generated CT slices are decoded, kept in the store, read back as one study, mapped, put into a
Bundle and dumped. Times are processor time of one core, the median of several rounds in which sizes take turns.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench.report import Goal, Result, Row, options, progress, show
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Origin, Received, Study
from dicom2fhir.ops import logs
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_instances

SIZES = (1000, 5000)
VERSIONS = ("R4", "R5")
_POLICY = MappingOptions(patient=Write.ENSURE)
_LIMIT_MS = 20.0
_LIMIT_GROWTH = 5.5
_TOGETHER = 32
"""Threads that fill the store: they share its commits."""


def fill(store: SqliteStore, instances: int) -> str:
    """Put one study of CT slices into a store; its Study Instance UID."""
    origin = Origin("file")
    records = [
        decode_instance(
            Received(
                scan(made.header, made.transfer_syntax, WANTED),
                made.transfer_syntax,
                origin,
                made.sop_class,
                made.sop_instance,
            )
        )
        for made in ct_instances(instances)
    ]
    with ThreadPoolExecutor(_TOGETHER) as threads:
        list(threads.map(lambda record: store.add(record, origin), records))
    return records[0].study_uid


def to_json(study: Study, version: str) -> bytes:
    """The Bundle of a study, as ``convert`` writes it."""
    return orjson.dumps(standalone(map_study(study, DIALECTS[version], _POLICY)))


def processor_ms(work: Callable[[], Any]) -> float:
    """Processor time of one call in milliseconds; garbage of earlier calls is not counted in."""
    gc.collect()
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def measure(sizes: Sequence[int], rounds: int) -> Result:
    """Measure reading, mapping and serialising studies of two sizes."""
    steps = ("read from the store", *(f"map and serialise {version}" for version in VERSIONS))
    times: dict[tuple[str, int], list[float]] = {(step, size): [] for step in steps for size in sizes}
    with tempfile.TemporaryDirectory() as folder, progress(rounds, "mapping") as advance:
        stores = {size: SqliteStore(Path(folder, f"{size}.db"), quiet_period_s=0, max_wait_s=0) for size in sizes}
        uids = {size: fill(store, size) for size, store in stores.items()}
        for _ in range(rounds):
            for size, store in stores.items():
                times[steps[0], size].append(processor_ms(partial(store.study, uids[size])))
                study = store.study(uids[size])
                assert study is not None
                for version, step in zip(VERSIONS, steps[1:], strict=True):
                    times[step, size].append(processor_ms(partial(to_json, study, version)))
            advance()
        for store in stores.values():
            store.close()
    small, large = sizes
    at = {key: median(values) for key, values in times.items()}
    # the two of one round ran one after the other: what slows the machine down for a while slows both
    growth = {
        step: median(more / less for less, more in zip(times[step, small], times[step, large], strict=True))
        for step in steps
    }
    rows: list[Row] = [
        {
            "step": step,
            f"{small:,} instances, ms": at[step, small],
            f"{large:,} instances, ms": at[step, large],
            "growth": growth[step],
        }
        for step in steps
    ]
    goals = []
    for step in steps[1:]:
        goals += [
            Goal(
                f"{step}, {small:,} instances, ms", at[step, small], f"<= {_LIMIT_MS:g}", at[step, small] <= _LIMIT_MS
            ),
            Goal(f"{step}, growth to {large:,}", growth[step], f"<= {_LIMIT_GROWTH:g}", growth[step] <= _LIMIT_GROWTH),
        ]
    return Result("Mapping and serialising a study", rows, goals, [f"median of {rounds} rounds, processor time"])


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    logs.configure("error", "auto")
    sizes, rounds = ((20, 100), 1) if arguments.quick else (SIZES, arguments.rounds)
    show(measure(sizes, rounds), arguments.json)


if __name__ == "__main__":
    main()
