"""Studies that are delivered one after another, and looked up at once before the first of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions, imaging_study_id
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Resource, Series, Study
from dicom2fhir.outcomes import Delivered, Job, Outcome, Refused, Retry
from tests.exchanges import recorded
from tests.memory_server import Manner, MemoryServer, memory_server
from tests.two_bridges import NAME, fhir_destination

OTHERS = {"system": "urn:ris", "value": "42"}
MANNERS = pytest.mark.parametrize(
    "manner",
    [
        pytest.param(Manner(checks_versions=True), id="version 0"),
        pytest.param(Manner(none_match=412), id="none match"),
        pytest.param(Manner(), id="ignores both"),
        pytest.param(Manner(takes_ids=False), id="chooses ids"),
    ],
)


def studies(count: int, patient: str = "") -> list[Study]:
    uids = [f"2.25.{uuid.uuid4().int}" for _ in range(count)]
    return [Study(uid, 1, {"PatientID": patient or uid[-16:]}, {}, (Series(f"{uid[:40]}.1", {}, ()),)) for uid in uids]


def jobs(made: list[Study]) -> list[Job]:
    return [Job(study, b"") for study in made]


class Meddled(MemoryServer):
    """Somebody else writes before the second transaction."""

    meddle: Callable[[MemoryServer], None] = staticmethod(lambda server: None)

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        if self.transactions == 1:
            self.meddle(self)
        return super().post(bundle)


@pytest.fixture
def meddled(request: pytest.FixtureRequest) -> Iterator[Callable[..., Meddled]]:
    servers: list[Meddled] = []

    def start(*args: Any) -> Meddled:
        servers.append(Meddled(*args))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def put(server: MemoryServer, resource: Resource) -> None:
    versions = server.versions.setdefault((resource["resourceType"], resource["id"]), [])
    versions.append({**resource, "meta": {"versionId": str(len(versions) + 1)}})


def test_one_batch_for_all_and_a_transaction_for_each() -> None:
    made = studies(8)
    with memory_server(Manner(checks_versions=True)) as server, recorded() as requests:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.ENSURE))
        first = list(destination.deliver_all(jobs(made)))
        assert requests == ["GET metadata", "batch", *["transaction"] * 8]
        requests.clear()
        grown = [replace(study, revision=2, series=(*study.series, Series("1.2", {}, ()))) for study in made]
        bases = [outcome.base for outcome in first if isinstance(outcome, Delivered)]
        second = list(destination.deliver_all([Job(*each) for each in zip(grown, bases, strict=True)]))
        assert requests == ["batch", *["transaction"] * 8]
        requests.clear()
        list(destination.deliver_all([Job(*each) for each in zip(grown, bases, strict=True)][:1]))
        assert requests == ["GET " + imaging_study_id(made[0].uid)], "one alone is looked up in its turn"
    assert all(isinstance(outcome, Delivered) and outcome.written for outcome in [*first, *second])
    assert len(server.all("ImagingStudy")) == len(server.all("Patient")) == 8
    assert {study["numberOfSeries"] for study in server.all("ImagingStudy")} == {2}


@MANNERS
def test_what_is_changed_between_look_up_and_write_is_not_lost(meddled: Callable[..., Meddled], manner: Manner) -> None:
    made = studies(3)

    def write(server: MemoryServer) -> None:
        (there,) = [found for found in server.all("ImagingStudy") if made[1].uid in str(found["identifier"])]
        put(server, {**there, "identifier": [*there["identifier"], OTHERS], "description": "theirs"})

    server = meddled(manner)
    destination = fhir_destination(FhirClient(server.url), MappingOptions())
    bases = [outcome.base for outcome in destination.deliver_all(jobs(made)) if isinstance(outcome, Delivered)]
    grown = [replace(study, revision=2, series=(*study.series, Series("1.2", {}, ()))) for study in made]
    server.transactions, server.meddle = 0, write
    outcomes = list(destination.deliver_all([Job(*each) for each in zip(grown, bases, strict=True)]))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(server.all("ImagingStudy")) == 3
    (there,) = [found for found in server.all("ImagingStudy") if made[1].uid in str(found["identifier"])]
    assert OTHERS in there["identifier"] and there["numberOfSeries"] == 2 and there["description"] == "theirs"


@MANNERS
def test_what_is_created_between_look_up_and_write_is_merged(meddled: Callable[..., Meddled], manner: Manner) -> None:
    made = studies(3)
    uid = made[1].uid

    def write(server: MemoryServer) -> None:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
        theirs = {"resourceType": "ImagingStudy", "id": imaging_study_id(uid), "identifier": [identifier, OTHERS]}
        put(server, {**theirs, "status": "available", "series": [{"uid": "1.9"}]})

    server = meddled(manner)
    server.meddle = write
    outcomes = list(fhir_destination(FhirClient(server.url), MappingOptions()).deliver_all(jobs(made)))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(server.all("ImagingStudy")) == 3
    (there,) = [found for found in server.all("ImagingStudy") if uid in str(found["identifier"])]
    assert OTHERS in there["identifier"] and {"1.9", made[1].series[0].uid} == {one["uid"] for one in there["series"]}


@MANNERS
@pytest.mark.parametrize("write", [Write.ENSURE, Write.UPSERT])
def test_studies_of_one_new_patient_create_it_once(manner: Manner, write: Write) -> None:
    with memory_server(manner) as server:
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=write))
        outcomes = list(destination.deliver_all(jobs(studies(4, patient="P1"))))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    (patient,) = server.all("Patient")
    assert {study["subject"]["reference"] for study in server.all("ImagingStudy")} == {f"Patient/{patient['id']}"}


class Unversioned(MemoryServer):
    """Ignores the versions that updates name."""

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        for entry in bundle["entry"]:
            entry["request"].pop("ifMatch", "")
        return super().post(bundle)


def test_what_one_study_says_of_a_patient_outlasts_the_next_on_a_server_without_versions() -> None:
    known, born, other = studies(3, patient="P1")
    born = replace(born, patient={**born.patient, "PatientBirthDate": "19700101"})
    other = replace(other, patient={**other.patient, "PatientSex": "F"})
    server = Unversioned(Manner())
    try:
        for made in ([known], [born, other]):
            destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=Write.UPSERT))
            assert all(isinstance(outcome, Delivered) for outcome in destination.deliver_all(jobs(made)))
        (patient,) = server.all("Patient")
    finally:
        server.close()
    assert (patient.get("birthDate"), patient.get("gender")) == ("1970-01-01", "female")


class Picky(MemoryServer):
    """Refuses or fails on one study."""

    def __init__(self, uid: str, status: int) -> None:
        self.uid, self.answer = uid, status
        super().__init__(Manner(checks_versions=True))

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        if self.uid in str(bundle):
            return self.answer, {"resourceType": "OperationOutcome", "issue": []}
        return super().post(bundle)


@pytest.mark.parametrize(("status", "expected"), [(422, Refused), (500, Retry)])
def test_the_failure_of_one_study_changes_nothing_for_the_others(status: int, expected: type[Outcome]) -> None:
    made = studies(4)
    server = Picky(made[1].uid, status)
    try:
        outcomes = list(fhir_destination(FhirClient(server.url), MappingOptions()).deliver_all(jobs(made)))
    finally:
        server.close()
    assert [type(outcome) for outcome in outcomes] == [Delivered, expected, Delivered, Delivered]
    assert len(server.all("ImagingStudy")) == 3


def test_a_fault_with_one_study_is_met_in_its_turn() -> None:
    made = studies(3)

    class Faulty(StudyMapper):
        def map(self, study: Study, dialect: Dialect) -> Mapped:
            if study.uid == made[1].uid:
                raise ZeroDivisionError
            return super().map(study, dialect)

    with memory_server(Manner(checks_versions=True)) as server:
        destination = FhirDestination(NAME, FhirClient(server.url), Faulty(MappingOptions()), DialectChoice())
        outcomes = destination.deliver_all(jobs(made))
        assert isinstance(next(outcomes), Delivered)
        with pytest.raises(ZeroDivisionError):
            next(outcomes)


def test_a_fault_in_the_joint_look_up_is_logged_and_costs_no_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("dicom2fhir.fhir.send.find.sought", fails)
    with memory_server(Manner(checks_versions=True)) as server:
        destination = fhir_destination(FhirClient(server.url), MappingOptions())
        outcomes = list(destination.deliver_all(jobs(studies(3))))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    said = capsys.readouterr().out
    assert said.count("server.batch_failed") == 1 and "KeyError" in said and "secret" not in said


def test_a_joined_search_that_goes_on_or_finds_something_else_is_not_believed() -> None:
    made = studies(3)

    class Odd(MemoryServer):
        def get(self, target: str) -> tuple[int, Resource]:
            status, found = super().get(target)
            if "ImagingStudy?" in target and target.count("urn%3Aoid") > 1:
                return status, {**found, "entry": [], "link": [{"relation": "next", "url": "next"}]}
            return status, found

    server = Odd(Manner(checks_versions=True))
    try:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{made[2].uid}"}
        put(server, {"resourceType": "ImagingStudy", "id": "theirs", "identifier": [identifier], "status": "available"})
        outcomes = list(fhir_destination(FhirClient(server.url), MappingOptions()).deliver_all(jobs(made)))
    finally:
        server.close()
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(server.all("ImagingStudy")) == 3 and ("ImagingStudy", "theirs") in server.versions
    assert len(server.versions["ImagingStudy", "theirs"]) == 2


def test_studies_with_an_accession_number_in_common_are_told_apart() -> None:
    order = {"AccessionNumber": "A,1|2", "StudyID": "1"}
    made = [replace(study, attrs=order) for study in studies(3, patient="P")]
    grown = [replace(study, revision=2, series=(*study.series, Series("1.2", {}, ()))) for study in made]
    with memory_server(Manner(checks_versions=True)) as server:
        for these in (made, grown):  # nothing is remembered of the first delivery
            outcomes = list(fhir_destination(FhirClient(server.url), MappingOptions()).deliver_all(jobs(these)))
            assert all(isinstance(outcome, Delivered) for outcome in outcomes), outcomes
        found = {study["id"]: study for study in server.all("ImagingStudy")}
    assert {imaging_study_id(study.uid) for study in made} == found.keys()
    for study in made:
        resource = found[imaging_study_id(study.uid)]
        assert resource["numberOfSeries"] == 2
        assert f"urn:oid:{study.uid}" in [identifier["value"] for identifier in resource["identifier"]]
