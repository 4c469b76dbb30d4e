"""``convert --format xml`` and destinations with ``format = "xml"``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from dicom2fhir import config
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.directory import FileDestination
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Refused
from testdata.make_cases import studies_of
from testdata.make_dicom import encode
from tests.command_line import run_here
from tests.doubles import FunctionMapper
from tests.fhir_xml import FHIR, values_of_json, values_of_xml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two studies."""
    made = tmp_path / "dicom"
    made.mkdir()
    for name in ("a", "b"):
        (made / name).write_bytes(encode(instance("CT", name, 1, 1)))
    return made


def convert(*arguments: str | Path) -> bytes:
    done = run_here("convert", *arguments)
    assert done.status == 0, done.stderr
    return done.stdout


def roots(lines: bytes) -> list[str]:
    return [ElementTree.fromstring(line).tag.removeprefix(FHIR) for line in lines.splitlines()]


def test_a_line_is_a_bundle(folder: Path) -> None:
    assert roots(convert(folder, "--format", "xml")) == ["Bundle", "Bundle"]


@pytest.mark.parametrize("version", DIALECTS)
def test_a_line_is_a_resource(folder: Path, version: str) -> None:
    found = roots(convert(folder / "a", "--format", "xml", "--as", "resources", "--fhir", version))
    assert found == ["ImagingStudy", "Patient"]


@pytest.mark.parametrize(("shape", "suffix", "documents"), [("bundle", "xml", 1), ("resources", "ndxml", 2)])
def test_a_study_is_a_file(folder: Path, tmp_path: Path, shape: str, suffix: str, documents: int) -> None:
    out = tmp_path / "out"
    convert(folder, "--format", "xml", "--as", shape, "-o", out)
    written = sorted(out.iterdir())
    assert [path.suffix for path in written] == [f".{suffix}"] * 2
    for path in written:
        content = path.read_bytes()
        assert len([content] if shape == "bundle" else content.splitlines()) == documents
        assert content.endswith(b">\n")


def study() -> Study:
    (made,) = studies_of([encode(instance("CT", "a", 1, 1))])
    return made


def test_a_file_destination_writes_xml(tmp_path: Path) -> None:
    mapper = StudyMapper(MappingOptions(patient=Write.ENSURE))
    outcomes = [
        FileDestination("out", tmp_path, mapper, DIALECTS["DSTU2"], format_).deliver(study(), b"")
        for format_ in ("json", "xml")
    ]
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    (json_path,) = tmp_path.glob("*.1.json")
    (xml_path,) = tmp_path.glob("*.1.xml")
    assert values_of_xml(ElementTree.parse(xml_path).getroot()) == values_of_json(orjson.loads(json_path.read_bytes()))


def test_what_xml_cannot_hold_is_refused(tmp_path: Path) -> None:
    def map_badly(study: Study, dialect: Dialect) -> Mapped:
        return Mapped((Entry({"resourceType": "ImagingStudy", "id": "a", "description": "\0"}, Write.OWN),))

    outcome = FileDestination("out", tmp_path, FunctionMapper(map_badly), DIALECTS["R4"], "xml").deliver(study(), b"")
    assert outcome == Refused(("A value contains a character that XML does not allow.",), answered=False)
    assert list(tmp_path.iterdir()) == []


def test_a_destination_inherits_the_format_or_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        'fhir.format = "xml"\n'
        '[destinations.main]\nurl = "http://127.0.0.1/fhir"\nformat = "json"\n'
        '[destinations.out]\ntype = "file"\ndirectory = "/srv/out"\n'
    )
    settings = config.load(path)
    assert (settings.format("main"), settings.format("out")) == ("json", "xml")
