"""What the real mapping makes, delivered to real servers of four FHIR versions, HAPI FHIR DSTU2 to R5."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import requests

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.send.capabilities import Capabilities, TypeCapabilities
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect, by_fhir_version
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered
from testdata.make_cases import studies_of
from testdata.make_dicom import encode

TIMEOUT_S = 60
VERSIONS = {"dstu2": "DSTU2", "dstu3": "STU3", "r4": "R4", "r5": "R5"}
EACH = pytest.mark.parametrize("version", VERSIONS)
UNKNOWN = TypeCapabilities(update_create=False, conditional_update=True)
"""Of a server that lets nobody choose ids."""


class Server(FhirClient):
    """The real server, which may pretend to choose ids itself."""

    def __init__(self, base_url: str, chooses_ids: bool = False) -> None:
        super().__init__(base_url, timeout_s=TIMEOUT_S)
        self.chooses_ids = chooses_ids

    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        return replace(found, types=dict.fromkeys(found.types, UNKNOWN)) if self.chooses_ids else found


def dialect_for(fhir_version: str) -> Dialect:
    found = by_fhir_version(fhir_version)
    assert found is not None
    return found


class Case:
    """A study that nobody else has, sent to one server."""

    def __init__(
        self, base_url: str, patient: Write = Write.LINK, chooses_ids: bool = False, name: str = "", **policy: Any
    ) -> None:
        self.client = Server(base_url, chooses_ids)
        self.name = name or uuid.uuid4().hex
        self.policy = MappingOptions(patient=patient, **policy)
        self.slices = 1
        self.dialect = dialect_for(self.client.capabilities().fhir_version)
        self.client.speak(self.dialect, "json")
        self.destination = FhirDestination("server", self.client, StudyMapper(self.policy), DialectChoice())

    def map_study(self, study: Study, dialect: Dialect) -> Mapped:
        return map_study(study, dialect, self.policy)

    def study(self) -> Study:
        made = [encode(instance("CT", self.name, 1, number + 1)) for number in range(self.slices)]
        (study,) = studies_of(made)
        return study

    def mapped(self) -> Mapped:
        return self.map_study(self.study(), self.dialect)

    def deliver(self, base: bytes = b"", again: bool = False) -> Delivered:
        outcome = self.destination.deliver(self.study(), base, again)
        assert isinstance(outcome, Delivered), outcome
        return outcome

    def search(self, kind: str) -> list[Resource]:
        (entry,) = [entry for entry in self.mapped().entries if entry.resource["resourceType"] == kind]
        return self.client.search(kind, entry.search)

    def on_server(self) -> Resource:
        """The one ImagingStudy of this study."""
        (found,) = self.search("ImagingStudy")
        return found

    def version(self) -> str:
        return str(self.on_server()["meta"]["versionId"])

    def subject(self) -> Resource:
        found = self.on_server()
        subject: Resource = found[self.dialect.elements["subject"].name]
        return subject

    def post(self, resource: Resource) -> Resource:
        """Create a resource as somebody else."""
        content = {key: value for key, value in resource.items() if key != "id"}
        return self._write("POST", resource["resourceType"], content)

    def put(self, resource: Resource) -> Resource:
        """Change a resource as somebody else."""
        return self._write("PUT", f"{resource['resourceType']}/{resource['id']}", resource)

    def _write(self, method: str, path: str, content: Resource) -> Resource:
        headers = {
            "Content-Type": self.dialect.media_type,
            "Accept": self.dialect.media_type,
            "Prefer": "return=representation",
        }
        url = f"{self.client.base_url}/{path}"
        response = requests.request(method, url, json=content, headers=headers, timeout=TIMEOUT_S)
        assert response.ok, response.text
        written: Resource = response.json()
        return written


@EACH
def test_the_version_is_recognised(hapi: Callable[[str], str], version: str) -> None:
    base = hapi(version)
    found = FhirClient(base, timeout_s=TIMEOUT_S).capabilities()
    assert dialect_for(found.fhir_version).name == VERSIONS[version]
    assert found.transaction
    statement = requests.get(f"{base}/metadata", params={"_format": "json"}, timeout=TIMEOUT_S).json()
    (study,) = (item for item in statement["rest"][0]["resource"] if item["type"] == "ImagingStudy")
    assert DIALECTS[VERSIONS[version]].search_by in {parameter["name"] for parameter in study["searchParam"]}


@EACH
@pytest.mark.parametrize("chooses_ids", [False, True], ids=["ours", "server's"])
@pytest.mark.parametrize("patient", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_create_then_one_slice_more_is_one_new_version(
    hapi: Callable[[str], str], version: str, patient: Write, chooses_ids: bool
) -> None:
    case = Case(hapi(version), patient, chooses_ids, dicomweb_url=f"http://pacs.example/{uuid.uuid4()}")
    first = case.deliver()
    assert first.written
    assert case.version() == "1"
    assert not case.deliver(first.base).written
    assert not case.deliver(first.base, again=True).written, "the server gives back what it was given"
    assert case.version() == "1"
    case.slices = 2
    second = case.deliver(first.base)
    study = case.on_server()
    assert second.written
    assert study["meta"]["versionId"] == "2"
    assert (study["id"] == case.mapped().entries[0].resource["id"]) is not chooses_ids
    assert study["numberOfInstances"] == len(study["series"][0]["instance"]) == 2
    patients = case.search("Patient")
    if patient is Write.LINK:
        assert patients == []
    else:
        assert [found["meta"]["versionId"] for found in patients] == ["1"]
        assert case.subject()["reference"] == f"Patient/{patients[0]['id']}"
    if "endpoint" in case.dialect.elements:
        (endpoint,) = case.search("Endpoint")
        assert [found["reference"] for found in study["endpoint"]] == [f"Endpoint/{endpoint['id']}"]
    else:
        assert study["url"].startswith(case.policy.dicomweb_url)


@EACH
def test_nothing_is_written_when_all_is_forgotten_but_the_server_has_it(
    hapi: Callable[[str], str], version: str
) -> None:
    case = Case(hapi(version), Write.UPSERT)
    case.deliver()
    again = Case(case.client.base_url, Write.UPSERT, name=case.name).deliver()
    assert (again.written, case.version()) == (False, "1")


@EACH
@pytest.mark.parametrize("chooses_ids", [False, True], ids=["ours", "server's"])
def test_a_study_that_somebody_else_posted_is_adopted(
    hapi: Callable[[str], str], version: str, chooses_ids: bool
) -> None:
    case = Case(hapi(version), chooses_ids=chooses_ids)
    ours = case.mapped().entries[0].resource
    named = ("resourceType", "uid") if "uid" in ours else ("resourceType", "identifier", "status")
    theirs = case.post({**{name: ours[name] for name in named}, "description": "theirs"})
    first = case.deliver()
    study = case.on_server()
    assert study["id"] == theirs["id"] != ours["id"]
    assert study["description"] == ours["description"]
    case.slices = 2
    case.deliver(first.base)
    assert (case.on_server()["id"], case.version()) == (theirs["id"], "3")


@EACH
def test_what_others_added_survives(hapi: Callable[[str], str], version: str) -> None:
    case = Case(hapi(version))
    first = case.deliver()
    study = case.on_server()
    series = study["series"][0]
    kept = {"url": "http://example.org/quality", "valueCode": "good"}
    study["identifier"] = [*study.get("identifier", []), {"system": "urn:ris", "value": "42"}]
    study["meta"] = {"tag": [{"system": "http://example.org", "code": "research"}]}
    series["extension"] = [kept]
    coding = {"system": "http://example.org", "code": "MR"}
    other_modality = {"coding": [coding]} if "coding" in series["modality"] else coding
    uid = f"{'urn:oid:' if series['uid'].startswith('urn:oid:') else ''}2.25.{uuid.uuid4().int}"
    study["series"].append({"uid": uid, "modality": other_modality, "numberOfInstances": 5})
    case.put(study)
    case.slices = 2
    case.deliver(first.base)
    merged = case.on_server()
    assert {"system": "urn:ris", "value": "42"} in merged["identifier"]
    assert kept in merged["series"][0]["extension"]
    assert [tag["code"] for tag in merged["meta"]["tag"]] == ["research"]
    assert [found["uid"] for found in merged["series"]] == [series["uid"], uid]
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (2, 7)
    name = case.dialect.elements["modality"].name
    assert merged[name] == [*case.mapped().entries[0].resource[name], other_modality]


@EACH
def test_a_patient_who_comes_later_is_referred_to_then(hapi: Callable[[str], str], version: str) -> None:
    """Until then by identifier; where a reference has none, by a Patient inside the study."""
    case = Case(hapi(version))
    (patient,) = [entry.resource for entry in case.mapped().entries if entry.resource["resourceType"] == "Patient"]
    first = case.deliver()
    identifiers = patient["identifier"]
    if "identifier" in case.dialect.reference_parts:
        assert "reference" not in case.subject()
        assert case.subject()["identifier"] == identifiers[0]
    else:
        (inside,) = [found for found in case.on_server()["contained"] if found["resourceType"] == "Patient"]
        assert case.subject()["reference"] == f"#{inside['id']}"
        assert inside["identifier"] == identifiers
    case.slices = 2
    second = case.deliver(first.base)
    assert case.version() == "2"
    known = case.post({"resourceType": "Patient", "identifier": identifiers[:1], "active": True})
    case.slices = 3
    third = case.deliver(second.base)
    assert case.subject()["reference"] == f"Patient/{known['id']}"
    assert not [found for found in case.on_server().get("contained", []) if found["resourceType"] == "Patient"]
    assert case.version() == "3"
    assert [found["meta"]["versionId"] for found in case.search("Patient")] == ["1"]
    case.post({"resourceType": "Patient", "identifier": identifiers[:1]})
    case.slices = 4
    case.deliver(third.base)
    assert not str(case.subject().get("reference", "")).startswith("Patient/"), "two match: neither is chosen"


class Ordered(Case):
    """A study whose slices name the accession numbers ``orders``, one each."""

    orders: tuple[str, ...] = ()
    more: Mapping[str, Any] = {"RequestAttributesSequence": None}
    """Further attributes of each slice."""

    def study(self) -> Study:
        (study,) = studies_of(
            encode(instance("CT", self.name, 1, n, AccessionNumber=order, **self.more))
            for n, order in enumerate(self.orders, start=1)
        )
        return study

    def finds(self, parameter: str, number: str) -> bool:
        """Whether the server finds the study by this search."""
        return [found["id"] for found in self.client.search("ImagingStudy", f"{parameter}={number}")] == [
            self.on_server()["id"]
        ]


@EACH
def test_a_study_stays_findable_by_each_accession_number(hapi: Callable[[str], str], version: str) -> None:
    """A later slice changes which number most of them name; nothing that was published may be lost by that."""
    case = Ordered(hapi(version), accession_identifier=True)
    first, second = (f"{prefix}{uuid.uuid4().hex[:12]}" for prefix in "BA")
    case.orders = (first,)
    base = case.deliver().base
    case.orders = (first, second, second)
    base = case.deliver(base).base
    if "accession" in case.dialect.elements:
        assert case.finds("accession", first)
        assert case.on_server()["identifier"][0]["value"] == second
    if version != "dstu2":  # its ImagingStudy has no search parameter identifier
        held = (first, second) if "accession" not in case.dialect.elements else (second,)
        assert all(case.finds("identifier", number) for number in held)
    stood = case.version()
    assert not case.deliver(base, again=True).written
    assert not case.deliver(again=True).written, "nor when nothing is remembered"
    assert case.version() == stood


def test_the_order_on_the_server_is_referred_to_else_one_inside_the_study(hapi: Callable[[str], str]) -> None:
    """By accession number; DSTU2 alone has ``order``, and search through it finds the study by every number."""
    case = Ordered(hapi("dstu2"), patient=Write.ENSURE, linked=frozenset({"order"}))
    known, unknown = sorted(f"A{uuid.uuid4().hex[:12]}" for _ in range(2))  # in the order in which they are written
    patient = case.post({"resourceType": "Patient", "active": True})
    subject = {"reference": f"Patient/{patient['id']}"}
    case.orders = (known, unknown)
    wanted = [entry.resource["identifier"] for entry in case.mapped().entries if entry.inside.startswith("order-")]
    order = case.post({"resourceType": "DiagnosticOrder", "subject": subject, "identifier": wanted[0]})
    base = case.deliver().base
    first, second = (reference["reference"] for reference in case.on_server()["order"])
    assert first == f"DiagnosticOrder/{order['id']}"
    (inside,) = [found for found in case.on_server()["contained"] if found["resourceType"] == "DiagnosticOrder"]
    assert (second.rpartition("#")[2], inside["identifier"][0]["value"]) == (inside["id"].lstrip("#"), unknown)
    assert inside["subject"]["reference"] == case.subject()["reference"]
    assert case.finds("order", order["id"])
    assert case.finds("order:DiagnosticOrder.identifier", known)

    later = case.post({"resourceType": "DiagnosticOrder", "subject": subject, "identifier": wanted[1]})
    case.deliver(base, again=True)
    assert [reference["reference"] for reference in case.on_server()["order"]] == [
        f"DiagnosticOrder/{found['id']}" for found in (order, later)
    ]
    assert not [found for found in case.on_server().get("contained", []) if found["resourceType"] == "DiagnosticOrder"]
    assert case.finds("order:DiagnosticOrder.identifier", unknown)


SOMEBODY_S: Mapping[str, Mapping[str, Resource]] = {
    "dstu3": {
        "ProcedureRequest": {"status": "active", "intent": "order", "code": {"text": "CT"}},
        "Encounter": {"status": "planned"},
    },
    "r4": {
        "ServiceRequest": {"status": "active", "intent": "order"},
        "Encounter": {"status": "planned", "class": {"code": "IMP"}},
    },
    "r5": {
        "ServiceRequest": {"status": "active", "intent": "order"},
        "Encounter": {"status": "planned", "class": [{"text": "inpatient"}]},
    },
}
"""Version -> type -> what such a resource must have besides subject and identifier."""


@pytest.mark.parametrize("version", SOMEBODY_S)
def test_a_search_for_the_order_or_the_encounter_finds_the_study(hapi: Callable[[str], str], version: str) -> None:
    """As soon as they are there and are looked for, and by the new one when an order moves to another resource."""
    case = Ordered(hapi(version), patient=Write.ENSURE, linked=frozenset({"order", "encounter"}))
    number = f"A{uuid.uuid4().hex[:12]}"
    case.orders, case.more = (number,), {"RequestAttributesSequence": None, "AdmissionID": number}
    first = case.deliver()
    assert first.unlinked == tuple(sorted(SOMEBODY_S[version]))
    encounter = case.dialect.elements["encounter"].name
    study = case.on_server()
    references = [study["basedOn"][0], study[encounter]]
    assert [(found.get("reference"), found["identifier"]["value"]) for found in references] == [(None, number)] * 2

    sought = [entry.resource for entry in case.mapped().entries if not entry.may_be_written]
    subject = {"reference": case.subject()["reference"]}
    theirs = {
        kind: case.post(
            {"resourceType": kind, "identifier": own["identifier"], "subject": subject, **SOMEBODY_S[version][kind]}
        )
        for own in sought
        for kind in [own["resourceType"]]
    }
    (order_type,) = theirs.keys() - {"Encounter"}
    based_on = "based-on" if version == "r5" else "basedon"
    order = theirs[order_type]
    second = case.deliver(first.base, again=True)
    assert second.unlinked == ()
    assert case.finds(based_on, f"{order_type}/{order['id']}")
    assert case.finds(encounter, f"Encounter/{theirs['Encounter']['id']}")
    assert case.finds(f"{based_on}:{order_type}.identifier", number)
    assert case.finds(f"{encounter}:Encounter.identifier", number)

    case.put({**order, "identifier": [{"value": f"old-{number}"}]})
    moved = case.post({key: value for key, value in order.items() if key != "meta"})
    case.deliver(second.base, again=True)
    assert case.finds(based_on, f"{order_type}/{moved['id']}")
    assert not case.client.search("ImagingStudy", f"{based_on}={order_type}/{order['id']}")


PEOPLE = {
    "referrer": "ReferringPhysicianName",
    "interpreter": "NameOfPhysiciansReadingStudy",
    "performer": "PerformingPhysicianName",
}
WITHOUT_CODES = (
    "ReferringPhysicianIdentificationSequence",
    "PhysiciansReadingStudyIdentificationSequence",
    "PerformingPhysicianIdentificationSequence",
)


@pytest.mark.parametrize(
    ("version", "parameters"),
    [("dstu3", ["performer"]), ("r4", ["referrer", "interpreter", "performer"]), ("r5", ["referrer", "performer"])],
)
def test_people_without_a_code_are_found_by_name(
    hapi: Callable[[str], str], version: str, parameters: Sequence[str]
) -> None:
    case = Ordered(hapi(version), patient=Write.ENSURE, referenced=frozenset({"Practitioner"}))
    names = {parameter: f"N{uuid.uuid4().hex[:12]}" for parameter in parameters}
    attributes = {PEOPLE[parameter]: f"{name}^Rita" for parameter, name in names.items()}
    case.orders, case.more = ("",), {**dict.fromkeys(WITHOUT_CODES), **attributes}
    case.deliver()
    for parameter, name in names.items():
        assert case.finds(f"{parameter}:Practitioner.name", name)
    other = Ordered(case.client.base_url, patient=Write.ENSURE, referenced=frozenset({"Practitioner"}))
    other.orders, other.more = case.orders, case.more
    other.deliver()
    for parameter, name in names.items():
        found = {found["id"] for found in case.client.search("ImagingStudy", f"{parameter}:Practitioner.name={name}")}
        assert found == {case.on_server()["id"], other.on_server()["id"]}
        assert len(case.client.search("Practitioner", f"name={name}")) == 1


@EACH
def test_what_was_sent_in_another_version_is_not_merged_with(hapi: Callable[[str], str], version: str) -> None:
    """The server was replaced by one of another version; what stood in the old one says nothing about the new one."""
    other = "r4" if version == "r5" else "r5"
    before = Case(hapi(other), chooses_ids=True)
    base = before.deliver().base
    case = Case(hapi(version), name=before.name)
    ours = case.mapped().entries[0].resource
    first = case.deliver()
    study = case.on_server()
    case.put({**study, "series": [{**study["series"][0], "description": "theirs"}]})
    outcome = Case(case.client.base_url, name=case.name).deliver(base)
    assert outcome.written
    assert case.on_server()["id"] == ours["id"]
    assert case.on_server()["series"][0]["description"] == ours["series"][0]["description"]
    assert case.version() == "3"
    assert first.written


@EACH
@pytest.mark.parametrize("patient", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_a_standalone_bundle_is_taken_and_taken_again(hapi: Callable[[str], str], version: str, patient: Write) -> None:
    case = Case(hapi(version), patient)
    for _ in range(2):
        case.client.transaction(standalone(case.mapped()))
        assert case.version() == "1"
    assert len(case.search("Patient")) == (0 if patient is Write.LINK else 1)


def test_an_id_that_another_server_gave_is_another_study_s_here(hapi: Callable[[str], str]) -> None:
    """The address of a destination was changed: the id of what was sent to the first server is taken on the second."""
    case = Case(hapi("r4"), chooses_ids=True)
    first = case.deliver()
    base = Base.from_bytes(first.base, "R4")
    other = Case(hapi("r4"), chooses_ids=True)
    other.deliver()
    taken = replace(base, remote_id=other.on_server()["id"]).to_bytes()
    case.slices = 2
    case.deliver(taken)
    assert (case.version(), other.version()) == ("2", "1")
    assert other.on_server()["numberOfInstances"] == 1
