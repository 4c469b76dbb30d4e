"""Encapsulated documents: what becomes of them on servers, and what never gets out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from dicom2fhir.demo.synthetic import code, instance
from dicom2fhir.dicom.study import assemble
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.version.dialects import DIALECTS, by_fhir_version
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Study
from testdata.make_cases import record_of, studies_of
from testdata.make_dicom import encode, encoded
from tests.integration.test_secondary import Bridge, study_of
from tests.memory_server import Failed, Manner, MemoryServer
from tests.scripted_server import Resource

FROM_STU3 = ("STU3", "R4", "R4B", "R5", "R6")
STUDY = study_of("documents")
ARCHIVE = "https://pacs.example/dicom-web"
CANARY = "Canary"
REPORTS_TOO = MappingOptions(diagnostic_reports="auto")


class Server(MemoryServer):
    """A server of R4 that may refuse documents."""

    refuses = False

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        if self.refuses and entry["resource"]["resourceType"] == "DocumentReference":
            raise Failed(422)
        return super()._write(entry, ids)

    def statuses(self) -> dict[str, str]:
        """SOP Instance UID -> status of each document."""
        return {one["masterIdentifier"]["value"]: one["status"] for one in self.all("DocumentReference")}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(Manner(offers=("ImagingStudy", "Patient", "DocumentReference"), checks_versions=True))
    yield made
    made.close()


@pytest.fixture
def bridge(server: Server) -> Bridge:
    return Bridge(server.url, "R4", dicomweb_url=ARCHIVE)


def document(**attributes: Any) -> Study:
    """A study of one encapsulated PDF."""
    made = instance("DOC", "one-document", EncapsulatedDocument=b"%PDF", **attributes)
    (study,) = studies_of([encode(made)])
    return study


def documents(mapped: Mapped) -> list[Resource]:
    resources = (one.entries[0].resource for one in mapped.secondary)
    return [resource for resource in resources if resource["resourceType"] == "DocumentReference"]


def of_one(study: Study, version: str = "R4", **options: Any) -> tuple[Resource, Mapped]:
    mapped = map_study(study, DIALECTS[version], MappingOptions(**options))
    (found,) = documents(mapped)
    return found, mapped


# What is made of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", DIALECTS)
def test_from_stu3_on(version: str) -> None:
    made = documents(map_study(STUDY, DIALECTS[version], MappingOptions()))
    assert len(made) == (6 if version in FROM_STU3 else 0)


@pytest.mark.parametrize("version", FROM_STU3)
def test_a_document_names_what_it_replaces_in_another_study(version: str) -> None:
    """By identifier, once; neither itself nor what is no document."""
    pdf, sr = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.88.11"
    own = document().series[0].instances[0].uid
    named = [(pdf, "1.2.3.4"), (pdf, "1.2.3.4"), (sr, "1.2.3.5"), (pdf, own)]
    references = [{"ReferencedSOPClassUID": kind, "ReferencedSOPInstanceUID": one} for kind, one in named]
    series = {"SeriesInstanceUID": "1.2.3.2", "ReferencedSOPSequence": references}
    predecessors = [{"StudyInstanceUID": "1.2.3.1", "ReferencedSeriesSequence": [series]}]
    found, _ = of_one(document(PredecessorDocumentsSequence=predecessors), version)
    (relation,) = found["relatesTo"]
    assert relation["target"]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4"}
    assert "replaces" in str(relation["code"])
    assert isinstance(relation["code"], str) is (version not in ("R5", "R6"))


@pytest.mark.parametrize("mime_type", ["application/pdf", "text/html", "<script>", "x" * 65, ""])
def test_the_kind_of_content_is_that_of_the_sop_class(mime_type: str) -> None:
    """MIME Type follows the content, and so is not even read: a sender cannot have a server call a PDF text/html."""
    found, _ = of_one(document(MIMETypeOfEncapsulatedDocument=mime_type, DocumentTitle="Letter"))
    assert found["content"][0]["attachment"]["contentType"] == "application/pdf"


@pytest.mark.parametrize(
    ("title", "flag", "expected"),
    [
        (("18748-4", "LN"), "VERIFIED", 1),
        (("125197", "DCM"), "VERIFIED", 1),
        (("18748-4", "LN"), "UNVERIFIED", 0),
        (("18748-4", "LN"), None, 0),
        (("57133-1", "LN"), "VERIFIED", 0),
        (("18748-4", "99SYN"), "VERIFIED", 0),
    ],
)
def test_only_a_verified_imaging_report_is_a_report(title: tuple[str, str], flag: str | None, expected: int) -> None:
    """A referral (57133-1), however well it is signed, is none."""
    study = document(ConceptNameCodeSequence=[code(*title, "Title")], VerificationFlag=flag)
    for version in ("R4", "R4B", "R5", "R6"):
        made = map_study(study, DIALECTS[version], MappingOptions(diagnostic_reports="auto")).secondary
        types = [one.entries[0].resource["resourceType"] for one in made]
        assert types.count("DiagnosticReport") == expected
        assert "DocumentReference" in types
        assert of_one(study, version)[1].secondary[0].entries[0].resource["resourceType"] == "DocumentReference"


@pytest.mark.parametrize("length", [0, 4, 4_294_967_295])
def test_no_size_is_believed(length: int) -> None:
    found, _ = of_one(document(EncapsulatedDocumentLength=length))
    assert found["content"][0]["attachment"].keys() == {"contentType"}


@pytest.mark.parametrize("version", FROM_STU3)
@pytest.mark.parametrize("title", ["<img src=x>", "a\x00b", "\x1b[31mred", "é" * 500, "x\\y\r\nz", "   "])
def test_a_hostile_title_is_text_or_nothing(version: str, title: str) -> None:
    found, _ = of_one(document(DocumentTitle=title, SpecificCharacterSet="ISO_IR 192"), version)
    words = found["type"]["text"]
    assert words.strip() == words != ""
    assert words == found["content"][0]["attachment"].get("title", "Encapsulated PDF")
    assert not {"\0", "\x1b"} & set(words)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.2.3^7", {"system": "urn:oid:1.2.3", "value": "7"}),
        ("1.2.3", {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}),
        ("1.2.3^", {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}),
        ("no root^7", None),
        ("^7", None),
        ("1.02^7", None),
    ],
)
def test_the_identifier_of_a_cda(written: str, expected: Resource | None) -> None:
    study = document(SOPClassUID=uid.EncapsulatedCDAStorage, HL7InstanceIdentifier=written)
    found, mapped = of_one(study)
    assert found.get("identifier", []) == ([expected] if expected else [])
    assert ("HL7InstanceIdentifier" in {note.where for note in mapped.notes}) is (expected is None)


def test_a_document_without_time_zone_is_not_written_where_a_moment_is_required() -> None:
    study = study_of("pdf-untitled")
    mapped = map_study(study, DIALECTS["STU3"], MappingOptions())
    assert documents(mapped) == []
    (said,) = (note.text for note in mapped.notes if note.where == "DocumentReference")
    assert "fhir.time_zone" in said


def test_names_of_persons_and_titles_are_in_no_note() -> None:
    study = document(
        PatientName=f"{CANARY}^Carla",
        PatientID=f"{CANARY}-1",
        DocumentTitle=f"Letter about {CANARY}",
        HL7InstanceIdentifier=f"{CANARY}^7",
        ContentTime="99",
        AcquisitionDateTime=CANARY,
    )
    for version in FROM_STU3:
        mapped = map_study(study, DIALECTS[version], MappingOptions())
        assert mapped.notes
        assert not any(CANARY in f"{note.where} {note.text}" for note in mapped.notes)


@given(order=st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    """One of the documents replaces another."""
    files = [record_of(data) for data in encoded("documents")]
    study = assemble(STUDY.uid, 1, [files[number] for number in order])
    dialect = DIALECTS["R5"]
    assert map_study(study, dialect, MappingOptions()) == map_study(STUDY, dialect, MappingOptions())


# On servers ----------------------------------------------------------------------------------------------------------


def test_a_server_that_refuses_documents_gets_the_study(server: Server, bridge: Bridge) -> None:
    server.refuses = True
    delivered = bridge.deliver(STUDY)
    assert len(server.all("ImagingStudy")) == 1
    assert server.statuses() == {}
    assert len(delivered.refused) == 6
    assert all(said.startswith("DocumentReference: ") and "422" in said for said in delivered.refused)
    server.refuses = False
    assert bridge.deliver(STUDY, again=True).refused == ()
    assert len(server.statuses()) == 6


def test_nothing_is_written_twice(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    versions = dict(server.versions)
    assert not bridge.deliver(STUDY, again=True).written
    bridge.base = b""  # the store was lost
    assert not bridge.deliver(STUDY).written
    assert server.versions == versions


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_document_is_superseded_whichever_comes_first(server: Server, bridge: Bridge, order: tuple[int, int]) -> None:
    files = encoded("documents")
    arrived: list[bytes] = []
    for number in order:
        arrived.append(files[number])
        (study,) = studies_of(arrived)
        bridge.deliver(study)
    assert sorted(server.statuses().values()) == ["current", "superseded"]
    (replaced,) = (one for one in server.all("DocumentReference") if one["status"] == "superseded")
    assert replaced["identifier"][0]["value"] == "77"


def test_switched_off_they_are_marked(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    off = Bridge(server.url, "R4", documents="never")
    off.base = bridge.base
    off.deliver(STUDY)
    assert set(server.statuses().values()) == {"entered-in-error"}


def test_a_server_that_does_not_offer_them_gets_the_study() -> None:
    server = Server(Manner(offers=("ImagingStudy", "Patient")))
    try:
        delivered = Bridge(server.url, "R4").deliver(STUDY)
        assert delivered.refused == ("DocumentReference: the server does not offer it",)
        assert len(server.all("ImagingStudy")) == 1
    finally:
        server.close()


@pytest.mark.parametrize("version", ["dstu3", "r4", "r5"])
def test_documents_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Taken with their content; sent twice, no new version; marked when they are gone, and back again."""
    url = hapi(version)
    client = FhirClient(url, timeout_s=60)
    dialect = by_fhir_version(client.capabilities().fhir_version)
    assert dialect is not None
    bridge = Bridge(url, dialect.name, dicomweb_url=ARCHIVE, diagnostic_reports="auto", embed_documents=1024)
    (study,) = studies_of(encoded("documents"), 1024)
    assert bridge.deliver(study).refused == ()
    found = on_server(client, dialect.name)
    reports = ["final"] if version != "dstu3" else []
    assert sorted(one["status"] for one in found) == [*["current"] * 5, *reports, "superseded"]
    assert str(found).count("'data':") == len(found)
    assert not bridge.deliver(study, again=True).written
    bridge.base = b""
    assert not bridge.deliver(study).written
    assert on_server(client, dialect.name) == found
    (only_images,) = studies_of([encode(instance("CT", "documents", 9))])
    bridge.deliver(only_images)
    assert {one["status"] for one in on_server(client, dialect.name)} == {"entered-in-error"}
    bridge.deliver(study)
    assert "entered-in-error" not in {one["status"] for one in on_server(client, dialect.name)}


def on_server(client: FhirClient, version: str) -> list[Resource]:
    client.speak(DIALECTS[version], "json")
    own = [one.entries[0] for one in map_study(STUDY, DIALECTS[version], REPORTS_TOO).secondary]
    return [found for one in own for found in client.search(one.resource["resourceType"], one.search)]
