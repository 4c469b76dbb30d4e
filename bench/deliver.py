"""Measure delivery to a FHIR server: ``python -m bench.deliver``.

The bridge takes new studies of new patients out of a store on disk and creates both on the HAPI FHIR server of the
tests, with 1 to 8 workers. It has read ``/metadata`` before. The bare loop posts transaction Bundles that were made
before, over as many connections, and asks nothing: they are what the bridge sends for other studies of the same shape.
Both take turns on one server.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import requests

from bench.report import Goal, Result, Row, options, progress, show
from bench.store import records, sample_record
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.demo.synthetic import make_uid
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.queries import Question
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.formats import dump
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Origin, Resource, Study
from dicom2fhir.ops import logs
from dicom2fhir.outcomes import Delivered, Job, Outcome
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.servers.process import ServerProcess

WORKERS = (1, 2, 4, 8)
INSTANCES = 20
STUDIES = 360
ROUNDS = 3
_NAME = "main"
_TITLE = "Delivery to a FHIR server"
_ASKED = 0.8
_MANY = 1000
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What one run took."""

    studies: int
    wall_s: float
    processor_s: float
    """Of this process, without the server."""

    @property
    def per_s(self) -> float:
        """Studies a second."""
        return self.studies / self.wall_s


class Collector(FhirClient):
    """The server as it says it is, which has nothing and keeps what it is sent here."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.bundles: list[bytes] = []

    def ask_all(self, questions: Sequence[Question]) -> list[list[Resource] | None]:
        """Nothing is there."""
        return [[] for _ in questions]

    def transaction(self, bundle: Resource) -> list[Resource]:
        """All is created."""
        self.bundles.append(dump(bundle, "R4", "json"))
        return [{"status": "201"} for _ in bundle["entry"]]


def destination(client: FhirClient) -> FhirDestination:
    """The server as the bridge knows it; each patient has to be created."""
    policy = MappingOptions(patient=Write.ENSURE)
    return FhirDestination(_NAME, client, StudyMapper(policy), DialectChoice("R4"))


@contextmanager
def filled(numbers: range) -> Iterator[SqliteStore]:
    """A store on disk with studies that are due."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        store = SqliteStore(Path(name, "store.db"), quiet_period_s=0, max_wait_s=0, min_free_bytes=0)
        try:
            store.set_destinations([_NAME])
            made = list(records(sample_record(), len(numbers), numbers.start, INSTANCES))
            store.add_many(made, Origin("file"))
            yield store
        finally:
            store.close()


class Counted:
    """A destination that tells when it has taken a number of studies."""

    name = _NAME

    def __init__(self, there: FhirDestination, studies: int) -> None:
        self._there = there
        self._missing = studies
        self._lock = threading.Lock()
        self.has_all = threading.Event()

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Deliver, and count."""
        for outcome in self._there.deliver_all(jobs):
            with self._lock:
                self._missing -= isinstance(outcome, Delivered)
                if not self._missing:
                    self.has_all.set()
            yield outcome


def bridge(base_url: str, numbers: range, workers: int) -> Speed:
    """Deliver studies out of a store."""
    there = destination(FhirClient(base_url))
    there.deliver(Study(make_uid("bench-known"), 1, {}, {}, ()), b"")
    counted = Counted(there, len(numbers))
    with filled(numbers) as store:
        deliverer = Deliverer(store, counted, workers=workers)
        started, processor = time.perf_counter(), time.process_time()
        deliverer.start()
        counted.has_all.wait(_TIMEOUT_S)
        deliverer.stop(_TIMEOUT_S)
        taken = Speed(len(numbers), time.perf_counter() - started, time.process_time() - processor)
        if (counts := deliverer.counts()).written < len(numbers):
            raise RuntimeError(f"not delivered: {counts}")
        return taken


def bundles_for(base_url: str, numbers: range) -> list[bytes]:
    """What the bridge would send for studies."""
    collector = Collector(base_url)
    there = destination(collector)
    with filled(numbers) as store:
        for status in store.studies(limit=len(numbers)):
            study = store.study(status.study_uid)
            assert study is not None and isinstance(there.deliver(study, b""), Delivered)
    return collector.bundles


def bare(base_url: str, bundles: Sequence[bytes], connections: int) -> Speed:
    """Post Bundles, each connection the next one."""
    waiting, lock = iter(bundles), threading.Lock()
    headers = {"Content-Type": "application/fhir+json; charset=utf-8", "Prefer": "return=OperationOutcome"}

    def post() -> None:
        with requests.Session() as session:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                session.post(base_url, data=body, headers=headers, timeout=_TIMEOUT_S).raise_for_status()

    started, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(connections) as pool:
        for running in [pool.submit(post) for _ in range(connections)]:
            running.result()
    return Speed(len(bundles), time.perf_counter() - started, time.process_time() - processor)


def measure(workers: Sequence[int], studies: int, rounds: int) -> Result:
    """Let both take turns, for each number of workers."""
    if not (shutil.which("java") and shutil.which("mvn")):
        return Result(_TITLE, [], remarks=["left out: HAPI FHIR needs Java and Maven"])
    server = ServerProcess("hapi")
    server.start()
    numbers = (range(start, start + studies) for start in itertools.count(0, studies))
    found: dict[int, list[tuple[Speed, Speed]]] = {count: [] for count in workers}
    turns = [(count, number) for number in range(rounds + 1) for count in workers]
    try:
        with progress(len(turns), "delivering") as advance:
            for count, number in turns:
                bundles = bundles_for(server.base_url, next(numbers))
                if number % 2:
                    theirs = bare(server.base_url, bundles, count)
                    ours = bridge(server.base_url, next(numbers), count)
                else:
                    ours = bridge(server.base_url, next(numbers), count)
                    theirs = bare(server.base_url, bundles, count)
                if number:  # the first one warms the server up
                    found[count].append((ours, theirs))
                advance(1)
    finally:
        server.stop()
    rows: list[Row] = []
    goals = []
    for count, pairs in found.items():
        share = median(ours.per_s / theirs.per_s for ours, theirs in pairs)
        rows.append(
            {
                "workers": f"{count}",
                "bridge, studies/s": median(ours.per_s for ours, _ in pairs),
                "bare loop, studies/s": median(theirs.per_s for _, theirs in pairs),
                "share": share,
                "bridge, processor ms a study": median(ours.processor_s / ours.studies for ours, _ in pairs) * _MANY,
                "bare loop, processor ms a study": median(theirs.processor_s / theirs.studies for _, theirs in pairs)
                * _MANY,
            }
        )
        goals.append(Goal(f"share of the bare loop, {count} workers", share, f">= {_ASKED:g}", share >= _ASKED))
    remarks = [
        f"HAPI FHIR R4 on the same machine; {studies} new studies of new patients a run, {INSTANCES} instances each, "
        f"median of {rounds} rounds in turn, of the shares too"
    ]
    return Result(_TITLE, rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    chosen = options(__doc__).parse_args()
    logs.configure("error", "text")
    show(measure((1, 2), 5, 1) if chosen.quick else measure(WORKERS, STUDIES, ROUNDS), chosen.json)


if __name__ == "__main__":
    main()
