"""What a destination got last of a study beside what it would get now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.comparison import Pair, compared
from dicom2fhir.fhir.send.directory import FileDestination
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Series, Study
from dicom2fhir.ops.changes import changes
from dicom2fhir.outcomes import Delivered, Job
from tests.integration.test_secondary import KO_SOP_CLASS, Bridge, Server, study_of
from tests.memory_server import Manner, memory_server
from tests.two_bridges import fhir_destination

STUDY = Study(
    "2.25.5",
    1,
    {"PatientID": "P1", "PatientName": "One"},
    {"AccessionNumber": "A1", "StudyDescription": "before"},
    (Series("2.25.5.1", {"Modality": "CT"}, ()),),
)
GROWN = replace(
    STUDY,
    attrs={**STUDY.attrs, "StudyDescription": "now"},
    series=(*STUDY.series, Series("2.25.5.2", {"Modality": "CT"}, ())),
)
R4 = DIALECTS["R4"]


def as_if_another(base: bytes, dialect: str) -> Base:
    """The last delivery, as if anything had been mapped otherwise."""
    return replace(Base.from_bytes(base, dialect), digest="")


def paths(pairs: tuple[Pair, ...] | None) -> list[str]:
    assert pairs is not None
    return [f"{one.resource}.{one.path}" for pair in pairs for one in changes(*pair, lambda value: value)]


@pytest.mark.parametrize("patient", [Write.LINK, Write.ENSURE, Write.UPSERT])
@pytest.mark.parametrize("takes_ids", [True, False])
def test_only_what_differs_is_changed_on_a_server(patient: Write, takes_ids: bool) -> None:
    options = MappingOptions(patient=patient, dicomweb_url="http://pacs.example/dicomweb")
    mapper = StudyMapper(options)
    with memory_server(Manner(checks_versions=True, takes_ids=takes_ids)) as server:
        destination = fhir_destination(FhirClient(server.url), options, "R4")
        destination.deliver(replace(STUDY, uid="2.25.4"), b"")  # so that the second study finds what both share
        delivered = destination.deliver(STUDY, b"")
    assert isinstance(delivered, Delivered)
    assert compared(Base.from_bytes(delivered.base, "R4"), mapper.map(STUDY, R4)) == ()
    last = as_if_another(delivered.base, "R4")
    assert paths(compared(last, mapper.map(STUDY, R4))) == []
    assert paths(compared(last, mapper.map(GROWN, R4))) == [
        "ImagingStudy.description",
        "ImagingStudy.numberOfSeries",
        "ImagingStudy.series[2.25.5.2]",
    ]


def test_only_what_differs_is_changed_in_a_directory(tmp_path: Path) -> None:
    mapper = StudyMapper(MappingOptions(patient=Write.UPSERT))
    destination = FileDestination("files", tmp_path, mapper, R4)
    (delivered,) = destination.deliver_all([Job(STUDY, b"")])
    assert isinstance(delivered, Delivered)
    last = as_if_another(delivered.base, "R4")
    assert paths(compared(last, mapper.map(STUDY, R4))) == []
    renamed = replace(GROWN, patient={**STUDY.patient, "PatientName": "Two"})
    assert paths(compared(last, mapper.map(renamed, R4))) == [
        "ImagingStudy.description",
        "ImagingStudy.numberOfSeries",
        "ImagingStudy.series[2.25.5.2]",
        "Patient.name[0].family",
        "Patient.name[0].text",
    ]


def test_what_is_no_longer_made_changes_its_status() -> None:
    study = study_of("ko-studies")
    mapper = StudyMapper(MappingOptions(patient=Write.ENSURE))
    r5 = DIALECTS["R5"]
    server = Server(checks_versions=True)
    try:
        bridge = Bridge(server.url)
        bridge.deliver(study)
    finally:
        server.close()
    assert paths(compared(as_if_another(bridge.base, "R5"), mapper.map(study, r5))) == []
    less = study_of("ko-studies", without=KO_SOP_CLASS)
    found = paths(compared(Base.from_bytes(bridge.base, "R5"), mapper.map(less, r5)))
    assert [one for one in found if one.startswith("ImagingSelection")] == ["ImagingSelection.status"] * 3


def test_nothing_is_compared_with_what_was_not_kept() -> None:
    mapped = StudyMapper(MappingOptions()).map(STUDY, R4)
    assert compared(Base.from_bytes(b"", "R4"), mapped) is None
    other_version = Base(digest="x", sent={mapped.entries[0].resource["id"]: {"id": "1"}}, dialect="R5").to_bytes()
    assert compared(Base.from_bytes(other_version, "R4"), mapped) is None
