"""How many requests a delivery takes, and servers whose batches cannot be relied upon."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import structlog

from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send import recognition
from dicom2fhir.fhir.send.capabilities import Capabilities, TypeCapabilities
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.queries import Question
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Resource, Series, Study
from dicom2fhir.outcomes import Delivered, Outcome, Refused, Retry
from tests.exchanges import recorded
from tests.memory_server import Manner, MemoryServer, memory_server
from tests.scripted_server import scripted_server
from tests.two_bridges import fhir_destination

PACS = "http://pacs.example/dicomweb"
REFUSED: Resource = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-supported"}]}
WRITES = pytest.mark.parametrize("patient", [Write.LINK, Write.ENSURE, Write.UPSERT])
IDS = pytest.mark.parametrize("ids", ["ours", "server's"])


def a_study(patient: str = "", series: int = 1) -> Study:
    uid = f"2.25.{uuid.uuid4().int}"
    return Study(uid, series, {"PatientID": patient or uid[-16:]}, {}, tuple(some_series(uid, series)))


def grown(study: Study) -> Study:
    return replace(study, revision=study.revision + 1, series=tuple(some_series(study.uid, len(study.series) + 1)))


def some_series(uid: str, count: int) -> Iterator[Series]:
    for number in range(1, count + 1):
        yield Series(f"{uid[:40]}.{number}", {"Modality": "CT"}, ())


class Choosing(FhirClient):
    """A server that says of itself that it takes no ids of ours."""

    def capabilities(self) -> Capabilities:
        offered = TypeCapabilities(update_create=False, conditional_create=True, conditional_update=True)
        return replace(super().capabilities(), types=dict.fromkeys(("ImagingStudy", "Patient"), offered))


def check_requests(client: FhirClient, patient: Write, dialect: str = "R4") -> None:
    destination = fhir_destination(client, MappingOptions(patient=patient), dialect)
    with recorded() as requests:
        destination.deliver(a_study(), b"")
        assert requests.pop(0) == "GET metadata"
        assert requests == ["batch", "transaction"], "the first study"
        requests.clear()
        study = a_study()
        first = destination.deliver(study, b"")
        assert isinstance(first, Delivered) and first.written
        assert requests == ["batch", "transaction"], "a new study"
        requests.clear()
        second = destination.deliver(grown(study), first.base)
        assert isinstance(second, Delivered) and second.written
        assert len(requests) == 2 and requests[1] == "transaction", "a study that has grown"
        requests.clear()
        third = destination.deliver(grown(study), second.base, again=True)
        assert isinstance(third, Delivered) and not third.written
        assert len(requests) == 1, "a look at what is there"


@WRITES
@IDS
def test_a_study_takes_two_requests(patient: Write, ids: str) -> None:
    with memory_server(Manner(checks_versions=True, takes_ids=ids == "ours")) as server:
        check_requests(FhirClient(server.url), patient)


@pytest.mark.parametrize(
    ("version", "dialect", "ids"),
    [("r4", "R4", "ours"), ("r4", "R4", "server's"), ("dstu2", "DSTU2", "ours")],  # there its id alone names a study
)
@WRITES
def test_a_study_takes_two_requests_of_hapi(
    hapi: Callable[[str], str], version: str, dialect: str, ids: str, patient: Write
) -> None:
    client = FhirClient if ids == "ours" else Choosing
    check_requests(client(hapi(version), timeout_s=60), patient, dialect)


@WRITES
def test_a_study_takes_two_requests_of_medplum(medplum: str, patient: Write) -> None:
    check_requests(FhirClient(medplum, timeout_s=60), patient)


@pytest.mark.parametrize("checks_versions", [False, True])
def test_a_study_that_its_search_does_not_find_is_found_by_our_id(checks_versions: bool) -> None:
    """Somebody took its identifier away; a creation is refused, or what is there is read before."""
    study = a_study()
    with memory_server(Manner(checks_versions=checks_versions)) as server:
        first = fhir_destination(FhirClient(server.url), MappingOptions()).deliver(study, b"")
        assert isinstance(first, Delivered)
        (theirs,) = server.all("ImagingStudy")
        changed = {**theirs, "identifier": [], "note": [{"text": "kept"}], "meta": {"versionId": "2"}}
        server.versions["ImagingStudy", theirs["id"]].append(changed)
        again = fhir_destination(FhirClient(server.url), MappingOptions()).deliver(grown(study), b"")
        assert isinstance(again, Delivered)
        (merged,) = server.all("ImagingStudy")
    assert (merged["numberOfSeries"], merged["note"]) == (2, [{"text": "kept"}])
    assert len(server.versions["ImagingStudy", theirs["id"]]) == 3


def test_an_answer_without_words_takes_a_third_one() -> None:
    with memory_server(Manner(success=b"", takes_ids=False)) as server, recorded() as requests:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE))
        assert isinstance(destination.deliver(a_study(), b""), Delivered)
    assert requests == ["GET metadata", "batch", "transaction", "batch"]


@pytest.mark.parametrize("interactions", [(), ("search-system",)])
def test_batches_that_are_not_offered_are_not_sent(interactions: tuple[str, ...]) -> None:
    with memory_server(Manner(interactions=interactions)) as server, recorded() as requests:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE))
        assert isinstance(destination.deliver(a_study(), b""), Delivered)
    assert requests == ["GET metadata", "GET ImagingStudy", *requests[2:5], "transaction"]


class Faulty(MemoryServer):
    """Answers single requests well, and batches in its own way."""

    def __init__(
        self, fault: Callable[[list[Resource]], tuple[int, Resource | bytes]], manner: Manner | None = None
    ) -> None:
        self.fault = fault
        super().__init__(manner or Manner())  # one that says nothing of versions is asked by id too

    def batch(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        answered = super().batch(bundle)[1]
        assert isinstance(answered, dict)
        return self.fault(answered["entry"])


def bundle(entries: object) -> Resource:
    return {"resourceType": "Bundle", "type": "batch-response", "entry": entries}


def failed_entries(status: str) -> Callable[[list[Resource]], tuple[int, Resource]]:
    return lambda entries: (200, bundle([{"response": {"status": status, "outcome": REFUSED}} for _ in entries]))


def of_type(resource_type: object) -> Resource:
    """An entry with a searchset of one resource."""
    found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": resource_type}}]}
    return {"response": {"status": "200"}, "resource": found}


def everything(entries: list[Resource]) -> tuple[int, Resource]:
    """As from a server that ignores parameters of searches for studies, and holds one of somebody else."""
    somebody: Resource = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "identifier": [{"system": "urn:dicom:uid", "value": "x"}],
    }
    found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": somebody}]}
    return 200, bundle([{**entries[0], "resource": found}, *entries[1:]])


FAULTS: dict[str, tuple[Callable[[list[Resource]], tuple[int, Resource | bytes]], int]] = {
    "400": (lambda _: (400, REFUSED), 1),
    "403": (lambda _: (403, b""), 1),
    "405 with words": (lambda _: (405, REFUSED), 1),
    "404 of a web server": (lambda _: (404, b"<html>"), 3),
    "409": (lambda _: (409, REFUSED), 1),
    "500": (lambda _: (500, b""), 3),
    "501": (lambda _: (501, REFUSED), 3),
    "503": (lambda _: (503, b""), 3),
    "nothing": (lambda _: (200, b""), 3),
    "text": (lambda _: (200, b"done"), 3),
    "a refusal in a 200": (lambda _: (200, REFUSED), 1),
    "no entries": (lambda _: (200, bundle([])), 1),
    "entries that are text": (lambda _: (200, bundle("text")), 1),
    "too few entries": (lambda entries: (200, bundle(entries[:-1])), 1),
    "too many entries": (lambda entries: (200, bundle(entries * 2)), 1),
    "another order": (lambda entries: (200, bundle(entries[::-1])), 1),
    "searches that find another type": (lambda entries: (200, bundle([of_type("Group") for _ in entries])), 1),
    "a type that is none": (lambda entries: (200, bundle([of_type(["Group"]) for _ in entries])), 3),
    "entries without a response": (lambda entries: (200, bundle([{} for _ in entries])), 3),
    "a status that is none": (failed_entries("2"), 3),
    "entries of 400": (failed_entries("400 Bad Request"), 3),
    "entries of 401": (failed_entries("401"), 3),
    "entries of 500": (failed_entries("500"), 3),
    "searches that match everything": (everything, 3),
}
"""And how many batches are tried at most."""


@pytest.mark.parametrize("fault", FAULTS)
def test_where_batches_do_not_work_single_requests_do(fault: str) -> None:
    answer, tries = FAULTS[fault]
    server = Faulty(answer)
    try:
        check_all_is_found(server, tries)
    finally:
        server.close()


def check_all_is_found(server: MemoryServer, tries: int) -> None:
    destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE, dicomweb_url=PACS))
    studies = [a_study("P1") for _ in range(5)]
    for study in studies[:2]:  # somebody else's, under an id that the server chose
        known = {"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}
        theirs: Resource = {"resourceType": "ImagingStudy", "id": f"n{study.uid[-20:]}", "identifier": [known]}
        server.versions["ImagingStudy", theirs["id"]] = [{**theirs, "meta": {"versionId": "1"}}]
    with structlog.testing.capture_logs() as logs, recorded() as requests:
        for study in studies:
            outcome = destination.deliver(study, b"")
            assert isinstance(outcome, Delivered) and outcome.written
    assert len(server.all("ImagingStudy")) == 5
    assert len(server.all("Patient")) == len(server.all("Endpoint")) == 1
    assert requests.count("batch") == tries
    assert [line["event"] for line in logs].count("server.batch_refused") == 1


def test_a_batch_in_another_order_makes_no_second_patient() -> None:
    study = a_study("P1")
    server = Faulty(lambda entries: (200, bundle(entries[::-1])), Manner(checks_versions=True))
    theirs: Resource = {"resourceType": "Patient", "id": "theirs", "identifier": [{"value": "P1"}]}
    server.versions["Patient", "theirs"] = [{**theirs, "meta": {"versionId": "1"}}]
    try:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE))
        delivered(destination.deliver(study, b""))
    finally:
        server.close()
    assert [patient["id"] for patient in server.all("Patient")] == ["theirs"]


def test_a_server_that_stumbles_keeps_its_batches() -> None:
    stumbles = iter([True, True, False, True, True, False])

    def answer(entries: list[Resource]) -> tuple[int, Resource | bytes]:
        return (500, b"") if next(stumbles) else (200, bundle(entries))

    server = Faulty(answer)
    try:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.LINK))
        with recorded() as requests:
            for _ in range(6):
                assert isinstance(destination.deliver(a_study(), b""), Delivered)
        assert requests.count("batch") == 6
    finally:
        server.close()


def test_a_new_release_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "_ASK_AGAIN_S", 0.0)
    releases = ["1", "1", "2"]

    class Upgraded(FhirClient):
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities(), software_version=releases.pop(0))

    server = Faulty(lambda _: (400, REFUSED))
    try:
        destination = fhir_destination(Upgraded(server.url), MappingOptions())
        with recorded() as requests:
            for batches in (1, 1, 2):
                destination.deliver(a_study(), b"")
                assert requests.count("batch") == batches
    finally:
        server.close()


def delivered(outcome: Outcome) -> Delivered:
    assert isinstance(outcome, Delivered), outcome
    return outcome


def delete_shared(server: MemoryServer) -> None:
    """As on a server that does not ask who refers to them."""
    for key in [key for key in server.versions if key[0] != "ImagingStudy"]:
        del server.versions[key]


@pytest.mark.parametrize("takes_ids", [True, False])
@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
def test_what_a_study_refers_to_comes_back_when_the_study_is_sent_again(takes_ids: bool, patient: Write) -> None:
    study = a_study("P1")
    with memory_server(Manner(takes_ids=takes_ids)) as server:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=patient, dicomweb_url=PACS))
        base = delivered(destination.deliver(study, b"")).base
        delete_shared(server)
        delivered(destination.deliver(study, base, again=True))
        (there,), (endpoint,) = server.all("Patient"), server.all("Endpoint")
        (written,) = server.all("ImagingStudy")
    assert written["subject"]["reference"] == f"Patient/{there['id']}"
    assert written["endpoint"][0]["reference"] == f"Endpoint/{endpoint['id']}"


def test_what_was_seen_on_the_server_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory_server(Manner()) as server:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE))
        delivered(destination.deliver(a_study("P1"), b""))
        delete_shared(server)
        monkeypatch.setattr(recognition, "_ASK_AGAIN_S", 0.0)
        delivered(destination.deliver(a_study("P1"), b""))
        assert len(server.all("Patient")) == 1


def test_studies_that_are_sent_again_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(2)

    class Meeting(FhirClient):
        meets = False

        def ask_all(self, questions: Sequence[Question]) -> list[list[Resource] | None]:
            if self.meets:
                together.wait(10)
            return super().ask_all(questions)

    with memory_server(Manner()) as server, ThreadPoolExecutor(2) as pool:
        client = Meeting(server.url)
        destination = fhir_destination(client, MappingOptions(patient=Write.ENSURE, dicomweb_url=PACS))
        studies = [a_study("P1"), a_study("P1")]
        bases = [delivered(destination.deliver(study, b"")).base for study in studies]
        client.meets = True
        running = [pool.submit(destination.deliver, *one, True) for one in zip(studies, bases, strict=True)]
        assert not any(delivered(one.result()).written for one in running)


class Refusing(MemoryServer):
    """Answers what is asked of one type with a status, alone and in a batch."""

    def __init__(self, resource_type: str, status: int) -> None:
        self.resource_type = resource_type
        self.refusal = status
        super().__init__(Manner(checks_versions=True))

    def get(self, target: str) -> tuple[int, Resource]:
        is_it = target.startswith(f"/fhir/{self.resource_type}")
        return (self.refusal, REFUSED) if is_it else super().get(target)


def refused_by(resource_type: str, status: int, patient: Write, dialect: str = "R4") -> tuple[Outcome, MemoryServer]:
    server = Refusing(resource_type, status)
    server.fhir_version = DIALECTS[dialect].fhir_version
    try:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=patient), dialect)
        study = replace(a_study(), attrs={"AccessionNumber": "A1"})
        with recorded() as requests:
            outcomes = [destination.deliver(study, b"", again=True) for _ in range(5)]
        assert requests.count("batch") >= 5, "the batch is not at fault"
        return outcomes[-1], server
    finally:
        server.close()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_lookup_that_fails_alone_too_makes_the_destination_wait(status: int) -> None:
    outcome, server = refused_by("ImagingStudy", status, Write.ENSURE)
    assert isinstance(outcome, Retry) and outcome.whole_destination
    assert server.transactions == 0


@pytest.mark.parametrize("status", [400, 422])
def test_a_lookup_that_is_refused_alone_too_refuses_the_study(status: int) -> None:
    outcome, server = refused_by("ImagingStudy", status, Write.ENSURE)
    assert isinstance(outcome, Refused) and outcome.issues[0].startswith(f"HTTP {status}")
    assert server.transactions == 0


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_order_that_may_not_be_looked_up_stands_inside_the_study(status: int) -> None:
    outcome, server = refused_by("DiagnosticOrder", status, Write.LINK, "DSTU2")
    assert isinstance(outcome, Delivered)
    (study,) = server.all("ImagingStudy")
    assert "DiagnosticOrder" in {inside["resourceType"] for inside in study["contained"]}


def test_several_matches_in_a_batch_are_ambiguous() -> None:
    with memory_server(Manner()) as server, recorded() as requests:
        study = a_study()
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}
        for name in ("a", "b"):
            theirs: Resource = {"resourceType": "ImagingStudy", "id": name, "identifier": [identifier]}
            server.versions["ImagingStudy", name] = [theirs]
        outcome = fhir_destination(FhirClient(server.url), MappingOptions()).deliver(study, b"")
    assert outcome == Refused(("several ImagingStudy resources on the server match: a, b",))
    assert requests == ["GET metadata", "batch"]


@pytest.mark.parametrize("is_away", [False, True])
def test_eight_workers_ask_at_the_same_time_what_the_server_can_do(is_away: bool) -> None:
    workers = 8
    everybody, may_answer = threading.Barrier(workers + 1), threading.Event()

    class Waiting(FhirClient):
        def capabilities(self) -> Capabilities:
            may_answer.wait()
            return super().capabilities()

    with scripted_server() as server, recorded() as requests, ThreadPoolExecutor(workers) as pool:
        server.is_away = is_away
        destination = fhir_destination(Waiting(server.url), MappingOptions())

        def deliver() -> Outcome:
            everybody.wait()
            return destination.deliver(a_study(), b"")

        running = [pool.submit(deliver) for _ in range(workers)]
        everybody.wait()
        may_answer.set()
        outcomes = [one.result() for one in running]
    assert {type(outcome) for outcome in outcomes} == {Retry if is_away else Delivered}
    if not is_away:
        assert requests.count("GET metadata") == 1
