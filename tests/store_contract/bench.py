"""What the contract asks a kind of store for, and the bench on which it is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from dicom2fhir.dicom.procedure_step import step_of
from dicom2fhir.model import (
    Attrs,
    Availability,
    AvailabilityNotification,
    InstanceRecord,
    Origin,
    ProcedureStep,
    Study,
    Value,
)
from dicom2fhir.outcomes import Delivered
from dicom2fhir.sop_classes import KEY_OBJECT_SELECTION
from dicom2fhir.store.base import Change, Claim, Store, Success
from dicom2fhir.store.postgres.store import PostgresStore
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DeliveryStatus, State, StudyStatus
from tests.memory_store.memory import Memory
from tests.memory_store.store import MemoryStore
from tests.postgres_cluster import cluster

QUIET_S, MAX_WAIT_S, LEASE_S = 30.0, 900.0, 60.0
LOOK_S = 2.0
"""How often a deliverer looks, and so how soon a step of the clock is noticed."""
_GROWTH = 1.2
"""Of the time between looks: a hundred of them would only cost time."""
DEST = "main"
FOLDER = Origin("folder", path="/in/a.dcm")
CT = "1.2.840.10008.5.1.4.1.1.2"


def claimed(store: Store, destination: str, owner: str, lease_s: float, passed_over: int = 0) -> Claim | None:
    """Claim one study, if one is due."""
    return next(iter(store.claim(destination, owner, lease_s, passed_over)), None)


def delivered(
    store: Store,
    claim: Claim,
    revision: int,
    base: bytes = b"",
    fingerprint: str = "",
    unlinked: tuple[str, ...] = (),
    unclaimed: str = "",
    refused: tuple[str, ...] = (),
    accepted: bool = False,
) -> None:
    """Record that a study was delivered; ``accepted`` if the destination changed something for it."""
    outcome = Delivered(base, accepted, fingerprint, unlinked=unlinked, unclaimed=unclaimed, refused=refused)
    store.delivered([Success(claim, revision, outcome)])


class Kind(Protocol):
    """One kind of store; the content outlives what is opened."""

    def open(self, *, owns: bool, **options: Any) -> Store:
        """Open it, as the daemon does or as a command does beside it; ``options`` are the rule, clocks and reader."""


class Sqlite:
    """Stores in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.db"

    def open(self, *, owns: bool, **options: Any) -> Store:
        return (SqliteStore if owns else SqliteStore.attach)(self._path, min_free_bytes=0, **options)


class InMemory:
    """The double."""

    def __init__(self, _folder: Path) -> None:
        self._memory = Memory()

    def open(self, *, owns: bool, **options: Any) -> Store:
        return MemoryStore(self._memory, owns=owns, **options)


class Postgres:
    """Stores in a database; see :mod:`tests.postgres_cluster`."""

    def __init__(self, _folder: Path) -> None:
        self._url = cluster().new_database()

    def open(self, *, owns: bool, **options: Any) -> Store:
        return (PostgresStore if owns else PostgresStore.attach)(self._url, **options)


KINDS: dict[str, Callable[[Path], Kind]] = {"sqlite": Sqlite, "postgres": Postgres, "memory": InMemory}
"""Every kind of store keeps the contract; a new one is added here."""
_NEEDS = {"postgres": [pytest.mark.needs("postgres")]}
EVERY_KIND = [pytest.param(name, marks=_NEEDS.get(name, ())) for name in KINDS]
"""For :func:`pytest.mark.parametrize`."""


class Bench:
    """A store with a clock that the test turns."""

    def __init__(self, kind: Kind, quiet_period_s: float = QUIET_S) -> None:
        self._kind = kind
        self._quiet_period_s = quiet_period_s
        self._passed_s = 50.0
        self._epoch = 1_700_000_000.0
        self.store = self._open(owns=True)
        self.store.set_destinations([DEST])

    def _open(self, owns: bool, **options: Any) -> Store:
        common: dict[str, Any] = {
            "quiet_period_s": self._quiet_period_s,
            "max_wait_s": MAX_WAIT_S,
            "clock": self.wall_clock,
            "steady": lambda: self._passed_s,
        }
        return self._kind.open(owns=owns, **(common | options))

    def wall_clock(self) -> float:
        """What the store's clock says; seconds since the epoch."""
        return self._epoch + self._passed_s

    @property
    def now(self) -> float:
        return self.wall_clock()

    def later(self, seconds: float) -> None:
        self._passed_s += seconds

    def later_with_looks(self, seconds: float) -> None:
        """Let time pass as it does with a deliverer that looks every few seconds, and less often when nothing comes."""
        end = self._passed_s + seconds
        pause_s = LOOK_S
        while self._passed_s < end:
            self._passed_s = min(self._passed_s + pause_s, end)
            self.store.next_due_at(DEST)
            pause_s *= _GROWTH

    def set_clock(self, step_s: float, over_a_restart: bool = False) -> None:
        if over_a_restart:
            self.store.close()
        self._epoch += step_s
        if over_a_restart:
            self.store = self._open(owns=True)

    def restart(self, **options: Any) -> Store:
        """A new life of the daemon."""
        self.store.close()
        self.store = self._open(owns=True, **options)
        return self.store

    @contextmanager
    def beside(self, **options: Any) -> Iterator[Store]:
        """The store as a command opens it in another process."""
        store = self._open(owns=False, **options)
        try:
            yield store
        finally:
            store.close()

    # What tests do and ask most

    def add(self, record: InstanceRecord, origin: Origin = FOLDER) -> Change:
        (change,) = self.store.add_many([record], origin)
        return change

    def claim(self, owner: str = "w1", destination: str = DEST, lease_s: float = LEASE_S) -> Claim:
        claim = claimed(self.store, destination, owner, lease_s)
        assert claim is not None
        return claim

    def none_due(self, destination: str = DEST) -> bool:
        return not self.store.claim(destination, "nobody", LEASE_S)

    def deliver(self, base: bytes = b"base", fingerprint: str = "", destination: str = DEST) -> str:
        """Deliver what is due; its UID."""
        claim = self.claim(destination=destination)
        delivered(self.store, claim, claim.revision, base, fingerprint)
        return claim.study_uid

    def wait_s(self, destination: str = DEST) -> float:
        """Until the next study is due, at least 0."""
        due_at = self.store.next_due_at(destination)
        assert due_at is not None
        return max(due_at - self.now, 0.0)

    def study(self, study: str = "1.1") -> Study:
        found = self.store.study(study)
        assert found is not None
        return found

    def status(self, study: str = "1.1") -> StudyStatus:
        found = self.store.study_status(study)
        assert found is not None
        return found

    def row(self, study: str = "1.1", destination: str = DEST) -> DeliveryStatus:
        return next(row for row in self.status(study).deliveries if row.destination == destination)

    def state(self, study: str = "1.1", destination: str = DEST) -> State:
        return self.row(study, destination).state


