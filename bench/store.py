"""Measure the store as it grows: ``python -m bench.store``.

Plain CT instances with everything that the bridge keeps of them, in studies of 200. ``status`` is what the command of
that name asks, over a connection that only reads; ``claim`` leases a study that is due and gives it back delivered.
``find`` is the slowest of the searches for a page of 50 studies: by each criterion, first and last page, and by two.
``index`` is what the daemon does afterwards to make studies searchable.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from bench.report import Goal, Result, Row, options, progress, show, use_one_core
from dicom2fhir.demo.synthetic import make_uid
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.model import InstanceRecord, Origin, Received
from dicom2fhir.ops import logs
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Success
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import StudyFilter
from testdata.make_dicom import ct_instances

SIZES = (10_000, 100_000, 1_000_000)
PER_STUDY = 200
_BATCH = 256
_ADDED = 200
_ROUNDS = 15
_ASKED_STATUS_MS = 100.0
_ASKED_FIND_MS = 50.0
_ASKED_BYTES = 600.0


def sample_record() -> InstanceRecord:
    """What is kept of a plain CT instance."""
    (made,) = ct_instances(1)
    header = scan(made.header, made.transfer_syntax, WANTED)
    return decode_instance(Received(header, made.transfer_syntax, Origin("file"), made.sop_class, made.sop_instance))


def records(
    sample: InstanceRecord, studies: int, first: int = 0, per_study: int = PER_STUDY
) -> Iterator[InstanceRecord]:
    """CT studies, each of another patient, with UIDs of 2.25. as long as they come."""
    for number in range(first, first + studies):
        study_uid = make_uid(f"bench-{number}")
        patient = {**sample.patient, "PatientID": f"BENCH-{number}"}
        study = {**sample.study, "AccessionNumber": f"A{number}"}
        series_uid = make_uid(f"bench-{number}-1")
        for place in range(per_study):
            yield InstanceRecord(
                study_uid,
                series_uid,
                # 39 digits, and not a hash for each: this is to measure the store
                f"2.25.{int(study_uid[5:]) + place + 1}",
                patient,
                study,
                sample.series,
                {**sample.instance, "InstanceNumber": str(place + 1)},
            )


def median_s(rounds: int, ask: Callable[[], object]) -> float:
    """Wall time of a question."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return median(times)


def ask_status(path: Path) -> None:
    """Ask what ``dicom2fhir status`` asks."""
    store = SqliteStore.open_readonly(path)
    try:
        store.stats()
        store.studies(limit=20)
        store.rejections(20)
    finally:
        store.close()


def searches(last: int) -> Iterator[StudyFilter]:
    """Searches that find many studies, one, and none."""
    yield StudyFilter()
    yield from (StudyFilter(state=state) for state in State)
    yield from (StudyFilter(destination="main", state=state) for state in State)
    yield from (StudyFilter(modality="CT"), StudyFilter(modality="MR"), StudyFilter(study_date="19000101"))
    yield from (StudyFilter(accession_number=f"A{last}"), StudyFilter(patient_id="nobody"))
    yield from (StudyFilter(study_uid=make_uid(f"bench-{last}")), StudyFilter(calling_ae_title="BENCH"))
    yield StudyFilter(modality="CT", state=State.DELIVERED)
    yield StudyFilter(modality="CT", state=State.REFUSED)


def find_ms(store: SqliteStore, studies: int) -> float:
    """The slowest search, at the first page and at the last."""
    (oldest,) = [*store.find_studies(StudyFilter(study_uid=make_uid("bench-0")))]
    return 1000 * max(
        median_s(_ROUNDS, partial(store.find_studies, wanted, after))
        for wanted in searches(studies - 1)
        for after in (None, oldest.position)
    )


def index(store: SqliteStore) -> None:
    """Do what the daemon does after reception."""
    while store.update_index():
        pass


def claim_and_deliver(store: SqliteStore) -> None:
    """Take the study that is due first and give it back."""
    (claim,) = store.claim("main", "bench", 60)
    store.delivered([Success(claim, claim.revision, Delivered(b"base"))])


def size_of(path: Path) -> int:
    """Bytes of the store with its log."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def measure(sizes: Sequence[int]) -> Result:
    """Fill a store to each size and ask."""
    sample = sample_record()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name, progress(sizes[-1], "adding") as advance:
        path = Path(name, "store.db")
        store = SqliteStore(path, quiet_period_s=0, min_free_bytes=0)
        try:
            store.set_destinations(["main"])
            held = 0
            for size in sizes:
                coming = records(sample, (size - held) // PER_STUDY, held // PER_STUDY)
                many_s, one_s, count = 0.0, 0.0, 0
                singles = list(islice(coming, _ADDED))
                started = time.process_time()
                for record in singles:
                    store.add(record, Origin("file"))
                one_s = time.process_time() - started
                while batch := list(islice(coming, _BATCH)):
                    started = time.process_time()
                    store.add_many(batch, Origin("file"))
                    many_s += time.process_time() - started
                    count += len(batch)
                    advance(len(batch))
                held = size
                found = store.stats().instances
                assert found == size, found
                started = time.perf_counter()
                index(store)
                index_s = time.perf_counter() - started
                rows.append(
                    {
                        "instances": f"{size:,}",
                        "add/s": len(singles) / one_s,
                        "add_many/s": count / many_s,
                        "bytes an instance": size_of(path) / size,
                        "status ms": median_s(_ROUNDS, lambda: ask_status(path)) * 1000,
                        "claim and deliver ms": median_s(_ROUNDS, lambda: claim_and_deliver(store)) * 1000,
                        "find ms": find_ms(store, held // PER_STUDY),
                        "index ms a study": index_s * 1000 * PER_STUDY / (count + len(singles)),
                        "next_due_at ms": median_s(_ROUNDS, lambda: store.next_due_at("main")) * 1000,
                    }
                )
        finally:
            store.close()
        closed = path.stat().st_size / held
    status_ms, bytes_each = float(rows[-1]["status ms"]), float(rows[-1]["bytes an instance"])
    slowest_ms = float(rows[-1]["find ms"])
    goals = [
        Goal("status of the largest, ms", status_ms, f"<= {_ASKED_STATUS_MS:g}", status_ms <= _ASKED_STATUS_MS),
        Goal("search of the largest, ms", slowest_ms, f"<= {_ASKED_FIND_MS:g}", slowest_ms <= _ASKED_FIND_MS),
        Goal("bytes an instance", bytes_each, f"<= {_ASKED_BYTES:g}", bytes_each <= _ASKED_BYTES),
    ]
    remarks = [
        f"add and add_many by processor time, batches of {_BATCH}, each commit on disk; questions by wall time, median "
        f"of {_ROUNDS}",
        f"{closed:.0f} bytes an instance once the store is closed and its log is gone",
    ]
    return Result(f"The store, studies of {PER_STUDY}", rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    chosen = options(__doc__).parse_args()
    use_one_core()
    logs.configure("error", "text")
    show(measure((4000, 8000) if chosen.quick else SIZES), chosen.json)


if __name__ == "__main__":
    main()
