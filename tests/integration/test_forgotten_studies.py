"""What comes late of a study that the store has forgotten, on real FHIR servers and one in memory."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.model import Attrs, InstanceRecord, Origin
from dicom2fhir.outcomes import Delivered, Job, Outcome, Refused
from dicom2fhir.store.base import Success
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.memory_server import Manner, memory_server
from tests.store_contract.bench import rejection_note

DEST = "server"
FILE = Origin("folder", path="/in")
TIMEOUT_S = 60
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.2"


class Bridge:
    """A store, and a destination that gets what it has."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.uid = f"2.25.{uuid.uuid4().int}"
        self.store = SqliteStore(folder / "store.db", quiet_period_s=0, max_wait_s=0, min_free_bytes=0)
        self.store.set_destinations([DEST])
        mapper = StudyMapper(MappingOptions())
        self._destination = FhirDestination(DEST, FhirClient(url, timeout_s=TIMEOUT_S), mapper, DialectChoice())

    def record(self, series: int, number: int, patient: str = "P1", **attributes: str) -> InstanceRecord:
        return InstanceRecord(
            study_uid=self.uid,
            series_uid=f"{self.uid[:50]}.{series}",
            sop_uid=f"{self.uid[:50]}.{series}.{number}",
            patient={"PatientID": patient},
            study={"StudyInstanceUID": self.uid, "StudyDate": "20240102", "StudyDescription": "Whole", **attributes},
            series={"Modality": "CT", "SeriesNumber": str(series), "SeriesDescription": f"Series {series}"},
            instance={"SOPClassUID": SOP_CLASS, "InstanceNumber": str(number)},
        )

    def deliver(self, *records: InstanceRecord) -> Outcome:
        self.store.add_many(records, FILE)
        (claim,) = self.store.claim(DEST, "w1", 60)
        study = self.store.study(self.uid)
        assert study
        (outcome,) = self._destination.deliver_all([Job(study, claim.base, claim.again)])
        if isinstance(outcome, Delivered):
            self.store.delivered([Success(claim, study.revision, outcome)])
        else:
            self.store.refuse(claim, study.revision, "refused")
        return outcome

    def forget(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while self.store.forget_delivered(1e-6) != [self.uid]:
            assert time.monotonic() < deadline
        assert self.store.study(self.uid) is None

    def note(self, *numbers: int) -> InstanceRecord:
        """A rejection note about instances of the first series."""
        rejected = [self.record(1, number) for number in numbers]
        references: list[Attrs] = [{"ReferencedSOPInstanceUID": one.sop_uid} for one in rejected]
        series: list[Attrs] = [{"SeriesInstanceUID": rejected[0].series_uid, "ReferencedSOPSequence": references}]
        evidence: list[Attrs] = [{"StudyInstanceUID": self.uid, "ReferencedSeriesSequence": series}]
        note = rejection_note(study=self.uid)
        content = {**note.instance, "CurrentRequestedProcedureEvidenceSequence": evidence}
        return replace(note, sop_uid=f"{self.uid[:50]}.9.{numbers[0]}", instance=content)

    def on_the_server(self) -> Mapping[str, Any]:
        """The only ImagingStudy of this UID."""
        parameters = {"identifier": f"urn:dicom:uid|urn:oid:{self.uid}"}
        found = requests.get(f"{self.url}/ImagingStudy", params=parameters, timeout=TIMEOUT_S).json()
        (entry,) = found["entry"]
        study: Mapping[str, Any] = entry["resource"]
        return study


def check(bridge: Bridge) -> None:
    assert isinstance(bridge.deliver(*(bridge.record(series, n) for series in (1, 2, 3) for n in (1, 2))), Delivered)
    before = bridge.on_the_server()
    bridge.forget()
    late = [bridge.record(2, 3, StudyDescription="Late"), bridge.record(4, 1, StudyDescription="Late")]
    for number in (1, 2):  # the second has a base of the first, and comes after both
        assert isinstance(bridge.deliver(late[number - 1]), Delivered)
    after = bridge.on_the_server()
    assert after["id"] == before["id"]
    assert (after["numberOfSeries"], after["numberOfInstances"]) == (4, 8)
    series = {one["number"]: one for one in after["series"]}
    assert {number: one["description"] for number, one in series.items()} == {n: f"Series {n}" for n in (1, 2, 3, 4)}
    assert {number: one["numberOfInstances"] for number, one in series.items()} == {1: 2, 2: 3, 3: 2, 4: 1}
    assert all(len(one["instance"]) == one["numberOfInstances"] for one in series.values())
    assert after["description"] == before["description"] == "Whole"
    bridge.forget()
    assert isinstance(bridge.deliver(late[0]), Delivered)
    assert bridge.on_the_server()["meta"].get("versionId") == after["meta"].get("versionId"), "nothing new was written"
    bridge.forget()
    outcome = bridge.deliver(bridge.record(5, 1, patient="P2"))
    assert isinstance(outcome, Refused) and "another PatientID" in outcome.issues[0]
    assert bridge.on_the_server()["numberOfInstances"] == 8


def check_rejected(bridge: Bridge) -> None:
    """The bridge does not know any more that the server has them from it."""
    instances = [bridge.record(series, number) for series in (1, 2) for number in (1, 2, 3)]
    assert isinstance(bridge.deliver(*instances), Delivered)
    for rejected, left in (((1,), {1: 2, 2: 3}), ((2, 3), {2: 3})):
        assert bridge.store.forget(bridge.uid)
        bridge.store.add_many([bridge.note(*rejected)], Origin("folder", path="/in", may_reject=True))
        assert isinstance(bridge.deliver(*instances[-2:]), Delivered)
        after = bridge.on_the_server()
        assert {one["number"]: one["numberOfInstances"] for one in after["series"]} == left
        assert all(len(one["instance"]) == one["numberOfInstances"] for one in after["series"])
        assert (after["numberOfSeries"], after["numberOfInstances"]) == (len(left), sum(left.values()))


@pytest.fixture
def bridge(tmp_path: Path, server: str) -> Iterator[Bridge]:
    made = Bridge(tmp_path, server)
    yield made
    made.store.close()


def test_a_late_part_is_added_to_the_study_on_the_server(bridge: Bridge) -> None:
    check(bridge)


def test_what_was_rejected_after_forget_is_removed_from_the_server(bridge: Bridge) -> None:
    check_rejected(bridge)


@pytest.mark.parametrize("what", [check, check_rejected])
@pytest.mark.parametrize(
    "manner",
    [
        Manner(checks_versions=True),
        Manner(takes_ids=False),
        Manner(takes_ids=False, conditional=("conditionalUpdate",)),
    ],
    ids=["our ids", "its ids", "conditional updates"],
)
def test_any_server(tmp_path: Path, manner: Manner, what: Callable[[Bridge], None]) -> None:
    with memory_server(manner) as server:
        made = Bridge(tmp_path, server.url)
        try:
            what(made)
        finally:
            made.store.close()
