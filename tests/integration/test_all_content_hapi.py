"""The golden cases on real servers of four FHIR versions, HAPI FHIR DSTU2 to R5.

The servers are this file's own, since the cases have identifiers that other tests use.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import pytest
import requests

from dicom2fhir.errors import NotExpressible, NothingToWrite
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.send.bundle import transaction, update
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.merge import canonical
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.jobs.conversion import as_resources
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered, Outcome, Refused
from testdata.make_cases import CASES, mapped
from tests.conformance_cases import golden_in
from tests.covering import codes, covering, neighbours
from tests.doubles import FunctionMapper
from tests.servers.process import ServerProcess

TIMEOUT_S = 60
VERSIONS = {"dstu2": "DSTU2", "dstu3": "STU3", "r4": "R4", "r5": "R5"}

OF_LATER_EDITIONS = {
    **dict.fromkeys(
        ("documents", "documents-as-reports", "documents-embedded", "documents-off", "pdf", "pdf-untitled"), "DOC"
    ),
    "photoacoustic": "PA",
}
"""Golden case -> its modality; the DICOM codes that come with STU3 and R4 are older (PS3.16 CID 29)."""
CROSS_VERSION = "is not valid (invalid Version '3.0')"
"""HAPI's validator knows no extension of another FHIR version, which is how R4 and later say an availability that is
stated (https://hl7.org/fhir/R4/versions.html#extensions); the official validator accepts it."""

pytestmark = [pytest.mark.needs("hapi"), pytest.mark.timeout(400)]


@dataclass
class Server:
    """A server with the golden cases of its version; what it said to each is in ``outcomes``."""

    dialect: Dialect
    base_url: str
    outcomes: dict[str, Outcome]

    @property
    def validating_url(self) -> str:
        """Where it refuses what HL7's validator calls an error."""
        return self.base_url.replace("/fhir", "/validating")


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    process = ServerProcess("hapi", request.param, HAPI_VALIDATE="1")
    process.start()
    try:
        made = Server(DIALECTS[VERSIONS[request.param]], process.base_url, {})
        deliver_all(made)
        yield made
    finally:
        process.stop()


def deliver_all(server: Server) -> None:
    """Deliver cases that have, together, all content."""
    expressible = {}
    for case in CASES:
        with suppress(NotExpressible, NothingToWrite):
            expressible[case] = mapped(case, server.dialect.name)

    def parts(case: str) -> Iterable[Hashable]:
        return chain.from_iterable(codes(entry.resource) for entry in expressible[case].entries)

    different = covering(expressible, parts)
    deliveries = {f"{case}, linked": with_patient(expressible[case], Write.LINK) for case in different[::5]}
    deliveries |= {case: with_patient(expressible[case], Write.UPSERT) for case in different}
    destination = FhirDestination(
        "server",
        FhirClient(server.validating_url, timeout_s=2 * TIMEOUT_S),
        FunctionMapper(lambda study, _: deliveries[study.uid]),
        DialectChoice(),
    )
    for label in deliveries:
        server.outcomes[label] = destination.deliver(Study(label, 1, {}, {}, ()), b"")


def with_patient(mapped: Mapped, write: Write) -> Mapped:
    return Mapped(
        tuple(
            replace(entry, write=write) if entry.resource["resourceType"] == "Patient" else entry
            for entry in mapped.entries
        )
    )


def test_a_server_that_validates_takes_all_content(server: Server) -> None:
    """Its validator is HL7's own, which the conformance tests let judge every case; here, what is in no case before."""
    refused, count = {}, 0
    for label, outcome in server.outcomes.items():
        case = label.removesuffix(", linked")
        unknown = f"Unknown code 'http://dicom.nema.org/resources/ontology/DCM#{OF_LATER_EDITIONS.get(case)}'"
        match outcome:
            case Delivered(_, written):
                count += written
            case Refused(issues) if all(unknown in issue for issue in issues if ": error: " in issue):
                assert server.dialect.name in ("STU3", "R4")
            case Refused(issues) if all(CROSS_VERSION in issue for issue in issues if ": error: " in issue):
                assert case.startswith(("local-codes", "availability", "rejected"))
            case _:
                refused[label] = outcome
    assert refused == {}
    assert count >= 30
    invalid = {"resourceType": "ImagingStudy", "id": str(uuid.uuid4()), "series": [{}]}
    response = requests.put(
        f"{server.validating_url}/ImagingStudy/{invalid['id']}",
        json=invalid,
        headers={"Content-Type": server.dialect.media_type},
        timeout=TIMEOUT_S,
    )
    assert response.status_code == 422, "it does validate"


def test_a_server_holds_what_was_sent_in_xml(server: Server) -> None:
    client = FhirClient(server.base_url, timeout_s=TIMEOUT_S)
    client.speak(server.dialect, "xml")
    different = []
    cases = [(name, as_resources(result)) for name, result in golden_in(server.dialect.name)]
    for name, sent in covering(cases, lambda case: chain.from_iterable(map(neighbours, case[1]))):
        client.transaction(transaction(update(resource, f"urn:uuid:{resource['id']}") for resource in sent))
        for resource in sent:
            found = client.read(resource["resourceType"], resource["id"])
            if found is None or canonical(without_meta(found)) != canonical(without_meta(resource)):
                different.append((name, resource["resourceType"]))
    assert different == []


def without_meta(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name != "meta"}
