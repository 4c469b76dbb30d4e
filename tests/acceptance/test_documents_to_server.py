"""Encapsulated documents over C-STORE: a DocumentReference beside the ImagingStudy, where a destination wants it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.model import Resource
from dicom2fhir.store.statuses import State
from testdata.make_dicom import encode
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.expectation import Server
from tests.acceptance.test_notices_to_server import store
from tests.daemon_process import SETTINGS, to_files, wait_until
from tests.memory_server import Manner, MemoryServer


@pytest.fixture
def name() -> str:
    """Of a test's own study: all tests share the servers."""
    return f"document {uuid4().hex[:8]}"


@pytest.fixture
def letter(name: str) -> list[Dataset]:
    return [instance("DOC", name, DocumentTitle="Letter", EncapsulatedDocument=b"%PDF-1.4", InstanceAvailability=None)]


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("version", ["r4", "r5"])
def test_a_document_is_at_the_server_that_wants_it(
    hapi: Callable[[str], str], version: str, daemon: StartDaemon, letter: list[Dataset], name: str, tmp_path: Path
) -> None:
    server = Server(hapi(version))
    files = to_files(tmp_path / "out")
    plan = f'[destinations.main]\nurl = "{server.base_url}"\n{files}'
    started = daemon(settings=f'{plan}[destinations.files.resources]\ndocuments = "never"\n')
    store(started, letter)
    started.settled()
    study = server.study(make_uid(name))
    uid = f"urn:dicom:uid|urn:oid:{letter[0].SOPInstanceUID}"

    def found() -> list[dict[str, object]]:
        return [entry["resource"] for entry in server._get("DocumentReference", identifier=uid).get("entry", [])]

    (document,) = found()
    assert (document["status"], document["type"]) == ("current", {"text": "Letter"})
    assert f"ImagingStudy/{study['id']}" in json.dumps(document)
    (bundle,) = (tmp_path / "out").glob("*.json")
    types = {entry["resource"]["resourceType"] for entry in json.loads(bundle.read_text())["entry"]}
    assert "ImagingStudy" in types
    assert "DocumentReference" not in types
    store(started, letter)
    started.settled()
    assert found() == [document]


def test_the_content_is_at_each_destination_whatever_the_way_in(
    daemon: StartDaemon, letter: list[Dataset], name: str, tmp_path: Path
) -> None:
    """Over C-STORE and from a folder, and at a destination that is added afterwards; what is too large goes without."""
    memory = MemoryServer(Manner(offers=("ImagingStudy", "Patient", "DocumentReference")))
    (tmp_path / "inbox").mkdir()
    inbox = f'[folders.inbox]\npath = "{tmp_path / "inbox"}"\nstable_s = 0.1\n'
    plan, head = f'{inbox}[destinations.main]\nurl = "{memory.url}"\n', SETTINGS.replace("[fhir]", EMBEDDING)
    try:
        started = daemon(settings=plan)
        assert started.reload(plan, head)["event"] == "config.reloaded"
        large = instance("DOC", name, 1, 3, EncapsulatedDocument=b"%PDF" * 5, InstanceAvailability=None)
        store(started, [*letter, large])
        found = instance("DOC", name, 1, 2, EncapsulatedDocument=b"%PDF-2.0", InstanceAvailability=None)
        (tmp_path / "inbox" / "letter.dcm").write_bytes(encode(found))
        expected = {letter[0].SOPInstanceUID: b"%PDF-1.4", found.SOPInstanceUID: b"%PDF-2.0", large.SOPInstanceUID: b""}
        wait_until(lambda: contents(memory.all("DocumentReference")) == expected, 60, "the documents are there")
        assert started.reload(plan + to_files(tmp_path / "out"), head)["event"] == "config.reloaded"
        wait_until(lambda: list((tmp_path / "out").glob("*.json")), 60, "the bundle is written")
        (bundle,) = (tmp_path / "out").glob("*.json")
        resources = [entry["resource"] for entry in json.loads(bundle.read_text())["entry"]]
        assert contents(one for one in resources if one["resourceType"] == "DocumentReference") == expected
    finally:
        memory.close()


EMBEDDING = "[fhir]\nembed_documents = 16"


def contents(documents: Iterable[Resource]) -> dict[str, bytes]:
    """SOP Instance UID -> content of each document."""
    return {
        one["masterIdentifier"]["value"].removeprefix("urn:oid:"): b64decode(
            one["content"][0]["attachment"].get("data", "")
        )
        for one in documents
    }


def test_status_names_what_a_server_does_not_take(daemon: StartDaemon, letter: list[Dataset], name: str) -> None:
    memory = MemoryServer(Manner(offers=("ImagingStudy", "Patient")))
    try:
        started = daemon(settings=f'[destinations.main]\nurl = "{memory.url}"')
        store(started, letter)
        started.settled()
        assert len(memory.all("ImagingStudy")) == 1
        (delivery,) = started.status(make_uid(name))["deliveries"]
        assert (delivery["state"], delivery["refused"]) == (
            State.DELIVERED,
            "DocumentReference: the server does not offer it",
        )
    finally:
        memory.close()
