"""Several studies that spell their patient differently and update one Patient: one name of ours, and all of others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom2fhir.errors import ServerUnavailable
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.merge import without_version
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.datatypes import deterministic_id
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered, Retry
from tests.memory_server import Manner, MemoryServer, memory_server
from tests.two_bridges import fhir_destination

SPELLINGS = ["Doe^Jane", "DOE^JANE", "Doe^Jane^A", "Doe-Roe^Jane=山田^花子", "Doe"]
UPSERT = MappingOptions(patient=Write.UPSERT)
MANNERS = {
    "ids of ours": Manner(checks_versions=True),
    "versions are not checked": Manner(),
    "ids of its own": Manner(takes_ids=False),
    "no bodies": Manner(success=b""),
}
OTHERS = {"telecom": [{"system": "phone", "value": "1"}], "name": [{"use": "maiden", "family": "Smith"}]}


def study_of(number: int, patient_id: str, name: str, revision: int = 1) -> Study:
    """One of the studies of a patient, without instances."""
    return Study(f"1.2.826.0.2.{number}", revision, {"PatientID": patient_id, "PatientName": name}, {}, ())


def deliver(destination: FhirDestination, study: Study, base: bytes = b"", again: bool = False) -> Delivered:
    outcome = destination.deliver(study, base, again)
    assert isinstance(outcome, Delivered), outcome
    return outcome


def patient_of(url: str, patient_id: str) -> Resource:
    (patient,) = FhirClient(url).search("Patient", f"identifier=%7C{patient_id}")
    return patient


def names(patient: Resource) -> list[list[str]]:
    """Family and given names of each name, as the server has them."""
    return [[name.get("family", ""), *name.get("given", [])] for name in patient["name"]]


def fresh(url: str) -> FhirDestination:
    """A destination of a bridge that remembers nothing."""
    return fhir_destination(FhirClient(url), UPSERT)


REAL = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("hapi", "medplum")]


@pytest.fixture(params=[*MANNERS, *REAL])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Base of a FHIR server, real or of each manner."""
    if request.param not in MANNERS:
        yield request.getfixturevalue("fhir_server")(request.param, "r4")
        return
    with memory_server(MANNERS[request.param]) as server:
        yield server.url


@pytest.fixture
def patient_id() -> str:
    return f"P{uuid.uuid4().hex[:12]}"


def put(url: str, resource: Resource) -> None:
    entry = bundle.update(without_version(resource), f"urn:uuid:{uuid.uuid4()}")
    FhirClient(url).transaction(bundle.transaction([entry]))


def add_what_others_know(url: str, patient_id: str) -> None:
    """Somebody else adds a telecom and another name to the Patient."""
    patient = patient_of(url, patient_id)
    patient = patient | OTHERS | {"name": [*patient["name"], *OTHERS["name"]]}
    put(url, patient)


def check(url: str, patient_id: str, ours: list[list[str]]) -> None:
    patient = patient_of(url, patient_id)
    assert names(patient) == [*ours, ["Smith"]]
    assert patient["telecom"] == OTHERS["telecom"]
    assert patient["name"][-1] == OTHERS["name"][0]


def test_of_five_spellings_the_last_stands(url: str, patient_id: str) -> None:
    destination = fresh(url)
    bases = [deliver(destination, study_of(0, patient_id, SPELLINGS[0])).base]
    add_what_others_know(url, patient_id)
    for number, spelling in enumerate(SPELLINGS[1:], 1):
        bases.append(deliver(destination, study_of(number, patient_id, spelling)).base)
    check(url, patient_id, [["Doe"]])
    for number in (3, 1, 4, 0, 2):
        deliver(destination, study_of(number, patient_id, SPELLINGS[number]), bases[number], again=True)
    check(url, patient_id, [["Doe", "Jane", "A"]])
    deliver(destination, study_of(3, patient_id, SPELLINGS[3]), bases[3], again=True)
    check(url, patient_id, [["Doe-Roe", "Jane"], ["山田", "花子"]])
    deliver(destination, study_of(1, patient_id, "Roe^Jane", revision=2), bases[1])
    check(url, patient_id, [["Roe", "Jane"]])


def test_a_bridge_that_knows_nothing_leaves_one_name(url: str, patient_id: str) -> None:
    """A store that is lost, and a second bridge: nothing tells but what stands on the server."""
    deliver(fresh(url), study_of(0, patient_id, SPELLINGS[0]))
    add_what_others_know(url, patient_id)
    for number, spelling in enumerate(SPELLINGS):
        deliver(fresh(url), study_of(number, patient_id, spelling))
    check(url, patient_id, [["Doe"]])


def test_studies_at_the_same_time_leave_one_name(url: str, patient_id: str) -> None:
    """Through two bridges, with two workers each."""
    deliver(fresh(url), study_of(9, patient_id, "Doe"))
    add_what_others_know(url, patient_id)
    bridges = [fresh(url), fresh(url)]
    tasks = [(bridges[number % 2], study_of(number, patient_id, f"Doe{number}")) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda task: deliver(*task), tasks))
    ours, others = names(patient_of(url, patient_id))
    check(url, patient_id, [ours])
    assert ours[0].startswith("Doe") and others == ["Smith"]


