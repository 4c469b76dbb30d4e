"""FHIR XML before judges that are not ours: the official validators, which hold the order, and HAPI FHIR servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions, imaging_study_id
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.xml import dump_xml
from dicom2fhir.mapped_resources import Write
from dicom2fhir.outcomes import Delivered
from testdata.make_cases import studies_of
from testdata.make_dicom import encode
from tests.conformance_cases import as_written, golden_in
from tests.covering import covering, neighbours
from tests.servers.validator.validator import VERSIONS, Question, Validator

TIMEOUT_S = 60
SERVERS = ("dstu2", "dstu3", "r4", "r5")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_validator_finds_no_error(validator: Validator, tmp_path: Path, version: str) -> None:
    """In XML; of the content, the conformance tests let it judge every case."""
    written = [
        (f"{name}.{number}.xml", resource)
        for name, result in golden_in(version)
        for number, resource in enumerate(as_written([entry.resource for entry in result.entries]))
    ]
    questions = []
    for name, resource in covering(written, lambda one: neighbours(one[1])):
        path = tmp_path / name
        path.write_bytes(dump_xml(resource, version))
        questions.append(Question(version, path))
    assert len(questions) > 30
    errors = {
        question.resource: [str(error) for error in findings.errors]
        for question, findings in zip(questions, validator.check_all(questions), strict=True)
        if findings.errors
    }
    assert errors == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_validator_holds_the_order(validator: Validator, tmp_path: Path, version: str) -> None:
    """So what it says above means something."""
    path = tmp_path / "patient.xml"
    path.write_text('<Patient xmlns="http://hl7.org/fhir"><birthDate value="2000"/><gender value="male"/></Patient>')
    assert any("order" in error.message for error in validator.check(version, path).errors)


@pytest.mark.parametrize("server", SERVERS)
def test_a_destination_may_send_xml(hapi: Callable[[str], str], server: str) -> None:
    client = FhirClient(hapi(server), timeout_s=TIMEOUT_S)
    destination = FhirDestination(
        "server", client, StudyMapper(MappingOptions(patient=Write.UPSERT)), DialectChoice(), format_="xml"
    )
    name = uuid.uuid4().hex
    (study,) = studies_of([encode(instance("CT", name, 1, 1))])
    delivered = destination.deliver(study, b"")
    assert isinstance(delivered, Delivered), delivered
    (more,) = studies_of([encode(instance("CT", name, 1, number)) for number in (1, 2)])
    again = destination.deliver(more, delivered.base)
    assert isinstance(again, Delivered), again
    found = client.read("ImagingStudy", imaging_study_id(study.uid))
    assert found is not None
    assert found["numberOfInstances"] == 2
    assert again.written
    unchanged = destination.deliver(more, again.base, again=True)
    assert isinstance(unchanged, Delivered), unchanged
    assert (unchanged.base, unchanged.written) == (again.base, False)
