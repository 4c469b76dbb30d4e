"""Encapsulated documents over C-STORE: a DocumentReference beside the ImagingStudy, where a destination wants it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.store.base import State
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.expectation import Server
from tests.acceptance.test_notices_to_server import store
from tests.daemon_process import to_files
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
