from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from dicom2fhir.fhir.send.bundle import refer, standalone, update
from dicom2fhir.fhir.send.directory import FileDestination
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.outcomes import Delivered, Refused, Retry
from tests.doubles import FunctionMapper

SUBJECT = {"reference": "urn:uuid:p", "type": "Patient", "identifier": {"system": "urn:h", "value": "1"}}


def mapped(write: Write, search: str = "identifier=urn%3Ah%7C1") -> Mapped:
    study: Resource = {"resourceType": "ImagingStudy", "id": "s", "subject": SUBJECT, "series": [{"uid": "1.2"}]}
    patient: Resource = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:h", "value": "1"}]}
    return Mapped((Entry(study, Write.OWN, "identifier=x"), Entry(patient, write, search)))


def study(revision: int, conflict: str = "") -> Study:
    return Study("1.2.3", revision, {}, {}, (), conflict=conflict)


@pytest.mark.parametrize(
    ("write", "search", "request_line"),
    [
        (Write.ENSURE, "a=b", {"method": "POST", "url": "Patient", "ifNoneExist": "a=b"}),
        (Write.ENSURE, "", {"method": "PUT", "url": "Patient/p"}),
        (Write.UPSERT, "a=b", {"method": "PUT", "url": "Patient?a=b"}),
        (Write.UPSERT, "", {"method": "PUT", "url": "Patient/p"}),
    ],
)
def test_a_bundle_stands_alone(write: Write, search: str, request_line: Resource) -> None:
    bundle = standalone(mapped(write, search))
    assert bundle["type"] == "transaction"
    first, second = bundle["entry"]
    assert first["request"] == {"method": "PUT", "url": "ImagingStudy/s"}
    assert first["resource"]["subject"]["reference"] == second["fullUrl"] == "urn:uuid:p"
    assert second["request"] == request_line


def test_a_patient_who_is_only_linked_to_is_named_by_identifier() -> None:
    source = mapped(Write.LINK)
    (entry,) = standalone(source)["entry"]
    assert entry["resource"]["subject"] == {"type": "Patient", "identifier": {"system": "urn:h", "value": "1"}}
    assert source.entries[0].resource["subject"] == SUBJECT


def test_references_become_literal_where_a_target_is_known() -> None:
    resource: Resource = {"resourceType": "X", "a": [{"b": {"reference": "urn:uuid:1"}}, {"reference": "urn:uuid:2"}]}
    expected = {"resourceType": "X", "a": [{"b": {"reference": "P/9"}}, {"reference": "urn:uuid:2"}]}
    assert refer(resource, {"urn:uuid:1": "P/9"}) == expected


def test_an_update_names_the_version_that_was_read() -> None:
    assert update({"resourceType": "X", "id": "1"}, "urn:uuid:1", "7")["request"]["ifMatch"] == 'W/"7"'


def test_what_is_remembered_comes_back() -> None:
    base = Base("id", "digest", {"s": {"resourceType": "ImagingStudy"}})
    assert Base.from_bytes(base.to_bytes()) == base


@pytest.mark.parametrize("data", [b"", b"nonsense", Base("i", "d").to_bytes()[:-3]])
def test_what_cannot_be_read_is_as_if_nothing_was_remembered(data: bytes) -> None:
    assert Base.from_bytes(data) == Base()


def test_what_was_sent_in_another_version_counts_for_nothing() -> None:
    base = Base("id", "digest", {"s": {"resourceType": "ImagingStudy"}}, "R4")
    assert Base.from_bytes(base.to_bytes(), "R4") == base
    assert Base.from_bytes(base.to_bytes(), "R5") == Base(dialect="R5")


def test_what_was_remembered_before_versions_were_is_taken_as_it_is() -> None:
    base = Base("id", "digest", {"s": {"resourceType": "ImagingStudy"}})
    content = {"format": 1, "id": base.remote_id, "digest": base.digest, "sent": base.sent}
    assert Base.from_bytes(zlib.compress(orjson.dumps(content)), "R4") == replace(base, dialect="R4")


def test_the_digest_tells_mappings_apart() -> None:
    assert digest(mapped(Write.ENSURE)) == digest(mapped(Write.ENSURE))
    assert digest(mapped(Write.ENSURE)) != digest(mapped(Write.UPSERT))


def test_one_file_for_each_revision_that_differs(tmp_path: Path) -> None:
    writes = {1: Write.ENSURE, 2: Write.ENSURE, 3: Write.UPSERT}
    destination = FileDestination(
        "files", tmp_path / "out", FunctionMapper(lambda study, _: mapped(writes[study.revision])), DIALECTS["R4"]
    )
    first = destination.deliver(study(1), b"")
    assert isinstance(first, Delivered) and first.written
    assert destination.deliver(study(2), first.base) == Delivered(first.base, written=False, answered=False)
    assert isinstance(destination.deliver(study(3), first.base), Delivered)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s.1.json", "s.3.json"]
    assert orjson.loads((tmp_path / "out/s.3.json").read_bytes()) == standalone(mapped(Write.UPSERT))


def test_no_file_is_written_of_a_late_part(tmp_path: Path) -> None:
    """It would take the name, and the place, of a file with the whole study."""
    destination = FileDestination("files", tmp_path, FunctionMapper(lambda *_: mapped(Write.ENSURE)), DIALECTS["R4"])
    destination.deliver(study(1), b"")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    outcome = destination.deliver(replace(study(1), is_late_part=True), b"")
    assert isinstance(outcome, Refused) and "dicom2fhir forget" in outcome.issues[0]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_directory_that_cannot_be_written_is_the_destination_s_fault(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    destination = FileDestination(
        "files", tmp_path / "out", FunctionMapper(lambda *_: mapped(Write.ENSURE)), DIALECTS["R4"]
    )
    outcome = destination.deliver(study(1), b"")
    assert isinstance(outcome, Retry) and outcome.whole_destination
    assert outcome.reason.startswith(f"{tmp_path}/out cannot be written to: File exists")


def test_a_conflict_is_refused(tmp_path: Path) -> None:
    destination = FileDestination("files", tmp_path, FunctionMapper(lambda *_: mapped(Write.ENSURE)), DIALECTS["R4"])
    assert destination.deliver(study(1, "two patients"), b"") == Refused(("two patients",), answered=False)
    assert not list(tmp_path.iterdir())