class Losing(FhirClient):
    """Every answer to a transaction is lost, which the server has carried out."""

    def transaction(self, bundle: Resource) -> list[Resource]:
        super().transaction(bundle)
        raise ServerUnavailable("the answer is lost")


def test_a_lost_answer_leaves_one_name(url: str, patient_id: str) -> None:
    deliver(fresh(url), study_of(0, patient_id, "Doe"))
    add_what_others_know(url, patient_id)
    lost = fhir_destination(Losing(url), UPSERT).deliver(study_of(1, patient_id, "Roe"), b"")
    assert isinstance(lost, Retry)
    deliver(fresh(url), study_of(2, patient_id, "Low"))
    check(url, patient_id, [["Low"]])


def test_what_an_earlier_release_wrote_goes_with_the_study_that_it_wrote_it_for(url: str, patient_id: str) -> None:
    """It set no marks; what it wrote for a study is in the study's base."""
    first = deliver(fresh(url), study_of(0, patient_id, "Doe"))
    add_what_others_know(url, patient_id)
    patient = patient_of(url, patient_id)
    patient["name"] = [{key: value for key, value in name.items() if key != "id"} for name in patient["name"]]
    put(url, patient)
    deliver(fresh(url), study_of(1, patient_id, "Doe"))
    check(url, patient_id, [["Doe"]])
    deliver(fresh(url), study_of(0, patient_id, "Roe", revision=2), first.base)
    check(url, patient_id, [["Roe"]])


def test_a_name_that_was_written_without_a_mark_is_known_by_the_first_version(url: str, patient_id: str) -> None:
    """Patients are updated now, and were only created before."""
    created = fhir_destination(FhirClient(url), MappingOptions(patient=Write.ENSURE))
    deliver(created, study_of(0, patient_id, "Doe"))
    add_what_others_know(url, patient_id)
    patient = patient_of(url, patient_id)
    deliver(fresh(url), study_of(1, patient_id, "Roe"))
    is_ours = patient["id"] == deterministic_id("Patient", "", patient_id)
    if is_ours:
        check(url, patient_id, [["Roe"]])
    else:  # where the server chooses ids anybody may have created it
        check(url, patient_id, [["Roe"], ["Doe"]])


class Numbering(MemoryServer):
    """Gives the elements of names ids of its own, new ones in each version."""

    gives_ids = True

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        resource = entry["resource"]
        if resource["resourceType"] == "Patient":
            bare = [{key: value for key, value in name.items() if key != "id"} for name in resource["name"]]
            mine = [{"id": uuid.uuid4().hex} if self.gives_ids else {} for _ in bare]
            named = [name | own for name, own in zip(bare, mine, strict=True)]
            entry = {**entry, "resource": {**resource, "name": named}}
        return super()._write(entry, ids)


class Stripping(Numbering):
    """Keeps no ids of elements."""

    gives_ids = False


@pytest.mark.parametrize("kind", [Numbering, Stripping])
def test_on_a_server_that_keeps_no_marks_each_spelling_stands_once(kind: type[Numbering]) -> None:
    server = kind(Manner(takes_ids=False))
    try:
        for _ in range(3):
            for number, spelling in enumerate(SPELLINGS[:3]):
                deliver(fresh(server.url), study_of(number, "P", spelling))
        (patient,) = server.all("Patient")
        assert sorted(names(patient)) == [["DOE", "JANE"], ["Doe", "Jane"], ["Doe", "Jane", "A"]]
    finally:
        server.close()


@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("manner", [Manner(takes_ids=False), Manner(takes_ids=False, conditional=())])
def test_a_patient_without_an_id_is_contained_where_the_server_chooses_ids(
    patient: Write, dialect: str, manner: Manner
) -> None:
    with memory_server(manner) as server:
        server.fhir_version = DIALECTS[dialect].fhir_version
        destination = fhir_destination(FhirClient(server.url), MappingOptions(patient=patient), dialect)
        nameless = deliver(destination, study_of(0, "", "Doe^Jane"))
        (study,) = server.all("ImagingStudy")
        assert (study["contained"][0]["resourceType"], study["contained"][0]["id"]) == ("Patient", "patient")
        subject = study.get("subject") or study["patient"]
        assert subject["reference"] == "#patient"
        assert server.all("Patient") == []
        assert not deliver(destination, study_of(0, "", "Doe^Jane"), nameless.base, again=True).written
        deliver(destination, study_of(0, "P1", "Doe^Jane", revision=2), nameless.base)
        (study,), (known,) = server.all("ImagingStudy"), server.all("Patient")
        assert "contained" not in study
        assert (study.get("subject") or study["patient"])["reference"] == f"Patient/{known['id']}"
