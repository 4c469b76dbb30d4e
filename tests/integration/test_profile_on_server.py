"""A profile and what a server already has: a shared resource gets what the profile asks of it, and keeps the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered
from dicom2fhir.wiring import options
from tests.memory_server import Manner, MemoryServer
from tests.profile_helpers import study

URL = "https://pacs.example/dicom-web"
LOCATION = "https://profiles.ihe.net/RAD/MADO/StructureDefinition/MadoRetrieveLocationUIDExtension"


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    made = MemoryServer(Manner(none_match=412, checks_versions=True))
    yield made
    made.close()


def deliver(server: MemoryServer, made: Study, location_uid: str = "1.2.276.0.76.3") -> Delivered:
    policy = MappingOptions(patient=Write.ENSURE, dicomweb_url=URL, retrieve_location_uid=location_uid)
    profile = options.profile("mado")
    mapper = StudyMapper(policy, profile)
    outcome = FhirDestination("main", FhirClient(server.url), mapper, DialectChoice("R4", profile)).deliver(made, b"")
    assert isinstance(outcome, Delivered), outcome
    return outcome


def test_an_endpoint_of_before_gets_what_the_profile_requires_and_keeps_its_own(server: MemoryServer) -> None:
    before = {
        "resourceType": "Endpoint",
        "id": "archive",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": URL}],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{"text": "Images"}],
        "address": URL,
        "contact": [{"system": "phone", "value": "1"}],
    }
    server.versions["Endpoint", "archive"] = [before]
    made = study(StudyDescription="CT of the chest")
    assert deliver(server, made).unclaimed == ""
    (endpoint,) = server.all("Endpoint")
    assert (endpoint["id"], endpoint["contact"]) == ("archive", before["contact"])
    assert endpoint["extension"] == [{"url": LOCATION, "valueString": "1.2.276.0.76.3"}]
    assert "DICOM WADO-RS" in [payload.get("text") for payload in endpoint["payloadType"]]
    (on_server,) = server.all("ImagingStudy")
    assert on_server["series"][0]["endpoint"][0]["reference"] == "Endpoint/archive"
    deliver(server, replace(made, uid="1.2.77"))
    assert len(server.versions["Endpoint", "archive"]) == 2, "the next study has nothing to add to it"


def test_a_destination_says_why_what_it_has_does_not_claim_the_profile(server: MemoryServer) -> None:
    said = "does not claim profile mado: ImagingStudy.series.endpoint is missing"
    assert deliver(server, study(StudyDescription="CT"), location_uid="").unclaimed == said
    (on_server,) = server.all("ImagingStudy")
    assert "profile" not in on_server.get("meta", {})