def record(
    number: int = 1, study: str = "1.1", series: str = "", patient: str = "P1", **instance: str
) -> InstanceRecord:
    return InstanceRecord(
        study_uid=study,
        series_uid=series or f"{study}.1",
        sop_uid=f"1.9.{number}",
        patient={"PatientID": patient, "PatientName": f"N^{patient}"} if patient else {},
        study={"StudyInstanceUID": study, "StudyDate": "20240102"},
        series={"Modality": "CT"},
        instance={"SOPClassUID": CT, "InstanceNumber": str(number), **instance},
    )


def over(association: str, calling_ae: str = "CT1") -> Origin:
    return Origin("dimse", calling_ae=calling_ae, association=association)


def notification(
    instances: Sequence[int] = (1,),
    availability: str = "ONLINE",
    uid: str = "1.7.1",
    study: str = "1.1",
    retrieve_ae: str = "PACS",
) -> AvailabilityNotification:
    attrs = {"InstanceAvailability": availability, "RetrieveAETitle": retrieve_ae}
    stated = tuple(Availability(f"1.9.{number}", attrs) for number in instances)
    return AvailabilityNotification(uid, study, stated)


def step(uid: str = "1.6.1", study: str = "1.1", patient: str = "P1") -> ProcedureStep:
    requests: list[Attrs] = [{"StudyInstanceUID": study, "AccessionNumber": "A1"}]
    attrs: dict[str, Value] = {"PatientID": patient, "Modality": "CT", "ScheduledStepAttributesSequence": requests}
    return step_of(uid, {**attrs, "PerformedProcedureStepStatus": "IN PROGRESS"})


def changes(status: str = "COMPLETED", instances: Sequence[int] = ()) -> Attrs:
    """What an N-SET says."""
    listed: list[Attrs] = [{"ReferencedSOPInstanceUID": f"1.9.{number}"} for number in instances]
    series: list[Attrs] = [{"ReferencedImageSequence": listed}]
    return {"PerformedProcedureStepStatus": status, "PerformedSeriesSequence": series}


def rejection_note(
    instances: Sequence[int] = (1,),
    code: str = "113037",
    study: str = "1.1",
    of: str = "",
    number: int = 90,
    modifiers: Sequence[Attrs] = (),
) -> InstanceRecord:
    """A note in ``study`` that names instances of the study ``of``, by default of its own."""
    references: list[Attrs] = [{"ReferencedSOPInstanceUID": f"1.9.{each}"} for each in instances]
    series: list[Attrs] = [{"SeriesInstanceUID": "1.1.1", "ReferencedSOPSequence": references}]
    evidence: list[Attrs] = [{"StudyInstanceUID": of or study, "ReferencedSeriesSequence": series}]
    title: list[Attrs] = [{"CodeValue": code, "CodingSchemeDesignator": "DCM", "CodeMeaning": "any"}]
    made = record(number, study=study, series=f"{study}.90")
    why: list[Attrs] = [
        {"ConceptNameCodeSequence": [_TITLE_MODIFIER], "ConceptCodeSequence": [each]} for each in modifiers
    ]
    content: dict[str, Value] = {
        "SOPClassUID": KEY_OBJECT_SELECTION,
        "ConceptNameCodeSequence": title,
        "CurrentRequestedProcedureEvidenceSequence": evidence,
        "ContentSequence": why,
    }
    return replace(made, series={"Modality": "KO"}, instance=content)


_TITLE_MODIFIER: Attrs = {"CodeValue": "113011", "CodingSchemeDesignator": "DCM"}
