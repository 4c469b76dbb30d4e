"""Two bridges, each with a store and half of the instances of every study, that create them at the same moment."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.errors import ServerUnavailable
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.model import InstanceRecord, Origin, Resource
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.daemon_process import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
SERIES, INSTANCES = 3, 4
MEET_WITHIN_S = 10.0
NAME = "there"
QUICK = RetryPolicy(first_s=0.05, cap_s=0.5)


class Meeting:
    """Where the first transactions of two bridges for one study wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._barriers: dict[str, threading.Barrier] = defaultdict(lambda: threading.Barrier(2))
        self.met = 0

    def wait(self, study_id: str) -> None:
        """Go on when the other bridge is here too."""
        with self._lock:
            barrier = self._barriers[study_id]
        with suppress(threading.BrokenBarrierError):
            is_last = barrier.wait(MEET_WITHIN_S) == 0
            with self._lock:
                self.met += is_last


class MeetingClient(FhirClient):
    """Waits at the meeting before the first transaction of each study, whose lookups are done by then."""

    def __init__(self, url: str, meeting: Meeting) -> None:
        super().__init__(url, timeout_s=60)
        self._meeting = meeting
        self._seen: set[str] = set()

    def transaction(self, bundle: Resource) -> list[Resource]:
        study_id = str(bundle["entry"][0]["fullUrl"])
        if study_id not in self._seen:
            self._seen.add(study_id)
            self._meeting.wait(study_id)
        return super().transaction(bundle)


class LosingClient(MeetingClient):
    """Loses the answer to the first transaction of each study, which the server has carried out or refused."""

    def transaction(self, bundle: Resource) -> list[Resource]:
        is_first = bundle["entry"][0]["fullUrl"] not in self._seen
        responses = super().transaction(bundle)
        if is_first:
            raise ServerUnavailable("the answer is lost")
        return responses


class WinnerLosingClient(MeetingClient):
    """Loses the answer to the first transaction of a study only if it has replaced what the other bridge created."""

    def transaction(self, bundle: Resource) -> list[Resource]:
        is_first = bundle["entry"][0]["fullUrl"] not in self._seen
        responses = super().transaction(bundle)
        if is_first and any(not response["status"].startswith("201") for response in responses):
            raise ServerUnavailable("the answer is lost")
        return responses


def record(study: str, series: int, instance: int, patient: str) -> InstanceRecord:
    """One instance of a study."""
    return InstanceRecord(
        study,
        f"{study}.{series}",
        f"{study}.{series}.{instance}",
        {"PatientID": patient, "PatientName": "Two^Bridges"},
        {"StudyDate": "20260102", "StudyDescription": "Chest"},
        {"Modality": "CT", "SeriesNumber": str(series)},
        {"SOPClassUID": CT, "InstanceNumber": str(instance)},
    )


def halves(study: str, patient: str) -> tuple[list[InstanceRecord], list[InstanceRecord]]:
    """One series for each bridge alone, and one that both have half of."""
    everything = [
        record(study, series, number, patient) for series in range(1, SERIES + 1) for number in range(1, INSTANCES + 1)
    ]
    first = [item for item in everything if item.series_uid.endswith(".1")]
    shared = [item for item in everything if item.series_uid.endswith(".2")]
    last = [item for item in everything if item.series_uid.endswith(".3")]
    return first + shared[::2], shared[1::2] + last


@contextmanager
def filled(path: Path, records: Sequence[InstanceRecord]) -> Iterator[SqliteStore]:
    """A store with these instances."""
    store = SqliteStore(path, quiet_period_s=0.0, max_wait_s=0.0, min_free_bytes=0)
    store.set_destinations([NAME])
    for item in records:
        store.add(item, Origin("file"))
    yield store
    store.close()


@contextmanager
def delivering(
    store: SqliteStore, destination: FhirDestination, workers: int = 2, jitter: Callable[[], float] = random.random
) -> Iterator[Deliverer]:
    """Workers that bring the store's studies there while the block runs."""
    deliverer = Deliverer(store, destination, workers=workers, lease_s=300.0, policy=QUICK, jitter=jitter)
    deliverer.start()
    try:
        yield deliverer
    finally:
        assert deliverer.stop(60.0)


def fhir_destination(client: FhirClient, policy: MappingOptions, dialect: str = "R4") -> FhirDestination:
    """A FHIR server, with the real mapping."""
    return FhirDestination(NAME, client, StudyMapper(policy), DialectChoice(dialect))


def race(
    folder: Path,
    url: str,
    patients: dict[str, str],
    policy: MappingOptions,
    dialect: str = "R4",
    client: type[MeetingClient] = MeetingClient,
) -> int:
    """Deliver studies (by their patient) from two bridges at once; how many of them met."""
    meeting = Meeting()
    both = [halves(study, patient) for study, patient in patients.items()]
    with ExitStack() as stack:
        stores = [
            stack.enter_context(filled(folder / f"{n}.db", [item for pair in both for item in pair[n]]))
            for n in range(2)
        ]
        for store in stores:
            destination = fhir_destination(client(url, meeting), policy, dialect)
            # one worker each, without chance, so that both go through the studies in the same order
            stack.enter_context(delivering(store, destination, workers=1, jitter=lambda: 0.0))
        wait_until(lambda: all(_is_done(store, len(patients)) for store in stores), 900.0, "all studies are delivered")
    return meeting.met


def _is_done(store: SqliteStore, studies: int) -> bool:
    return store.stats().delivered == studies


def check_complete(study: Resource, uid: str) -> None:
    """That a study holds what both bridges have, each once, and counts it right."""
    found = {series["uid"].removeprefix("urn:oid:"): series for series in study["series"]}
    assert sorted(found) == [f"{uid}.{series}" for series in range(1, SERIES + 1)]
    assert len(study["series"]) == study["numberOfSeries"] == SERIES
    for series_uid, series in found.items():
        instances = sorted(item["uid"].removeprefix("urn:oid:") for item in series["instance"])
        assert instances == [f"{series_uid}.{number}" for number in range(1, INSTANCES + 1)]
        assert series["numberOfInstances"] == INSTANCES
    assert study["numberOfInstances"] == SERIES * INSTANCES
