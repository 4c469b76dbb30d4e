"""Procedure steps (MPPS) as Procedures, and what the ImagingStudy says of them."""

from __future__ import annotations

from typing import Any

import pytest

from dicom2fhir.demo.synthetic import code, instance
from dicom2fhir.dicom.study import assemble
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Resource
from testdata.make_cases import record_of
from testdata.make_dicom import datasets, encode
from testdata.make_notices import Notice, begun, ended, stated_by

CT = instance("CT", "ct")
FROM_STU3_ON = {"STU3", "R4", "R4B", "R5", "R6"}


def mapped(*sent: Notice, version: str = "R4", made: Any = CT, **options: Any) -> Mapped:
    _, steps = stated_by(sent)
    record = record_of(encode(made))
    study = assemble(record.study_uid, 1, [record], steps=steps)
    return map_study(study, DIALECTS[version], MappingOptions(**{"procedures": "auto", **options}))


def procedures(found: Mapped) -> list[Resource]:
    resources = [one.entries[0].resource for one in found.secondary]
    return [resource for resource in resources if resource["resourceType"] == "Procedure"]


def one(*sent: Notice, **options: Any) -> Resource:
    (found,) = procedures(mapped(*sent, **options))
    return found


@pytest.mark.parametrize("version", DIALECTS)
def test_from_stu3_on_and_only_on_request(version: str) -> None:
    asked = mapped(begun("a", CT), version=version)
    assert len(procedures(asked)) == (version in FROM_STU3_ON)
    silent = mapped(begun("a", CT), version=version, procedures="never")
    assert procedures(silent) == []
    link = {"procedureReference", "partOf"}
    assert bool(link & asked.entries[0].resource.keys()) is (version in FROM_STU3_ON)
    assert not link & silent.entries[0].resource.keys()


@pytest.mark.parametrize(
    ("status", "expected"), [(None, "in-progress"), ("COMPLETED", "completed"), ("DISCONTINUED", "stopped")]
)
def test_its_status(status: str | None, expected: str) -> None:
    sent = [begun("a", CT), *([ended("a", status)] if status else [])]
    assert one(*sent)["status"] == one(*sent, version="R5")["status"] == expected
    assert one(*sent, version="STU3")["status"] == ("aborted" if expected == "stopped" else expected)


def test_the_study_names_it_by_its_identifier() -> None:
    """Not literally: it is written after the study, and the server may refuse it."""
    found = mapped(begun("a", CT))
    (identifier,) = procedures(found)[0]["identifier"]
    assert found.entries[0].resource["procedureReference"] == {"type": "Procedure", "identifier": identifier}


def test_in_r4_the_study_names_the_first_of_several() -> None:
    later = begun("b", CT, PerformedProcedureStepStartTime="101500")
    for sent in ((begun("a", CT), later), (later, begun("a", CT))):
        found = mapped(*sent)
        first, _ = procedures(found)
        assert found.entries[0].resource["procedureReference"]["identifier"] == first["identifier"][0]
        assert any(note.where == "ImagingStudy.procedureReference" for note in found.notes)
        several = mapped(*sent, version="R5")
        assert len(several.entries[0].resource["partOf"]) == len(procedures(several)) == 2


def test_from_r5_on_it_refers_to_the_study() -> None:
    found = mapped(begun("a", CT), version="R5")
    (reference,) = procedures(found)[0]["supportingInfo"]
    assert reference["reference"] == found.entries[0].placeholder


def test_an_end_before_the_start_is_left_out() -> None:
    found = mapped(begun("a", CT), ended("a", "COMPLETED", PerformedProcedureStepEndTime="080000"))
    assert procedures(found)[0]["performedPeriod"].keys() == {"start"}
    assert any(note.where == "PerformedProcedureStepEndDate" for note in found.notes)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ("169069000", "CT chest")),
        ({"PerformedProcedureStepDescription": ""}, ("169069000", None)),
        ({"ProcedureCodeSequence": []}, (None, "CT chest")),
        (
            {"ProcedureCodeSequence": [], "PerformedProtocolCodeSequence": [code("CHEST", "99LOCAL", "Chest")]},
            ("CHEST", "CT chest"),
        ),
        ({"ProcedureCodeSequence": [], "PerformedProcedureStepDescription": ""}, None),
        (
            {"ProcedureCodeSequence": [code("169069000", "SCT", "Chest"), code("169070004", "SCT", "Abdomen")]},
            ("169069000", "CT chest"),
        ),
    ],
)
def test_its_code(attributes: dict[str, Any], expected: tuple[str | None, str | None] | None) -> None:
    found = one(begun("a", CT, **attributes)).get("code")
    codes = [coding["code"] for coding in (found or {}).get("coding", [])]
    assert (found and (codes[0] if codes else None, found.get("text"))) == expected
    assert len(codes) <= 1


def test_each_person_once() -> None:
    both = [CT, instance("CT", "ct", 2)]
    assert both[0].SeriesInstanceUID != both[1].SeriesInstanceUID
    found = one(begun("a", CT), ended("a", "COMPLETED", both))
    functions = [performer["function"]["coding"][0]["code"] for performer in found["performer"]]
    assert functions == ["PRF", "SPRF", "DEV"]


def test_a_phantom_has_no_procedure_in_r4() -> None:
    """Its Procedure has no subject of type Device; before R4 a phantom is written as a Patient."""
    (phantom,) = datasets("phantom")
    found = mapped(begun("a", CT), made=phantom)
    assert procedures(found) == []
    assert any(note.where == "Procedure.subject" for note in found.notes)
    assert "procedureReference" not in found.entries[0].resource
    assert one(begun("a", CT), made=phantom, version="R5")["subject"]["type"] == "Device"
    assert "subject" in one(begun("a", CT), made=phantom, version="STU3")
