"""Delivery against real FHIR servers: HAPI FHIR R4 and R5, and Medplum. Each test has identifiers of its own."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from dicom2fhir.errors import ServerRefused
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.send.capabilities import Capabilities, TypeCapabilities
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered, Refused, Retry
from tests.doubles import FunctionMapper
from tests.servers.outage_proxy import OutageProxy
from tests.two_bridges import WinnerLosingClient, check_complete, race

TIMEOUT_S = 60
HOSPITAL = "urn:oid:1.2.3.4"
VERSIONS = {"4.0.1": "R4", "5.0.0": "R5"}


@dataclass
class Case:
    """One study, mapped by hand."""

    base_url: str
    uid: str = field(default_factory=lambda: f"2.25.{uuid.uuid4().int}")
    patient_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    write: Write = Write.LINK
    instances: int = 1
    patient_name: str = "Doe"
    description: str = "Chest"
    endpoint: Entry | None = None
    client: FhirClient | None = None
    maps: int = 0

    def __post_init__(self) -> None:
        self.client = self.client or FhirClient(self.base_url, timeout_s=TIMEOUT_S)
        self.destination = FhirDestination("server", self.client, FunctionMapper(self.map_study), DialectChoice())

    @property
    def study_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.uid))

    @property
    def patient_search(self) -> str:
        return f"identifier={quote(f'{HOSPITAL}|{self.patient_id}', safe='')}"

    @property
    def study_search(self) -> str:
        return "identifier=" + ",".join(
            quote(f"urn:dicom:uid|{uid}", safe="") for uid in (f"urn:oid:{self.uid}", self.uid)
        )

    def patient(self) -> Resource:
        identifier = {"system": HOSPITAL, "value": self.patient_id}
        patient_id = str(uuid.uuid5(uuid.NAMESPACE_OID, self.patient_id))
        return {
            "resourceType": "Patient",
            "id": patient_id,
            "identifier": [identifier],
            "name": [{"family": self.patient_name}],
        }

    def map_study(self, study: Study, dialect: Dialect) -> Mapped:
        self.maps += 1
        patient = Entry(self.patient(), self.write, self.patient_search)
        coding = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}
        modality: Any = {"coding": [coding]} if dialect.name == "R5" else coding
        resource: Resource = {
            "resourceType": "ImagingStudy",
            "id": self.study_id,
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{self.uid}"}],
            "status": "available",
            "modality": [modality],
            "subject": {
                "reference": patient.placeholder,
                "type": "Patient",
                "identifier": patient.resource["identifier"][0],
            },
            "started": "2026-01-02",
            "numberOfSeries": 1,
            "numberOfInstances": self.instances,
            "description": self.description,
            "series": [
                {
                    "uid": f"{self.uid[:50]}.1",
                    "modality": modality,
                    "numberOfInstances": self.instances,
                    "instance": [
                        {
                            "uid": f"{self.uid[:50]}.1.{number}",
                            "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"},
                        }
                        for number in range(self.instances)
                    ],
                }
            ],
        }
        entries = [Entry(resource, Write.OWN, self.study_search), patient]
        if self.endpoint is not None:
            resource["endpoint"] = [{"reference": self.endpoint.placeholder, "type": "Endpoint"}]
            entries.append(self.endpoint)
        return Mapped(tuple(entries))

    def deliver(self, base: bytes = b"", again: bool = False) -> Delivered:
        outcome = self.destination.deliver(Study(self.uid, 1, {}, {}, ()), base, again)
        assert isinstance(outcome, Delivered), outcome
        return outcome

    def outcome(self, base: bytes = b"") -> object:
        return self.destination.deliver(Study(self.uid, 1, {}, {}, ()), base)

    def on_server(self) -> Resource:
        """The one ImagingStudy of this study."""
        found = search(self.base_url, f"ImagingStudy?{self.study_search}")
        assert len(found) == 1, [item["id"] for item in found]
        return found[0]

    def versions(self) -> int:
        """How often the ImagingStudy was written."""
        return versions(self.base_url, self.on_server())

    @property
    def takes_ids(self) -> bool:
        """Whether the server says that it may take our ids."""
        assert self.client is not None
        return self.client.capabilities().of("ImagingStudy").update_create is not False

    def patients(self) -> list[Resource]:
        return search(self.base_url, f"Patient?{self.patient_search}")


class Server(FhirClient):
    """The real server, with its capabilities changed, and something that happens just before a transaction."""

    def __init__(
        self,
        base_url: str,
        before: Callable[[], object] | None = None,
        types: Mapping[str, TypeCapabilities] | None = None,
    ) -> None:
        super().__init__(base_url, timeout_s=TIMEOUT_S)
        self.before = before
        self.types = types
        self.bundles: list[Resource] = []

    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        return found if self.types is None else replace(found, types=self.types)

    def transaction(self, bundle: Resource) -> list[Resource]:
        self.bundles.append(bundle)
        if self.before is not None:
            self.before()
        return super().transaction(bundle)


def search(base_url: str, query: str) -> list[Resource]:
    bundle = requests.get(f"{base_url}/{query}", timeout=TIMEOUT_S, headers={"Cache-Control": "no-cache"}).json()
    return [entry["resource"] for entry in bundle.get("entry", [])]


def versions(base_url: str, resource: Resource) -> int:
    """How many versions of a resource there are: HAPI numbers them, others have to be counted."""
    newest = str(resource["meta"]["versionId"])
    if newest.isdecimal():
        return int(newest)
    return len(search(base_url, f"{resource['resourceType']}/{resource['id']}/_history?_count=50"))


def version_named(base_url: str) -> str:
    """Of FHIR, as dialects are called."""
    return VERSIONS[FhirClient(base_url).capabilities().fhir_version]


def post(base_url: str, resource: Resource) -> Resource:
    response = requests.post(
        f"{base_url}/{resource['resourceType']}",
        json={key: value for key, value in resource.items() if key != "id"},
        headers={"Content-Type": "application/fhir+json", "Prefer": "return=representation"},
        timeout=TIMEOUT_S,
    )
    assert response.status_code == 201, response.text
    created: Resource = response.json()
    return created


def put(base_url: str, resource: Resource) -> None:
    response = requests.put(
        f"{base_url}/{resource['resourceType']}/{resource['id']}",
        json=resource,
        headers={"Content-Type": "application/fhir+json"},
        timeout=TIMEOUT_S,
    )
    assert response.ok, response.text


def delete(base_url: str, resource: Resource) -> None:
    response = requests.delete(f"{base_url}/{resource['resourceType']}/{resource['id']}", timeout=TIMEOUT_S)
    assert response.ok, response.text


def takes_dangling_references(base_url: str) -> bool:
    """Whether the server stores references to what is not there."""
    subject = {"reference": f"Patient/{uuid.uuid4()}"}
    study = {"resourceType": "ImagingStudy", "status": "available", "subject": subject}
    return requests.post(
        f"{base_url}/ImagingStudy", json=study, headers={"Content-Type": "application/fhir+json"}, timeout=TIMEOUT_S
    ).ok


def seen(case: Case) -> Resource:
    """The study as mapped, with nobody linked."""
    entry = standalone(case.map_study(Study(case.uid, 1, {}, {}, ()), DIALECTS["R4"]))["entry"][0]
    resource: Resource = entry["resource"]
    return resource


def test_create_then_one_slice_more_is_one_new_version(server: str) -> None:
    case = Case(server, write=Write.ENSURE)
    first = case.deliver()
    assert first.written
    assert case.versions() == 1
    again = case.deliver(first.base)
    assert (again.written, case.versions()) == (False, 1)
    case.instances = 2
    second = case.deliver(first.base)
    assert second.written
    study = case.on_server()
    assert case.versions() == 2
    assert (study["id"] == case.study_id) is case.takes_ids
    assert study["numberOfInstances"] == len(study["series"][0]["instance"]) == 2
    assert study["subject"]["reference"] == f"Patient/{case.patients()[0]['id']}"


def test_nothing_is_written_when_all_is_forgotten_but_the_server_has_it(server: str) -> None:
    case = Case(server, write=Write.UPSERT)
    first = case.deliver()
    again = Case(case.base_url, case.uid, case.patient_id, Write.UPSERT).deliver()
    assert (again.written, case.versions()) == (False, 1)
    assert versions(case.base_url, case.patients()[0]) == 1
    name = version_named(server)
    assert Base.from_bytes(again.base, name) == Base.from_bytes(first.base, name) != Base(dialect=name)


@pytest.mark.parametrize("prefix", ["urn:oid:", ""])
def test_a_study_that_somebody_else_posted_is_adopted(server: str, prefix: str) -> None:
    case = Case(server)
    foreign = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"{prefix}{case.uid}", "use": "official"}],
        "status": "registered",
        "subject": {"display": "somebody"},
        "note": [{"text": "kept"}],
    }
    theirs = post(case.base_url, foreign)
    first = case.deliver()
    study = case.on_server()
    assert study["id"] == theirs["id"] != case.study_id
    assert study["identifier"] == [{"use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{case.uid}"}]
    assert (study["status"], study["note"]) == ("available", [{"text": "kept"}])
    case.instances = 2
    case.deliver(first.base)
    assert case.on_server()["id"] == theirs["id"]
    assert case.versions() == 3


def test_what_others_added_survives(server: str) -> None:
    case = Case(server)
    first = case.deliver()
    study = case.on_server()
    study["note"] = [{"text": "seen by Dr. X"}]
    study["identifier"].append({"system": "urn:ris", "value": "42"})
    study["series"][0]["extension"] = [{"url": "http://example.org/quality", "valueCode": "good"}]
    study["meta"] = {"tag": [{"system": "http://example.org", "code": "research"}]}
    put(case.base_url, study)
    case.instances, case.description = 3, "Thorax"
    second = case.deliver(first.base)
    merged = case.on_server()
    assert (merged["description"], merged["numberOfInstances"]) == ("Thorax", 3)
    assert merged["note"] == study["note"]
    assert {"system": "urn:ris", "value": "42"} in merged["identifier"]
    assert merged["series"][0]["extension"] == study["series"][0]["extension"]
    assert [tag["code"] for tag in merged["meta"]["tag"]] == ["research"]
    case.description = ""  # what follows is about what we wrote ourselves
    case.destination = FhirDestination(
        "server",
        FhirClient(case.base_url),
        FunctionMapper(lambda *args: _without_description(case.map_study(*args))),
        DialectChoice(),
    )
    case.deliver(second.base)
    final = case.on_server()
    assert "description" not in final
    assert final["note"] == study["note"]
    assert len(final["identifier"]) == 2


def _without_description(mapped: Mapped) -> Mapped:
    study, *others = mapped.entries
    resource = {name: value for name, value in study.resource.items() if name != "description"}
    return Mapped((replace(study, resource=resource), *others))


def test_several_matches_are_refused_and_named(server: str) -> None:
    case = Case(server)
    ids = {post(server, seen(case))["id"] for _ in range(2)}
    outcome = case.outcome()
    assert isinstance(outcome, Refused)
    assert all(known in outcome.issues[0] for known in ids)


def test_somebody_who_writes_between_our_reading_and_writing_is_not_overwritten(server: str) -> None:
    case = Case(server)
    first = case.deliver()
    rivals = iter(["a", "b"])

    def rival() -> None:
        if text := next(rivals, None):
            study = case.on_server()
            put(case.base_url, {**study, "note": [*study.get("note", []), {"text": text}]})

    client = Server(case.base_url, before=rival)
    late = Case(case.base_url, case.uid, case.patient_id, instances=2, client=client)
    late.deliver(first.base)
    study = case.on_server()
    assert [note["text"] for note in study["note"]] == ["a", "b"]
    assert (study["numberOfInstances"], case.versions()) == (2, 4)


def test_somebody_who_always_writes_first_makes_us_wait(server: str) -> None:
    case = Case(server)
    first = case.deliver()

    def rival() -> None:
        put(server, {**case.on_server(), "note": [{"text": uuid.uuid4().hex}]})

    client = Server(server, before=rival)
    outcome = Case(server, case.uid, case.patient_id, instances=2, client=client).outcome(first.base)
    assert isinstance(outcome, Retry) and not outcome.whole_destination
    assert len(client.bundles) == 7


def test_a_patient_is_linked_to_when_known(server: str) -> None:
    case = Case(server)
    first = case.deliver()
    assert case.on_server()["subject"] == {"type": "Patient", "identifier": case.patient()["identifier"][0]}
    assert case.patients() == []
    known = post(case.base_url, {**case.patient(), "name": [{"family": "Known"}]})
    case.instances = 2
    second = case.deliver(first.base)
    assert case.on_server()["subject"]["reference"] == f"Patient/{known['id']}"
    assert case.patients()[0]["name"] == [{"family": "Known"}]
    post(case.base_url, case.patient())
    case.instances = 3
    case.deliver(second.base)
    assert "reference" not in case.on_server()["subject"], "two patients match: neither is chosen"


def test_a_patient_who_vanishes_between_search_and_write_is_looked_up_again(server: str) -> None:
    case = Case(server)
    patient = post(server, case.patient())
    vanishing = iter([lambda: delete(server, patient)])
    case = Case(
        server, case.uid, case.patient_id, client=Server(server, before=lambda: next(vanishing, lambda: None)())
    )
    case.deliver()
    assert ("reference" in case.on_server()["subject"]) is takes_dangling_references(server)


def test_ensure_creates_a_patient_once_and_never_changes_one(server: str) -> None:
    case = Case(server, write=Write.ENSURE)
    case.deliver()
    case.patient_name = "Changed"
    case.uid = f"2.25.{uuid.uuid4().int}"
    case.deliver()
    Case(case.base_url, patient_id=case.patient_id, write=Write.ENSURE, patient_name="Changed too").deliver()
    (patient,) = case.patients()
    assert versions(case.base_url, patient) == 1
    assert patient["name"] == [{"family": "Doe"}]


def test_upsert_changes_a_patient_and_keeps_what_others_added(server: str) -> None:
    case = Case(server, write=Write.UPSERT)
    theirs = {**case.patient(), "telecom": [{"system": "phone", "value": "1"}], "name": [{"text": "D."}]}
    known = post(case.base_url, theirs)
    first = case.deliver()
    (patient,) = case.patients()
    assert (patient["id"], versions(case.base_url, patient)) == (known["id"], 2)
    assert patient["telecom"] == theirs["telecom"]
    assert patient["name"] == [{"id": "dicom2fhir-name-1", "family": "Doe"}, {"text": "D."}]
    case.instances = 2  # the patient is known to be there as we have it: not looked at
    second = case.deliver(first.base)
    case.patient_name = "Roe"
    case.deliver(second.base)
    (patient,) = case.patients()
    assert patient["name"] == [{"id": "dicom2fhir-name-1", "family": "Roe"}, {"text": "D."}]


@pytest.mark.parametrize("write", [Write.ENSURE, Write.UPSERT])
def test_an_endpoint_shared_by_all_studies_is_written_once(server: str, write: Write) -> None:
    endpoint: Resource = {
        "resourceType": "Endpoint",
        "id": str(uuid.uuid4()),
        "status": "active",
        "connectionType": {"code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "address": f"http://pacs.example/{uuid.uuid4()}",
    }
    if not Case(server).takes_ids:
        assert isinstance(Case(server, endpoint=Entry(endpoint, write)).outcome(), Refused), "only its id identifies it"
        return
    for _ in range(3):  # a destination of its own each time: nothing is remembered
        case = Case(server, endpoint=Entry(endpoint, write))
        case.deliver()
        assert case.on_server()["endpoint"][0]["reference"] == f"Endpoint/{endpoint['id']}"
    case.uid = f"2.25.{uuid.uuid4().int}"
    case.deliver()
    url = f"{server}/Endpoint/{endpoint['id']}"
    assert requests.get(url, timeout=TIMEOUT_S).json()["meta"]["versionId"] == "1"


def test_a_study_that_was_deleted_comes_back(server: str) -> None:
    case = Case(server)
    first = case.deliver()
    delete(case.base_url, case.on_server())
    case.instances = 2
    second = case.deliver(first.base)
    assert case.on_server()["numberOfInstances"] == 2
    delete(case.base_url, case.on_server())
    theirs = post(case.base_url, seen(case))
    case.instances = 3
    case.deliver(second.base)
    assert case.on_server()["id"] == theirs["id"], "somebody else's is adopted then"


CONDITIONAL = TypeCapabilities(update_create=False, conditional_update=True)
CREATE_ONLY = TypeCapabilities(update_create=False)


@pytest.mark.parametrize("offered", [CONDITIONAL, CREATE_ONLY])
@pytest.mark.parametrize("write", [Write.ENSURE, Write.UPSERT])
def test_a_server_that_chooses_ids(server: str, offered: TypeCapabilities, write: Write) -> None:
    types = {"ImagingStudy": offered, "Patient": offered}
    case = Case(server, write=write, client=Server(server, types=types))
    first = case.deliver()
    study = case.on_server()
    assert study["id"] != case.study_id
    assert study["subject"]["reference"] == f"Patient/{case.patients()[0]['id']}"
    case.instances = 2
    second = case.deliver(first.base)
    assert (case.on_server()["id"], case.versions()) == (study["id"], 2)
    assert versions(case.base_url, case.patients()[0]) == 1
    assert not case.deliver(second.base).written


def test_what_was_changed_there_is_seen_when_it_is_sent_again(server: str) -> None:
    case = Case(server)
    first = case.deliver()
    study = case.on_server()
    study["description"] = "somebody else's words"
    FhirClient(server).transaction(bundle.transaction([bundle.update(study, f"urn:uuid:{study['id']}")]))
    assert not case.deliver(first.base).written
    again = case.deliver(first.base, again=True)
    assert again.written
    assert case.on_server().get("description") != "somebody else's words"
    assert not case.deliver(again.base, again=True).written


def test_a_server_that_does_not_say_and_refuses_our_ids(server: str) -> None:
    """HAPI takes no ids that are numbers only, so these stand for a server that takes none of ours."""

    class Numbered(Case):
        @property
        def study_id(self) -> str:
            return str(uuid.uuid5(uuid.NAMESPACE_OID, self.uid).int)

    case = Numbered(server)
    first = case.deliver()
    assert case.on_server()["id"] != case.study_id
    case.instances = 2
    case.deliver(first.base)
    assert case.versions() == 2


def test_a_creation_that_somebody_forestalls_is_merged(server: str) -> None:
    case = Case(server)
    rivals = iter([lambda: post(server, {**seen(case), "numberOfInstances": 7, "note": [{"text": "kept"}]})])
    client = Server(server, before=lambda: next(rivals, dict)(), types={"ImagingStudy": CREATE_ONLY})
    Case(server, case.uid, case.patient_id, client=client).deliver()
    study = case.on_server()
    assert (study["numberOfInstances"], study["note"]) == (1, [{"text": "kept"}])


@pytest.mark.parametrize("write", [Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("ids", ["ours", "server's"])
def test_eight_studies_of_one_new_patient_at_once(server: str, write: Write, ids: str) -> None:
    types = None if ids == "ours" else {"ImagingStudy": CONDITIONAL, "Patient": CONDITIONAL}
    uids = [f"2.25.{uuid.uuid4().int}" for _ in range(8)]
    case = Case(server, write=write, client=Server(server, types=types))
    cases = {uid: Case(case.base_url, uid, case.patient_id, write) for uid in uids}
    destination = FhirDestination(
        "server",
        Server(server, types=types),
        FunctionMapper(lambda study, d: cases[study.uid].map_study(study, d)),
        DialectChoice(),
    )
    start = threading.Barrier(len(uids))

    def deliver(uid: str) -> object:
        start.wait()
        return destination.deliver(Study(uid, 1, {}, {}, ()), b"")

    with ThreadPoolExecutor(len(uids)) as pool:
        outcomes = list(pool.map(deliver, uids))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes), outcomes
    (patient,) = case.patients()
    assert versions(case.base_url, patient) == 1
    assert {cases[uid].on_server()["subject"]["reference"] for uid in uids} == {f"Patient/{patient['id']}"}


def test_two_bridges_that_update_one_study_lose_nothing(server: str) -> None:
    """Not what is meant to be, but after a lease that ended too early it happens."""
    case = Case(server)
    first = case.deliver()
    start = threading.Barrier(4)

    def deliver(number: int) -> object:
        rival = Case(server, case.uid, case.patient_id, description=f"by {number}", instances=number)
        start.wait()
        return rival.outcome(first.base)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(deliver, range(2, 6)))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes), outcomes
    assert case.versions() == 5
    study = case.on_server()
    assert study["numberOfInstances"] == len(study["series"][0]["instance"]) == 5


STUDIES = int(os.environ.get("TWO_BRIDGES", "8"))
"""In the long form 200: ``TWO_BRIDGES=200 pytest -k two_bridges_that_create``."""


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        pytest.param(name, dialect, marks=pytest.mark.needs(name))
        for name, dialect in (("hapi", "R4"), ("hapi", "DSTU2"), ("medplum", "R4"))
    ],
)
@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
def test_two_bridges_that_create_one_study_lose_nothing(
    fhir_server: Callable[[str, str], str], tmp_path: Path, name: str, dialect: str, patient: Write
) -> None:
    """HAPI R4 checks versions; HAPI DSTU2 keeps what was replaced in the history; Medplum creates on a condition."""
    base_url = fhir_server(name, dialect.lower())
    studies = new_studies()
    assert race(tmp_path, base_url, studies, MappingOptions(patient=patient), dialect) == STUDIES
    check_all_complete(base_url, studies, dialect)


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("patient", [Write.ENSURE, Write.UPSERT])
def test_nothing_is_lost_with_the_answer_about_what_was_replaced(
    fhir_server: Callable[[str, str], str], tmp_path: Path, patient: Write
) -> None:
    base_url = fhir_server("hapi", "dstu2")
    studies = new_studies()
    race(tmp_path, base_url, studies, MappingOptions(patient=patient), "DSTU2", client=WinnerLosingClient)
    check_all_complete(base_url, studies, "DSTU2")


def new_studies() -> dict[str, str]:
    """Studies by their patient, two of each."""
    root = f"2.25.{uuid.uuid4().int}"[:40]
    return {f"{root}.{number}": f"{root[-12:]}-{number // 2}" for number in range(STUDIES)}


def check_all_complete(base_url: str, studies: Mapping[str, str], dialect: str) -> None:
    """That the server has each study once, complete, and with its Patient."""
    for uid, patient_id in studies.items():
        query = f"identifier=urn:dicom:uid|urn:oid:{uid}" if dialect == "R4" else f"study=urn:oid:{uid}"
        (study,) = search(base_url, f"ImagingStudy?{query}")
        check_complete(study, uid)
        (known,) = search(base_url, f"Patient?identifier={patient_id}")
        reference = study["subject" if dialect == "R4" else "patient"]["reference"]
        assert reference == f"Patient/{known['id']}"


def test_what_the_server_refuses_comes_with_its_words(server: str) -> None:
    case = Case(server)
    case.description = "wrong"

    def bad(study: Study, dialect: Dialect) -> Mapped:
        mapped = case.map_study(study, dialect)
        mapped.entries[0].resource["started"] = "yesterday"
        return mapped

    destination = FhirDestination(
        "server", FhirClient(server, timeout_s=TIMEOUT_S), FunctionMapper(bad), DialectChoice()
    )
    outcome = destination.deliver(Study(case.uid, 1, {}, {}, ()), b"")
    assert isinstance(outcome, Refused)
    assert outcome.issues[0].startswith("HTTP 400: error: ")
    assert "yesterday" in outcome.issues[0] or outcome.issues[0].endswith("(ImagingStudy.started)")


def test_an_unknown_version_is_the_destination_s_fault(server: str) -> None:
    case = Case(server)
    destination = FhirDestination("server", FhirClient(server), FunctionMapper(case.map_study), DialectChoice("STU3"))
    outcome = destination.deliver(Study(case.uid, 1, {}, {}, ()), b"")
    assert isinstance(outcome, Retry) and outcome.whole_destination
    assert (outcome.after_s, outcome.reason.startswith("The server uses FHIR ")) == (60.0, True)


def test_a_server_that_goes_away_and_comes_back(server: str, outage_proxy: Callable[[str], OutageProxy]) -> None:
    proxy = outage_proxy(server)
    case = Case(server, write=Write.ENSURE, client=FhirClient(proxy.url, timeout_s=TIMEOUT_S))
    first = case.deliver()
    proxy.go_away()
    case.instances = 2
    outcome = case.outcome(first.base)
    assert isinstance(outcome, Retry) and outcome.whole_destination
    proxy.come_back()
    assert case.deliver(first.base).written
    assert case.versions() == 2


@pytest.mark.parametrize("write", list(Write))
def test_a_standalone_bundle_is_taken_and_taken_again(server: str, write: Write) -> None:
    case = Case(server, write=write)
    study = Study(case.uid, 1, {}, {}, ())
    sent = standalone(case.map_study(study, DIALECTS[version_named(server)]))
    if not case.takes_ids:
        with pytest.raises(ServerRefused):
            FhirClient(server).transaction(sent)
        return
    for _ in range(2):
        FhirClient(server).transaction(sent)
        assert case.versions() == 1
    assert [patient["name"] for patient in case.patients()] == ([] if write is Write.LINK else [[{"family": "Doe"}]])


def test_a_conflict_in_the_study_is_not_sent(server: str) -> None:
    case = Case(server)
    conflicted = Study(case.uid, 1, {}, {}, (), conflict="two patients")
    assert case.destination.deliver(conflicted, b"") == Refused(("two patients",), answered=False)
    assert case.maps == 0
