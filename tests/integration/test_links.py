"""Orders and encounters that a FHIR server has, or has not yet: what refers to them, and how that comes to change."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Retry
from tests.command_line import run_here
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, wait_until
from tests.integration.test_one_bad_file import send
from tests.memory_server import Failed, Manner, MemoryServer
from tests.scripted_server import Resource

ORDER, ENCOUNTER = {"system": "urn:oid:1.2.3", "value": "A1"}, {"system": "urn:oid:1.2.4", "value": "V1"}
STUDY = Study("1.2.1", 1, {"PatientID": "P1"}, {"AccessionNumber": "A1", "AdmissionID": "V1"}, ())
REFUSAL: Resource = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}


class Server(MemoryServer):
    """A server of which somebody else has orders and encounters.

    Attributes
    ----------
    refused
        Type -> status of the answer to each search for it.
    finds_all
        Whether searches are answered with all resources of the type.
    searched
        The types that were searched for.
    missing
        A literal reference that must not be written.
    """

    def __init__(self, **manner: Any) -> None:
        self.refused: dict[str, int] = {}
        self.finds_all = False
        self.missing = ""
        self.searched: set[str] = set()
        super().__init__(Manner(**manner))

    def _search(self, resource_type: str, query: str) -> list[Resource]:
        return self.all(resource_type) if self.finds_all else super()._search(resource_type, query)

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        if self.missing and f'"{self.missing}"' in json.dumps(entry):
            raise Failed(400)
        return super()._write(entry, ids)

    def get(self, target: str) -> tuple[int, Resource]:
        """The answer to a GET."""
        kind = target.removeprefix("/fhir/").partition("?")[0]
        self.searched.add(kind)
        status = self.refused.get(kind)
        return (status, REFUSAL) if status else super().get(target)

    def has(self, resource_type: str, resource_id: str, *identifiers: Resource, **more: Any) -> None:
        """Keep a resource with these identifiers and ``more``."""
        resource = {"resourceType": resource_type, "id": resource_id, "identifier": list(identifiers), **more}
        self.versions[resource_type, resource_id] = [resource]

    def references(self) -> tuple[Resource, Resource]:
        """To the order and to the encounter, of the one study."""
        (study,) = self.all("ImagingStudy")
        (order,) = study["basedOn"]
        return order, study["encounter"]

    def literals(self) -> tuple[str | None, str | None]:
        """Of these the literal references; their identifiers are there in any case."""
        order, encounter = self.references()
        assert order["identifier"]["value"] == "A1"
        assert encounter["identifier"]["value"] == "V1"
        return order.get("reference"), encounter.get("reference")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


class Bridge:
    """Delivers one study again and again, and remembers of it what the store would."""

    def __init__(self, server: Server) -> None:
        systems = NamingSystems(accession_number={"": ORDER["system"]}, admission_id={"": ENCOUNTER["system"]})
        policy = MappingOptions(systems=systems, linked=frozenset({"order", "encounter"}))
        self.destination = FhirDestination(
            "main",
            FhirClient(server.url),
            StudyMapper(policy),
            DialectChoice("R4"),
        )
        self.base = b""

    def deliver(self, again: bool = True) -> Delivered:
        outcome = self.destination.deliver(STUDY, self.base, again)
        assert isinstance(outcome, Delivered), outcome
        self.base = outcome.base
        return outcome


BOTH = ("Encounter", "ServiceRequest")


@pytest.fixture
def bridge(server: Server) -> Bridge:
    server.has("Patient", "p", {"value": "P1"})
    return Bridge(server)


def test_what_comes_later_is_referred_to_later(server: Server, bridge: Bridge) -> None:
    assert bridge.deliver().unlinked == BOTH
    assert server.literals() == (None, None)
    server.has("ServiceRequest", "r1", ORDER)
    unasked = bridge.deliver(again=False)
    assert (unasked.written, unasked.unlinked) == (False, BOTH), "nobody looked"
    assert bridge.deliver().unlinked == ("Encounter",)
    assert server.literals() == ("ServiceRequest/r1", None)
    server.has("Encounter", "e1", ENCOUNTER)
    assert bridge.deliver().unlinked == ()
    assert server.literals() == ("ServiceRequest/r1", "Encounter/e1")
    assert not bridge.deliver().written


def test_nothing_is_said_of_links_that_an_earlier_release_made(server: Server, bridge: Bridge) -> None:
    bridge.deliver()
    content = orjson.loads(zlib.decompress(bridge.base))
    del content["links"]
    bridge.base = zlib.compress(orjson.dumps(content))
    assert bridge.deliver(again=False).unlinked == ()
    assert bridge.deliver().unlinked == BOTH


def test_a_reference_follows_what_it_refers_to(server: Server, bridge: Bridge) -> None:
    server.has("ServiceRequest", "r1", ORDER)
    server.has("Encounter", "e1", ENCOUNTER)
    bridge.deliver()
    server.has("ServiceRequest", "r1")
    server.has("ServiceRequest", "r2", {"value": "other"}, ORDER)
    server.has("Encounter", "e1")
    assert "ServiceRequest" not in bridge.deliver().unlinked
    assert server.literals() == ("ServiceRequest/r2", None)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 422, 500, 501])
def test_what_may_not_be_looked_up_is_referred_to_by_identifier(server: Server, bridge: Bridge, status: int) -> None:
    server.has("ServiceRequest", "r1", ORDER)
    server.has("Encounter", "e1", ENCOUNTER)
    server.refused = dict.fromkeys(BOTH, status)
    assert bridge.deliver().unlinked == BOTH
    assert server.literals() == (None, None)
    server.refused = {}
    bridge.deliver()
    assert server.literals() == ("ServiceRequest/r1", "Encounter/e1")
    server.refused = dict.fromkeys(BOTH, status)
    assert not bridge.deliver().written, "what was found before stays"
    assert server.literals() == ("ServiceRequest/r1", "Encounter/e1")


@pytest.mark.parametrize("kind", ["ServiceRequest", "Patient"])
def test_a_server_that_does_not_know_us_is_no_server_without_orders(server: Server, bridge: Bridge, kind: str) -> None:
    """Nor is a study written without looking for its patient."""
    server.refused = {kind: 401 if kind == "ServiceRequest" else 403}
    assert isinstance(bridge.destination.deliver(STUDY, b""), Retry)
    assert not server.all("ImagingStudy")


def test_of_several_none_is_chosen(server: Server, bridge: Bridge) -> None:
    server.has("ServiceRequest", "r1", ORDER)
    bridge.deliver()
    server.has("ServiceRequest", "r2", ORDER)
    assert "ServiceRequest" in bridge.deliver().unlinked
    assert server.literals()[0] is None


def test_an_order_of_another_system_is_another_one(server: Server, bridge: Bridge) -> None:
    server.has("ServiceRequest", "r1", {"system": "urn:oid:1.2.9", "value": "A1"})
    server.has("ServiceRequest", "r2", {"value": "A1"})
    bridge.deliver()
    assert server.literals()[0] is None


def test_an_order_that_was_entered_in_error_is_none(server: Server, bridge: Bridge) -> None:
    server.has("ServiceRequest", "r1", ORDER, status="entered-in-error")
    server.has("Encounter", "e1", ENCOUNTER, status="entered-in-error")
    server.has("Encounter", "e2", ENCOUNTER, status="finished")
    assert bridge.deliver().unlinked == ("ServiceRequest",)
    assert server.literals() == (None, "Encounter/e2")


THE_OTHER = {"reference": "Patient/other"}
SUBJECTS: dict[str, tuple[Resource, bool]] = {
    "ours": ({"reference": "Patient/p"}, True),
    "ours, by address": ({"reference": "https://fhir.example/fhir/Patient/p"}, True),
    "another": (THE_OTHER, False),
    "another version of another": ({"reference": "Patient/other/_history/1"}, False),
    "another, by identifier": ({"identifier": {"value": "P2"}}, False),
    "ours, by identifier": ({"identifier": {"value": "P1"}}, True),
    "by an identifier of somebody else's": ({"identifier": {"system": "urn:oid:1.9", "value": "P2"}}, True),
    "one of whom nothing is known": ({"reference": "Patient/nameless"}, True),
    "one that is not there": ({"reference": "Patient/gone"}, True),
    "nobody": ({}, True),
}


@pytest.mark.parametrize("whose", SUBJECTS)
def test_an_order_of_another_patient_is_another_one(server: Server, bridge: Bridge, whose: str) -> None:
    """Two issuers use the same numbers, and neither they nor the server name themselves."""
    server.has("Patient", "other", {"value": "P2"})
    server.has("Patient", "nameless")
    subject, is_linked = SUBJECTS[whose]
    server.has("ServiceRequest", "r1", ORDER, subject=subject)
    server.has("Encounter", "e1", ENCOUNTER, subject=subject)
    assert bridge.deliver().unlinked == (() if is_linked else BOTH)
    assert server.literals() == (("ServiceRequest/r1", "Encounter/e1") if is_linked else (None, None))


def test_an_order_of_a_second_patient_with_our_identifier_is_ours(server: Server, bridge: Bridge) -> None:
    server.has("Patient", "twin", {"value": "P9"}, {"value": "P1"})
    server.has("ServiceRequest", "r1", ORDER, subject={"reference": "Patient/twin"})
    assert bridge.deliver().unlinked == ("Encounter", "Patient")
    assert server.literals()[0] == "ServiceRequest/r1"


def test_an_order_that_becomes_another_patient_s_is_referred_to_no_longer(server: Server, bridge: Bridge) -> None:
    server.has("Patient", "other", {"value": "P2"})
    server.has("ServiceRequest", "r1", ORDER, subject={"reference": "Patient/p"})
    bridge.deliver()
    server.has("ServiceRequest", "r1", ORDER, subject=THE_OTHER)
    assert "ServiceRequest" in bridge.deliver().unlinked
    assert server.literals()[0] is None


def test_a_server_that_finds_everything_finds_nothing(server: Server, bridge: Bridge) -> None:
    """One that ignores a search parameter (https://hl7.org/fhir/R4/search.html#errors)."""
    server.has("ServiceRequest", "r1", {"value": "other"})
    server.finds_all = True
    bridge.deliver()
    assert server.literals()[0] is None


def test_a_literal_reference_of_somebody_else_s_stays_alone(server: Server, bridge: Bridge) -> None:
    """Others may have linked the order by what we do not know; when we find it, that is one reference and not two."""
    bridge.deliver()
    (study,) = server.all("ImagingStudy")
    theirs = {"reference": "ServiceRequest/r1", "display": "CT thorax"}
    server.versions["ImagingStudy", study["id"]].append(
        {**study, "basedOn": [*study["basedOn"], theirs], "meta": {"versionId": "2"}}
    )
    server.has("ServiceRequest", "r1", ORDER)
    bridge.deliver()
    assert server.literals()[0] == "ServiceRequest/r1"
    assert server.references()[0]["display"] == "CT thorax"


@pytest.mark.parametrize("offers", [("ImagingStudy", "Patient"), ("ImagingStudy", "Patient", *BOTH), ()])
def test_a_server_is_not_asked_for_what_it_does_not_offer(offers: tuple[str, ...]) -> None:
    server = Server(offers=offers)
    try:
        assert Bridge(server).deliver().unlinked == (*BOTH[:1], "Patient", *BOTH[1:])
    finally:
        server.close()
    assert server.searched.isdisjoint(BOTH) == (offers == ("ImagingStudy", "Patient"))
    assert server.literals() == (None, None)


def test_what_a_server_lists_no_longer_is_still_referred_to(server: Server, bridge: Bridge) -> None:
    server.has("ServiceRequest", "r1", ORDER)
    base = bridge.deliver().base
    server.manner = Manner(offers=("ImagingStudy", "Patient"))
    restarted = Bridge(server)
    restarted.base = base
    assert "ServiceRequest" not in restarted.deliver().unlinked
    assert server.literals()[0] == "ServiceRequest/r1"


def test_a_reference_that_the_server_refuses_is_given_up(server: Server, bridge: Bridge) -> None:
    """The order may not be looked up and is gone: a server that checks references refuses the study that names it."""
    server.has("ServiceRequest", "r1", ORDER)
    bridge.deliver()
    server.refused = {"ServiceRequest": 403}
    server.missing = "ServiceRequest/r1"
    server.versions.pop(("ImagingStudy", server.all("ImagingStudy")[0]["id"]))
    bridge.deliver()
    assert server.literals()[0] is None


def test_relink_beside_a_daemon(server: Server, tmp_path: Path) -> None:
    """The orders come after the images; one of three studies has none to wait for."""
    settings = f"""
[systems]
accession_number_default = "{ORDER["system"]}"
admission_id_default = "{ENCOUNTER["system"]}"
[destinations.hospital]
url = "{server.url}"
patient = "ensure"
[destinations.files]
type = "file"
directory = "{tmp_path / "out"}"
"""
    daemon = DaemonProcess(tmp_path / "daemon", (), settings)
    daemon.start()

    def run(*arguments: str, status: int = 0, command: str = "relink") -> str:
        place = ("--config", daemon.config_path, "--state-dir", daemon.state_dir)
        done = run_here(command, *place, *arguments)
        assert done.status == status, done.stderr
        return done.stdout.decode() if status == 0 else done.stderr

    def due(*arguments: str) -> dict[str, int]:
        return dict(json.loads(run(*arguments, "--json"))["due"])

    def settled() -> bool:
        return all(delivery.state == "delivered" for one in daemon.studies().values() for delivery in one.deliveries)

    def basedon() -> list[str | None]:
        studies = sorted(server.all("ImagingStudy"), key=lambda study: str(study.get("description")))
        return [study["basedOn"][0].get("reference") if "basedOn" in study else None for study in studies]

    try:
        for name, number in (("a", "A1"), ("b", "A2"), ("c", "")):
            ours: dict[str, Any] = {"StudyDescription": name, "AccessionNumber": number}
            others = ("IssuerOfAccessionNumberSequence", "RequestAttributesSequence", "AdmissionID")
            ours |= dict.fromkeys(others)
            send(daemon, instance("CT", name, 1, 1, **ours))
        wait_until(lambda: len(daemon.studies()) == 3 and settled(), SETTLES_WITHIN_S, "all are delivered")
        assert basedon() == [None, None, None]
        assert "not found on the server, referred to by identifier: ServiceRequest" in " ".join(
            run(make_uid("a"), command="status").split()
        )
        nothing = {"hospital": 0, "files": 0}
        assert due("--since", "2100-01-01") == nothing
        assert due(make_uid("c")) == nothing, "it refers to nothing"
        assert due("--all", "--destination", "files") == {"files": 0}
        server.has("ServiceRequest", "r1", ORDER)
        assert due(make_uid("a")) == nothing | {"hospital": 1}
        wait_until(lambda: settled() and basedon()[0] is not None, SETTLES_WITHIN_S, "the first is linked")
        server.has("ServiceRequest", "r2", {**ORDER, "value": "A2"})
        shown = run("--since", "1h")
        assert shown.split() == ["Destination", "Due", "now", "files", "0", "hospital", "1"]
        wait_until(lambda: settled() and basedon()[1] is not None, SETTLES_WITHIN_S, "the second is linked")
        assert basedon() == ["ServiceRequest/r1", "ServiceRequest/r2", None]
        assert due("--all") == nothing
        assert "no study 1.2.3" in run("1.2.3", status=1)
        assert "no destination other" in run("--all", "--destination", "other", status=1)
        for wrong in ((), ("--all", "--since", "1h"), (make_uid("a"), "--all"), ("--since", "soon")):
            run(*wrong, status=2)
    finally:
        daemon.clean_up()
