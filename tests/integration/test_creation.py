"""Two bridges that create the same resources at once, and servers that say little, for each manner of server."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Retry
from tests.daemon_process import wait_until
from tests.memory_server import Manner, MemoryServer, memory_server
from tests.two_bridges import (
    LosingClient,
    MeetingClient,
    WinnerLosingClient,
    check_complete,
    delivering,
    fhir_destination,
    filled,
    halves,
    race,
)

STUDIES = {f"1.2.826.0.1.{number}": f"P{number % 2}" for number in range(4)}
REMARK = b'{"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}'
SILENT = {
    "no body": Manner(success=b""),
    "204": Manner(success=b"", status=204),
    "a blank body": Manner(success=b"\r\n"),
    "a Bundle without entries": Manner(success=b'{"resourceType": "Bundle", "type": "transaction-response"}'),
    "remarks": Manner(success=REMARK),
    "no body, ids of its own": Manner(success=b"", takes_ids=False),
    "no body, conditional updates only": Manner(success=b"", takes_ids=False, conditional=("conditionalUpdate",)),
    "no body, no history": Manner(success=b"", has_history=False),
}
LOUD = {
    "412": Manner(none_match=412),
    "304": Manner(none_match=304),
    "409 for a version": Manner(checks_versions=True),
    "no version 0, 412": Manner(checks_versions=True, absent=412, none_match=412),
    "no version 0, 404": Manner(checks_versions=True, absent=404, none_match=412),
    "history only": Manner(),
    "ids of its own": Manner(takes_ids=False),
    "ids of its own, nothing said of conditions": Manner(takes_ids=False, conditional=()),
    "conditional updates only": Manner(takes_ids=False, conditional=("conditionalUpdate",)),
}
SAFE = LOUD | {name: manner for name, manner in SILENT.items() if manner.has_history and manner.takes_ids}


@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("manner", SAFE)
def test_two_bridges_that_create_one_study_lose_nothing(tmp_path: Path, manner: str, patient: Write) -> None:
    policy = MappingOptions(patient=patient, dicomweb_url="http://pacs.example/dicomweb")
    with memory_server(SAFE[manner]) as server:
        assert race(tmp_path, server.url, STUDIES, policy) == len(STUDIES), "all were created at the same moment"
        check_all(server)


@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("client", [LosingClient, WinnerLosingClient])
@pytest.mark.parametrize("manner", LOUD)
def test_nothing_is_lost_with_the_answers_either(
    tmp_path: Path, manner: str, client: type[MeetingClient], patient: Write
) -> None:
    with memory_server(LOUD[manner]) as server:
        race(tmp_path, server.url, STUDIES, MappingOptions(patient=patient), client=client)
        check_all(server)


def check_all(server: MemoryServer) -> None:
    studies = server.all("ImagingStudy")
    assert len(studies) == len(STUDIES)
    patients = {patient["identifier"][0]["value"]: patient["id"] for patient in server.all("Patient")}
    assert len(patients) == len(server.all("Patient")) == len(set(STUDIES.values()))
    for study in studies:
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        check_complete(study, uid)
        assert study["subject"]["reference"] == f"Patient/{patients[STUDIES[uid]]}"


@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("manner", [*SILENT, "full"])
def test_a_server_that_says_no_more_than_success_gets_everything_once(
    tmp_path: Path, manner: str, patient: Write
) -> None:
    records = [item for study, name in STUDIES.items() for half in halves(study, name) for item in half]
    with (
        memory_server(SILENT.get(manner, Manner())) as server,
        filled(tmp_path / "store.db", records) as store,
        delivering(store, fhir_destination(FhirClient(server.url), MappingOptions(patient=patient))) as deliverer,
    ):
        wait_until(lambda: store.stats().delivered == len(STUDIES), 20.0, "all studies are delivered")
        assert deliverer.standing().state == "up"
        assert deliverer.counts().failed == 0
        check_all(server)
        assert server.transactions <= 2 * len(STUDIES)


def one(server: MemoryServer) -> object:
    return fhir_destination(FhirClient(server.url), MappingOptions()).deliver(Study("1.2.3", 1, {}, {}, ()), b"")


@pytest.mark.parametrize("takes_ids", [True, False])
def test_a_server_that_forgets_what_it_took_makes_one_study_wait(takes_ids: bool) -> None:
    with memory_server(Manner(success=b"", takes_ids=takes_ids, keeps=False)) as server:
        outcome = one(server)
        assert isinstance(outcome, Retry) and not outcome.whole_destination
        assert outcome.reason == "the server reported that it stored the ImagingStudy, but does not find it"
        assert server.transactions == 1


@pytest.mark.parametrize(
    "success",
    [
        b"OK",
        b"<html></html>",
        b'{"resourceType": "Patient"}',
        b'{"resourceType": "Bundle", "entry": [{}, {}, {}, {}]}',
    ],
)
def test_a_server_that_answers_with_something_else_is_not_down(success: bytes) -> None:
    with memory_server(Manner(success=success)) as server:
        outcome = one(server)
        assert isinstance(outcome, Retry) and not outcome.whole_destination
        again = one(server)
        assert isinstance(again, Delivered) and not again.written, "it took the study and shows it"
