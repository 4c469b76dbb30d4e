"""The rules, where the golden cases do not show them, and the rule table against DICOM's and FHIR's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom2fhir.dicom.attributes import LEVELS, UIDS, Attribute, taken
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.normalized import PROCEDURE_STEP, all_attributes
from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import MappingOptions, imaging_study_id, map_study, trace_study
from dicom2fhir.fhir.mapping.rules import RULES
from dicom2fhir.fhir.send.bundle import refer, standalone, unlinked
from dicom2fhir.fhir.version import code_tables
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.fhir.version.dialects import DIALECTS, by_fhir_version
from dicom2fhir.fhir.version.validate import check
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Instance, Resource, Series, Study
from dicom2fhir.sop_classes import (
    COMPREHENSIVE_3D_SR,
    ENCAPSULATED_DOCUMENTS,
    KEY_OBJECT_SELECTION,
    X_RAY_RADIATION_DOSE_SR,
)
from dicom2fhir.wiring.options import profile, profile_names
from testdata.make_cases import studies_of, study_and_options
from testdata.make_dicom import encoded
from tests.invariants import ELEMENTS, context_group, to_be_written, violations

CT = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
DCM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED_CT = "http://snomed.info/sct"
BERLIN = ZoneInfo("Europe/Berlin")
Attrs = dict[str, Any]


def study(
    patient: Attrs | None = None, attrs: Attrs | None = None, series: Attrs | None = None, *images: Attrs
) -> Study:
    """A study of one series; with an instance for each of ``images``, or one plain instance."""
    instances = tuple(Instance(f"1.2.3.{n}", CT | image) for n, image in enumerate(images or ({},), start=1))
    return Study(
        "1.2.1",
        1,
        {"PatientID": "P1"} if patient is None else patient,
        attrs or {},
        (Series("1.2.2", {"Modality": "CT"} | (series or {}), instances),),
    )


def mapped(made: Study, version: str = "R4", **policy: Any) -> Mapped:
    """The study's resources, valid in whatever version."""
    result = map_study(made, DIALECTS[version], MappingOptions(**policy))
    assert violations(result, version) == []
    resources = to_be_written(entry.resource for entry in result.entries)
    assert [note for resource in resources for note in check(resource, version)] == []
    return result


def imaging_study(made: Study, version: str = "R4", **policy: Any) -> Resource:
    return mapped(made, version, **policy).entries[0].resource


def first_series(made: Study, version: str = "R4", **policy: Any) -> Resource:
    found: Resource = imaging_study(made, version, **policy)["series"][0]
    return found


def notes_on(result: Mapped) -> set[str]:
    return {note.where for note in result.notes}


def code(value: str, scheme: str, meaning: str) -> Attrs:
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def codes_of(concepts: list[Resource]) -> list[str]:
    return [coding["code"] for concept in concepts for coding in concept.get("coding", [])]


# The table ----------------------------------------------------------------------------------------------------------

ALL_RULES = [rule for rules in RULES.values() for rule in rules]
NOT_OF_A_RULE = {
    "SpecificCharacterSet": "decodes the others",
    "CodingSchemeIdentificationSequence": "names the systems of all codes",
}
PLACES = {"RetrieveURL", "RetrieveLocationUID", "RetrieveAETitle"}
STATED = PLACES | {
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepDiscontinuationReasonCodeSequence",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
    "PerformedProcedureStepStatus",
    "PerformedProtocolCodeSequence",
    "PerformedSeriesSequence",
    "PerformedStationAETitle",
    "PerformedStationName",
    "ScheduledStepAttributesSequence",
}
"""What only notifications and procedure steps say."""


def test_every_attribute_of_a_rule_is_taken_and_every_one_taken_is_used() -> None:
    of_rules = {keyword for rule in ALL_RULES for keyword in rule.attributes}
    of_profiles = {source.partition("/")[0] for name in profile_names() for _, source in profile(name).sources()}
    of_content = {attribute.keyword for attributes in CONTENT.values() for attribute in attributes}
    assert of_content <= of_rules
    of_levels = {attribute.keyword for attribute in taken()}
    assert of_rules | of_profiles | set(NOT_OF_A_RULE) == STATED | of_levels | of_content
    assert {attribute.keyword for attribute in all_attributes()} >= STATED


def test_rules_read_only_what_their_level_has() -> None:
    uids = {attribute.keyword for attribute in UIDS}
    of = {level: {attribute.keyword for attribute in attributes} for level, attributes in LEVELS.items()}
    content = {attribute.keyword for attribute in CONTENT[KEY_OBJECT_SELECTION]}
    encapsulated = {attribute.keyword for sop in ENCAPSULATED_DOCUMENTS for attribute in CONTENT[sop]}
    dose = {attribute.keyword for attribute in CONTENT[X_RAY_RADIATION_DOSE_SR]}
    measurements = {attribute.keyword for attribute in CONTENT[COMPREHENSIVE_3D_SR]}
    readable = {
        "ImagingStudy": of["patient"] | of["study"] | of["series"] | of["instance"] | uids | STATED,
        "ImagingStudy.series": of["study"] | of["series"] | of["instance"] | uids | PLACES,
        "ImagingStudy.series.instance": of["instance"] | uids | content,
        "ImagingSelection": of["study"] | of["series"] | of["instance"] | uids | content,
        "ImagingSelection.instance": of["instance"] | content,
        "ImagingManifest": of["series"] | of["instance"] | uids | content,
        "ImagingManifest.study": content,
        "ImagingManifest.study.series": content,
        "ImagingManifest.study.series.instance": content,
        "ImagingObjectSelection": of["series"] | of["instance"] | uids | content,
        "ImagingObjectSelection.study": content,
        "ImagingObjectSelection.study.series": content,
        "ImagingObjectSelection.study.series.instance": content,
        "DocumentReference": of["study"] | of["series"] | of["instance"] | uids | encapsulated,
        "DocumentReference.context": of["study"] | uids,
        "DiagnosticReport": of["study"] | of["instance"] | uids | encapsulated,
        "Observation": of["study"] | of["series"] | of["instance"] | uids | dose,
        "Observation.component": dose,
        "Observation of a measurement report": of["study"] | of["series"] | of["instance"] | uids | measurements,
        "ImagingSelection of a measurement report": of["study"] | of["series"] | of["instance"] | uids | measurements,
        "ImagingSelection of a measurement report.instance": of["instance"] | measurements,
        "Procedure": {attribute.keyword for attribute in PROCEDURE_STEP} | uids,
        "Patient": of["patient"],
        "Device": of["series"],
        "Endpoint": {"RetrieveURL"},
        "Endpoint of the web viewer": of["study"] | uids,
    }
    for path, rules in RULES.items():
        for rule in rules:
            assert set(rule.attributes) <= readable[path], rule.concept


def with_inner(attributes: Iterable[Attribute]) -> Iterator[Attribute]:
    for attribute in attributes:
        yield attribute
        yield from with_inner((*attribute.items, *attribute.instead))


def test_tags_and_vrs_are_those_of_the_standard() -> None:
    for attribute in with_inner([*taken(), *all_attributes()]):
        assert tag_for_keyword(attribute.keyword) == attribute.tag, attribute.keyword
        assert dictionary_VR(attribute.tag) == attribute.vr, attribute.keyword
        assert (attribute.vr == "SQ") is bool(attribute.items), attribute.keyword


@pytest.mark.parametrize("level", LEVELS)
def test_an_attribute_follows_one_that_follows_none(level: Any) -> None:
    leading = {attribute.keyword for attribute in LEVELS[level] if not attribute.follows}
    assert {attribute.follows for attribute in LEVELS[level] if attribute.follows} <= leading


FROM_R4 = [name for name, dialect in DIALECTS.items() if "uid" in dialect.identifiers]
CONCEPTUAL = ("R5", "R6")
"""Where codes are CodeableConcepts."""
SHAPES = {
    "Reference by display": "Reference",
    "Reference in ref": "BackboneElement",
    "CodeableReference by reference": "CodeableReference",
    "actor": "Reference",
    "performer": "BackboneElement",
    "performer in role": "BackboneElement",
    "Coding of oid": "Coding",
    "code extension": "Extension",
}
"""Shape -> datatype, where they are called differently."""


def test_every_concept_of_a_rule_is_an_element_of_some_version() -> None:
    made_by_hand = {
        *("series", "series.instance", "Practitioner.name", "Device.type", "Device.name.value", "Device.name.type"),
        *(path for path in RULES if "." in path and " of " not in path and not path.startswith("ImagingStudy.")),
        *(f"ImagingSelection.{of}region.{part}" for of in ("", "instance.") for part in ("kind", "coordinate")),
        "ImagingObjectSelection.study.series.instance.frames.number",
        *("DocumentReference.relatesTo.code", "DocumentReference.relatesTo.target"),
    }
    known = {concept for dialect in DIALECTS.values() for concept in dialect.elements}
    assert {rule.concept for rule in ALL_RULES} | made_by_hand == known


def named(path: str, version: str) -> str:
    """A path of concepts as the path of elements: one with elements of its own may have another name."""
    above, _, _ = path.rpartition(".")
    element = DIALECTS[version].elements.get(path)
    return f"{named(above, version)}.{element.name}" if element else path


def of_hl7(path: str, version: str) -> str:
    """A path by HL7's list, which has one name for the datatypes of a choice."""
    if path in ELEMENTS[version]:
        return path
    choices = (key for key in ELEMENTS[version] if key.endswith("[x]") and path.startswith(key.removesuffix("[x]")))
    found = next(choices)
    datatype = path.removeprefix(found.removesuffix("[x]"))
    types = ELEMENTS[version][found].split(" ")[1].split("|")
    assert datatype in {type_[0].upper() + type_[1:] for type_ in types}
    return found


@pytest.mark.parametrize("version", DIALECTS)
def test_elements_have_the_names_types_and_cardinalities_of_hl7(version: str) -> None:
    """``tests/data/elements.json`` is made from HL7's StructureDefinitions."""
    for concept, element in DIALECTS[version].elements.items():
        parent = "ImagingStudy.series.instance." if concept.startswith("instance.") else "ImagingStudy."
        above = "" if concept[0].isupper() else parent
        path = above + concept.removeprefix("instance.")
        if f"{path.split('.')[0]}.id" not in ELEMENTS[version]:
            continue  # of 3.2.0 nobody has more than the ImagingStudy
        if element.url:
            continue  # every element may have one
        if concept.startswith("ImagingSelection.") and DIALECTS[version].key_objects == "Basic":
            continue  # extensions, named by the elements of R5
        parent_path, _, _ = path.rpartition(".")
        cardinality, types = ELEMENTS[version][of_hl7(f"{named(parent_path, version)}.{element.name}", version)].split(
            " "
        )
        assert element.many is cardinality.endswith("*"), concept
        expected = SHAPES.get(element.shape, element.shape)
        assert element.shape == "as is" or expected in types.split("|"), concept
        assert element.shape != "as is" or types not in ("Coding", "CodeableConcept", "CodeableReference"), concept


@pytest.mark.parametrize(
    ("fhir_version", "name"),
    [
        ("4.0.1", "R4"),
        ("4.0.0", "R4"),
        ("4.3.0", "R4B"),
        ("5.0.0", "R5"),
        ("5.0.0-snapshot1", "R5"),
        ("3.0.1", "STU3"),
        ("1.0.2", "DSTU2"),
        ("1.4.0", "1.4.0"),
        ("3.2.0", "3.2.0"),
        ("6.0.0-ballot3", "R6"),
        ("3.5.0", None),
        ("0.0.82", None),
        ("", None),
    ],
)
def test_a_dialect_by_the_version_of_a_server(fhir_version: str, name: str | None) -> None:
    found = by_fhir_version(fhir_version)
    assert (found.name if found else None) == name


def test_the_same_study_has_the_same_id_everywhere() -> None:
    ids = {imaging_study(study(), version)["id"] for version in DIALECTS}
    assert ids == {imaging_study_id("1.2.1")}
    assert (
        mapped(study()).entries[0].search
        == "identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A1.2.1,urn%3Adicom%3Auid%7C1.2.1"
    )


def test_the_trace_tells_what_fed_what() -> None:
    made = study({"PatientID": "P1"}, {"StudyDescription": "Thorax", "NameOfPhysiciansReadingStudy": "A"})
    result, traces = trace_study(made, DIALECTS["R5"], MappingOptions())
    by_concept = {trace.rule.concept: trace for trace in traces}
    assert result == map_study(made, DIALECTS["R5"], MappingOptions())
    assert (by_concept["description"].given, by_concept["description"].value) == (("StudyDescription",), "Thorax")
    assert by_concept["interpreter"].given == ("NameOfPhysiciansReadingStudy",)
    assert (by_concept["interpreter"].element, by_concept["interpreter"].value) == (None, None)
    assert [trace.rule for trace in traces] == [
        rule for path, rules in RULES.items() if path.startswith("ImagingStudy") for rule in rules
    ]


# Dates --------------------------------------------------------------------------------------------------------------


def test_each_series_has_the_zone_of_its_own_data_sets() -> None:
    made = study(
        attrs={"StudyDate": "20240311", "StudyTime": "0900", "TimezoneOffsetFromUTC": "+0100"},
        series={"SeriesDate": "20240311", "SeriesTime": "0815", "TimezoneOffsetFromUTC": "+0000"},
    )
    found = imaging_study(made, time_zone=BERLIN)
    assert found["started"] == "2024-03-11T09:00:00+01:00"
    assert found["series"][0]["started"] == "2024-03-11T08:15:00+00:00"


def test_a_series_without_zone_has_that_of_the_study() -> None:
    made = study(
        attrs={"StudyDate": "20240311", "TimezoneOffsetFromUTC": "-0330"},
        series={"SeriesDate": "20240311", "SeriesTime": "0815"},
    )
    assert first_series(made, time_zone=BERLIN)["started"] == "2024-03-11T08:15:00-03:30"


@pytest.mark.parametrize(
    ("series", "images", "expected"),
    [
        pytest.param({"SeriesDate": "20240311"}, [{"AcquisitionDate": "20200101"}], "2024-03-11", id="its own date"),
        pytest.param(
            {"PerformedProcedureStepStartDate": "20240309"},
            [{"AcquisitionDateTime": "20240312080000"}, {"AcquisitionDateTime": "20240311080000.5"}],
            "2024-03-11T08:00:00.5+01:00",
            id="the earliest acquisition",
        ),
        pytest.param(
            {},
            [{"AcquisitionDateTime": "20240310230000-0500"}, {"AcquisitionDateTime": "20240311010000+1400"}],
            "2024-03-11T01:00:00+14:00",
            id="the earliest moment, which is a later date",
        ),
        pytest.param(
            {},
            [{"AcquisitionDateTime": "20240311080000"}, {"AcquisitionDateTime": "20240311080000.5"}],
            "2024-03-11T08:00:00+01:00",
            id="the earliest fraction of a second",
        ),
        pytest.param(
            {},
            [{"AcquisitionDate": "20240311", "AcquisitionTime": "0801", "ContentDate": "20240310"}],
            "2024-03-11T08:01:00+01:00",
            id="acquisition before content",
        ),
        pytest.param(
            {}, [{"ContentDate": "20240311", "ContentTime": "0802"}], "2024-03-11T08:02:00+01:00", id="content"
        ),
        pytest.param(
            {"PerformedProcedureStepStartDate": "20240311", "PerformedProcedureStepStartTime": "0803"},
            [{}],
            "2024-03-11T08:03:00+01:00",
            id="the procedure step",
        ),
        pytest.param({"SeriesDate": "20240231"}, [{"ContentDate": "20240311"}], "2024-03-11", id="no such day"),
        pytest.param({"SeriesTime": "0800"}, [{}], None, id="a time alone"),
    ],
)
def test_when_a_series_started(series: Attrs, images: list[Attrs], expected: str | None) -> None:
    assert first_series(study(None, None, series, *images), time_zone=BERLIN).get("started") == expected


@pytest.mark.parametrize("version", DIALECTS)
def test_a_study_without_date_started_with_its_first_series(version: str) -> None:
    made = study()
    (only,) = made.series
    given = (("20240310", "2300", "-0500"), ("20240311", "0100", "+1400"), ("20240311", "1200", "+0000"))
    keywords = ("SeriesDate", "SeriesTime", "TimezoneOffsetFromUTC")
    series = tuple(
        Series(f"1.2.{n}", dict(only.attrs) | dict(zip(keywords, values, strict=True)), only.instances)
        for n, values in enumerate(given)
    )
    assert imaging_study(replace(made, series=series), version)["started"] == "2024-03-11T01:00:00+14:00"


@pytest.mark.parametrize("version", DIALECTS)
@pytest.mark.parametrize(
    ("series", "is_kept"),
    [
        ({"SeriesDate": "20240311", "SeriesTime": "0859"}, False),
        ({"SeriesDate": "20240311", "SeriesTime": "0900"}, True),
        ({"SeriesDate": "20240311"}, True),
        ({"SeriesDate": "20240310"}, False),
        # 08:30 UTC is half past nine in Berlin, and 09:30 UTC+2 half past eight
        ({"SeriesDate": "20240311", "SeriesTime": "0830", "TimezoneOffsetFromUTC": "+0000"}, True),
        ({"SeriesDate": "20240311", "SeriesTime": "0930", "TimezoneOffsetFromUTC": "+0200"}, False),
    ],
)
def test_no_series_starts_before_its_study(series: Attrs, is_kept: bool, version: str) -> None:
    result = mapped(study(None, {"StudyDate": "20240311", "StudyTime": "0900"}, series), version, time_zone=BERLIN)
    resource = result.entries[0].resource
    assert resource["started"] == "2024-03-11T09:00:00+01:00"
    assert ("started" in resource["series"][0]) is is_kept
    assert ("SeriesDate" in notes_on(result)) is not is_kept


def test_a_time_that_cannot_be_told_is_noted() -> None:
    made = study(attrs={"StudyDate": "20240311", "StudyTime": "0900"})
    result = mapped(made)
    assert result.entries[0].resource["started"] == "2024-03-11"
    assert notes_on(result) == {"StudyTime"}
    assert notes_on(mapped(made, time_zone=BERLIN)) == set()


# Where and which side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "version", "expected"),
    [
        *(("L", "R4", "419161000"), ("R", "R4", "419465000"), ("B", "R4", "51440002"), ("U", "R4", None)),
        *(("L", "R4B", "419161000"), ("L", "R5", "7771000"), ("R", "R5", "24028007"), ("B", "R5", "51440002")),
        *(("r", "R5", "24028007"), ("X", "R5", None)),
    ],
)
def test_the_code_of_a_side(side: str, version: str, expected: str | None) -> None:
    result = mapped(study(series={"Laterality": side}), version)
    found = result.entries[0].resource["series"][0].get("laterality")
    assert (found and found.get("code", found.get("coding", [{}])[0].get("code"))) == expected
    assert notes_on(result) == ({"Laterality"} if side == "X" else set())


@pytest.mark.parametrize("version", DIALECTS)
@pytest.mark.parametrize(
    ("series", "image"),
    [({"Laterality": "U"}, {}), ({}, {"ImageLaterality": "U"})],
    ids=["Laterality", "ImageLaterality"],
)
def test_an_unpaired_body_part_has_no_side(series: Attrs, image: Attrs, version: str) -> None:
    result = mapped(study(None, None, series, image), version)
    assert "laterality" not in result.entries[0].resource["series"][0]
    assert notes_on(result) == set()


def modified(code_value: str, scheme: str, *others: str) -> Attrs:
    """An image of a region with modifiers."""
    modifiers = [code(value, scheme, "words") for value in (code_value, *others)]
    return {"AnatomicRegionSequence": [{"AnatomicRegionModifierSequence": modifiers}]}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([{"ImageLaterality": "L"}, {"ImageLaterality": "L"}], "419161000"),
        ([{"ImageLaterality": "L"}, {"ImageLaterality": "R"}], None),
        ([{"ImageLaterality": "L"}, {}], None),
        ([modified("7771000", "SCT"), modified("G-A101", "SRT")], "419161000"),
        ([modified("24028007", "SCT"), {"ImageLaterality": "R"}], "419465000"),
        ([modified("G-A102", "SRT")], "51440002"),
        ([modified("7771000", "SCT"), modified("24028007", "SCT")], None),
        ([modified("7771000", "SCT"), {}], None),
        ([modified("7771000", "SCT") | {"ImageLaterality": "R"}], "419465000"),
        ([modified("7771000", "SCT", "24028007")], None),
        ([modified("7771000", "SCT", "255549009")], "419161000"),  # left, anterior
        ([modified("7771000", "99SYN")], None),
        ([modified("66459002", "SCT")], None),  # unilateral, and who knows on which side
    ],
)
def test_a_side_that_all_images_share(images: list[Attrs], expected: str | None) -> None:
    assert first_series(study(None, None, None, *images)).get("laterality", {}).get("code") == expected


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param({"BodyPartExamined": "CHEST"}, ("43799004", "Chest"), id="a Defined Term"),
        pytest.param({"BodyPartExamined": "T SPINE"}, ("122495006", "Thoracic spine"), id="with a space"),
        pytest.param({"BodyPartExamined": "chest"}, ("43799004", "Chest"), id="in lower case"),
        pytest.param({"BodyPartExamined": "THE DOG"}, (None, "THE DOG"), id="other words"),
        pytest.param(
            {"BodyPartExamined": "CHEST", "AnatomicRegionSequence": [code("39607008", "SCT", "Lung")]},
            ("39607008", "Lung"),
            id="the region's code first",
        ),
        pytest.param(
            {"AnatomicRegionSequence": [{"CodeMeaning": "Left lung"}]}, (None, "Left lung"), id="a region without code"
        ),
    ],
)
@pytest.mark.parametrize("version", DIALECTS)
def test_body_site(series: Attrs, expected: tuple[str | None, str], version: str) -> None:
    found = first_series(study(series=series), version)["bodySite"]
    if version in CONCEPTUAL:
        concept = found["concept"]
        found = concept["coding"][0] if "coding" in concept else {"display": concept["text"]}
    assert (found.get("code"), found["display"]) == expected
    assert ("system" in found) is (expected[0] is not None)


# The patient ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_a_patient_with_identifier_is_an_entry_of_the_chosen_kind(mode: Write) -> None:
    result = mapped(study({"PatientID": "P 1|a", "PatientName": "Doe^Jane"}), patient=mode)
    patient = result.entries[1]
    assert (patient.resource["resourceType"], patient.write) == ("Patient", mode)
    assert patient.search == "identifier=%7CP%201%5C%7Ca"
    assert result.entries[0].resource["subject"]["reference"] == patient.placeholder


@pytest.mark.parametrize("mode", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_nobody_at_all(mode: Write) -> None:
    result = mapped(study({}), patient=mode)
    assert len(result.entries) == 1
    assert result.entries[0].resource["subject"] == {"type": "Patient", "display": "Unknown"}
    assert "PatientID" in notes_on(result)


def test_a_patient_without_identifier_is_of_this_study_alone() -> None:
    nameless = study({"PatientName": "Doe^Jane"})
    written = mapped(nameless, patient=Write.UPSERT).entries[1]
    other = mapped(Study("1.2.9", 1, nameless.patient, {}, nameless.series), patient=Write.UPSERT).entries[1]
    assert written.resource["id"] != other.resource["id"]
    assert written.search == ""
    assert imaging_study(nameless)["contained"][0]["resourceType"] == "Patient"


def test_the_same_patient_id_of_two_issuers_is_two_patients() -> None:
    north, south = (mapped(made).entries[1] for made in studies_of(encoded("two-issuers")))
    assert north.resource["identifier"][0]["value"] == south.resource["identifier"][0]["value"]
    assert north.resource["id"] != south.resource["id"]
    assert north.search != south.search


def test_other_patient_ids_follow_each_once() -> None:
    patient = {
        "PatientID": "1",
        "IssuerOfPatientID": "A",
        "OtherPatientIDsSequence": [
            {"PatientID": "1", "IssuerOfPatientID": "A"},
            {"PatientID": "1", "IssuerOfPatientID": "B"},
            {"IssuerOfPatientID": "C"},
            {
                "PatientID": "2",
                "IssuerOfPatientIDQualifiersSequence": [
                    {"UniversalEntityID": "1.2", "UniversalEntityIDType": "ISO", "IdentifierTypeCode": "PI"}
                ],
            },
        ],
    }
    systems = NamingSystems(patient_id={"A": "urn:a", "B": "urn:b"})
    found = mapped(study(patient), systems=systems).entries[1].resource["identifier"]
    code = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203"}
    assert [(i.get("type"), i["system"], i["value"]) for i in found] == [
        ({"coding": [code | {"code": "MR"}]}, "urn:a", "1"),
        (None, "urn:b", "1"),
        ({"coding": [code | {"code": "PI"}]}, "urn:oid:1.2", "2"),
    ]


@pytest.mark.parametrize(
    ("carrier", "expected"),
    [("TEXT", None), ("", None), ("OTHER", None), ("RFID", {"text": "RFID"}), ("BARCODE", {"text": "BARCODE"})],
)
def test_another_patient_id_has_a_type_only_where_it_is_known(carrier: str, expected: dict[str, str] | None) -> None:
    patient = {"PatientID": "1", "OtherPatientIDsSequence": [{"PatientID": "2", "TypeOfPatientID": carrier}]}
    _, other = mapped(study(patient)).entries[1].resource["identifier"]
    assert other.get("type") == expected


@pytest.mark.parametrize(("sex", "expected", "noted"), [("M", "male", False), ("U", None, False), ("X", None, True)])
def test_sex(sex: str, expected: str | None, noted: bool) -> None:
    result = mapped(study({"PatientID": "1", "PatientSex": sex}))
    assert result.entries[1].resource.get("gender") == expected
    assert ("PatientSex" in notes_on(result)) is noted


@pytest.mark.parametrize("version", FROM_R4)
def test_a_phantom_is_a_device_and_no_patient_is_written(version: str) -> None:
    made = study({"PatientID": "QC1", "PatientName": "Phantom^ACR", "QualityControlSubject": "YES"})
    result = mapped(made, version, patient=Write.UPSERT)
    assert len(result.entries) == 1
    (device,) = result.entries[0].resource["contained"]
    assert result.entries[0].resource["subject"]["type"] == device["resourceType"] == "Device"
    assert device["identifier"][0]["value"] == "QC1"
    type_ = device["type"] if version in ("R4", "R4B") else device["type"][0]
    assert type_["coding"] == [{"system": "http://snomed.info/sct", "code": "706342009", "display": "Phantom"}]


def test_an_animal_by_words() -> None:
    patient = mapped(study({"PatientID": "1", "PatientSpeciesDescription": "Canine"})).entries[1].resource
    (extension,) = patient["extension"]
    assert extension["url"] == "http://hl7.org/fhir/StructureDefinition/patient-animal"
    assert extension["extension"] == [{"url": "species", "valueCodeableConcept": {"text": "Canine"}}]


# Orders, reasons, codes -----------------------------------------------------------------------------------------------


def numbers_in(resource: Resource) -> list[str]:
    """Every accession number that an ImagingStudy holds, where servers search: ``accession`` and ``identifier``."""
    held = [resource["accession"]] if "accession" in resource else []
    held += [
        i for i in resource.get("identifier", []) if i.get("type", {}).get("coding", [{}])[0].get("code") == "ACSN"
    ]
    return [i["value"] for i in held]


@pytest.mark.parametrize("version", DIALECTS)
def test_every_accession_number_is_written(version: str) -> None:
    request = [{"AccessionNumber": number} for number in ("A2", "A1", "A3")]
    made = study(attrs={"AccessionNumber": "A1", "RequestAttributesSequence": request, "StudyID": "7"})
    plain = imaging_study(made, version)
    asked = imaging_study(made, version, accession_identifier=True)
    logical = [reference["identifier"]["value"] for reference in plain.get("basedOn", [])]
    assert logical == ([] if version in ("DSTU2", "1.4.0") else ["A1", "A2", "A3"])
    assert numbers_in(plain) == ([] if version in CONCEPTUAL else ["A1", "A2", "A3"])
    assert numbers_in(asked) == ["A1", "A2", "A3"]
    assert asked["identifier"][-1]["value"] == "7"


def test_a_number_without_issuer_is_that_of_the_issuer_whichever_comes_first() -> None:
    issued = {"AccessionNumber": "A1", "IssuerOfAccessionNumberSequence": [{"LocalNamespaceEntityID": "RIS"}]}
    for first, second in (({"AccessionNumber": "A1"}, issued), (issued, {"AccessionNumber": "A1"})):
        made = study(attrs={**first, "RequestAttributesSequence": [second]})
        (order,) = imaging_study(made)["basedOn"]
        assert order["identifier"]["assigner"] == {"display": "RIS"}


def test_accession_numbers_of_several_orders() -> None:
    ris, other = ([{"LocalNamespaceEntityID": name}] for name in ("RIS", "OTHER"))
    attrs = {
        "AccessionNumber": "1",
        "IssuerOfAccessionNumberSequence": ris,
        "RequestAttributesSequence": [
            {"AccessionNumber": "1"},
            {"AccessionNumber": "1", "IssuerOfAccessionNumberSequence": other},
            {"AccessionNumber": "2"},
            {"ReasonForTheRequestedProcedure": "Cough"},
        ],
    }
    policy = {"systems": NamingSystems(accession_number={"RIS": "urn:ris", "OTHER": "urn:other", "": "urn:nobody"})}
    expected = [("urn:ris", "1"), ("urn:nobody", "1"), ("urn:other", "1"), ("urn:nobody", "2")]
    for version in FROM_R4:
        found = imaging_study(study(attrs=attrs), version, **policy)
        ordered = [reference["identifier"] for reference in found["basedOn"]]
        assert [(i["system"], i["value"]) for i in ordered] == expected
        assert {reference["type"] for reference in found["basedOn"]} == {"ServiceRequest"}
        assert [i for i in found["identifier"] if i in ordered] == ([] if version in CONCEPTUAL else ordered)


@pytest.mark.parametrize("version", ["STU3", "3.2.0"])
@pytest.mark.parametrize(
    ("words", "codes", "expected"),
    [
        ("Fell", [], {"text": "Fell"}),
        ("", ["Cough"], {"coding": ["Cough"]}),
        ("Fell", ["Cough"], {"coding": ["Cough"], "text": "Fell"}),
        ("Fell", ["Cough", "Fever"], {"coding": ["Cough"], "text": "Fell; Cough; Fever"}),
    ],
)
def test_the_one_reason_of_old_versions_keeps_code_and_words(
    version: str, words: str, codes: list[str], expected: Resource
) -> None:
    items = [code("49727002", "SCT", meaning) if meaning == "Cough" else code("F", "99X", meaning) for meaning in codes]
    requests = [{"ReasonForRequestedProcedureCodeSequence": [item]} for item in items]
    attrs = {"ReasonForTheRequestedProcedure": words, "RequestAttributesSequence": requests}
    result = mapped(study(attrs={keyword: value for keyword, value in attrs.items() if value}), version)
    reason = result.entries[0].resource["reason"]
    if "coding" in reason:
        reason = {**reason, "coding": [coding["display"] for coding in reason["coding"]]}
    assert reason == expected
    assert ("ImagingStudy.reason" in notes_on(result)) == (len(codes) > 1)


FULL = {
    "AdmissionID": "V1",
    "InstitutionalDepartmentName": "Radiology",
    "StudyComments": "None",
    "NameOfPhysiciansReadingStudy": "Reader^Robin",
    "RequestAttributesSequence": [{"AccessionNumber": "A1", "ReasonForTheRequestedProcedure": "Fell"}],
    "AccessionNumber": "A1",
    "StudyID": "7",
    "StudyDescription": "Thorax",
}
FULL_SERIES = {
    "OperatorsName": "Operator^Ola",
    "Manufacturer": "Maker",
    "InstitutionName": "Hospital",
    "SpecimenIdentifier": "S1",
    "Laterality": "L",
}


@pytest.mark.parametrize(
    ("version", "lost"),
    [
        ("DSTU2", {"encounter", "location", "note", "reason", "series.performer", "series.specimen"}),
        ("1.4.0", {"encounter", "location", "note", "reason", "series.performer", "series.specimen"}),
        ("STU3", {"location", "note", "series.performer", "series.specimen"}),
        ("3.2.0", {"location", "note", "series.performer"}),
        ("R4", set()),
        ("R4B", set()),
        ("R5", {"interpreter"}),
        ("R6", {"interpreter"}),
    ],
)
def test_what_a_version_cannot_hold_is_noted_once_for_each_element(version: str, lost: set[str]) -> None:
    made = study(None, FULL, FULL_SERIES, {"InstanceAvailability": "ONLINE"}, {})
    again = Series("1.2.9", made.series[0].attrs, (Instance("1.2.9.1", CT),))
    result = mapped(Study(made.uid, 1, made.patient, made.attrs, (*made.series, again)), version)
    notes = [(note.where, note.text) for note in result.notes if note.level == "version"]
    assert {where for where, _ in notes} == {f"ImagingStudy.{element}" for element in lost}
    assert len(set(notes)) == len(notes)
    assert ("ImagingStudy.location", f"{version} has no element for location") in notes or "location" not in lost
    if version == "STU3":
        texts = [text for where, text in notes if where == "ImagingStudy.series.performer"]
        assert texts == ["STU3 has no performer of type Device", "STU3 has no performer of type Organization"]


def test_a_second_name_of_a_practitioner_is_noted_where_there_is_room_for_one() -> None:
    made = study(attrs={"ReferringPhysicianName": "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"})
    noted = {version for version in DIALECTS if "Practitioner.name" in notes_on(mapped(made, version))}
    assert noted == {"DSTU2"}


def test_a_study_without_what_a_version_lacks_has_no_such_note() -> None:
    for version in DIALECTS:
        assert not [note for note in mapped(study(), version).notes if note.level == "version"]


def test_reasons_with_their_words() -> None:
    attrs = {
        "ReasonForTheRequestedProcedure": "Coughs since May",
        "ReasonForRequestedProcedureCodeSequence": [code("49727002", "SCT", "Cough")],
        "RequestAttributesSequence": [
            {"ReasonForTheRequestedProcedure": "Fever"},
            {"ReasonForRequestedProcedureCodeSequence": [code("49727002", "SCT", "Cough")]},
        ],
        "ReasonForPerformedProcedureCodeSequence": [code("1", "99X", "Other"), code("1", "99X", "Other")],
    }
    found = imaging_study(study(attrs=attrs))["reasonCode"]
    assert [(codes_of([reason]), reason.get("text")) for reason in found] == [
        (["49727002"], "Coughs since May"),
        ([], "Fever"),
        (["49727002"], None),
        (["1"], None),
    ]
    assert [reason["concept"] for reason in imaging_study(study(attrs=attrs), "R5")["reason"]] == found


def test_a_data_set_cannot_rename_the_schemes_of_the_standard() -> None:
    attrs = {
        "CodingSchemeIdentificationSequence": [
            {"CodingSchemeDesignator": "SCT", "CodingSchemeUID": "2.16.840.1.113883.6.96"},
            {"CodingSchemeDesignator": "99SYN", "CodingSchemeUID": "1.2.99"},
            {"CodingSchemeUID": "1.2.98"},
        ],
        "ProcedureCodeSequence": [code("1", "SCT", "a"), code("2", "99SYN", "b"), code("3", "", "c")],
    }
    found = imaging_study(study(attrs=attrs))["procedureCode"]
    assert [concept["coding"][0].get("system") for concept in found] == [SNOMED_CT, "urn:oid:1.2.99", None]


# People and things ----------------------------------------------------------------------------------------------------


def person(number: str, scheme: str = "99STAFF") -> Attrs:
    return {"PersonIdentificationCodeSequence": [code(number, scheme, "Staff number")]}


def test_people_and_their_identifications_are_paired_by_place() -> None:
    series = {
        "PerformingPhysicianName": ["A^A", "B^B", "C^C"],
        "PerformingPhysicianIdentificationSequence": [person("1"), person("2")],
        "OperatorsName": "A^A",
        "OperatorIdentificationSequence": [person("1"), person("9")],
    }
    found = imaging_study(study(series=series))
    people = {
        f"#{c['id']}": (c.get("name", [{}])[0].get("text"), [i["value"] for i in c.get("identifier", [])])
        for c in found["contained"]
    }
    performers = found["series"][0]["performer"]
    assert [(codes_of([p["function"]])[0], people[p["actor"]["reference"]]) for p in performers] == [
        ("PRF", ("A A", ["1"])),
        ("PRF", ("B B", ["2"])),
        ("PRF", ("C C", [])),
        ("SPRF", ("A A", ["1"])),
        ("SPRF", (None, ["9"])),
    ]
    assert len(people) == 4, "who appears twice is contained once"


@pytest.mark.parametrize("referenced", [frozenset[str](), frozenset({"Practitioner"})])
def test_of_several_referrers_only_the_first_leaves_a_trace(referenced: frozenset[str]) -> None:
    attrs = {
        "ReferringPhysicianName": ["", "A", "B"],
        "ReferringPhysicianIdentificationSequence": [{}, person("1"), person("2")],
    }
    result = mapped(study(attrs=attrs), referenced=referenced)
    assert result.entries[0].resource["referrer"]["display"] == "A"
    assert len(result.entries[2:]) + len(result.entries[0].resource.get("contained", [])) == 1


def test_only_what_has_an_identifier_becomes_a_resource_of_its_own() -> None:
    attrs = {"InstitutionalDepartmentName": "Imaging"}
    series = {
        "OperatorsName": "B",
        "OperatorIdentificationSequence": [person("1", "LN")],
        "InstitutionName": "Hospital",
    }
    everything = frozenset({"Practitioner", "Organization", "Location", "Device"})
    result = mapped(study(attrs=attrs, series=series), referenced=everything)
    assert [(e.resource["resourceType"], e.write) for e in result.entries[2:]] == [("Practitioner", Write.ENSURE)]
    inside = {c["resourceType"] for c in result.entries[0].resource["contained"]}
    assert inside == {"Location", "Organization"}
    assert inside <= notes_on(result)


def people_of(attrs: Attrs, version: str = "R4") -> list[Resource]:
    """The Practitioners of their own of a study."""
    result = mapped(study(attrs=attrs), version, referenced=frozenset({"Practitioner"}))
    assert "contained" not in result.entries[0].resource
    return [e.resource for e in result.entries if e.resource["resourceType"] == "Practitioner"]


@pytest.mark.parametrize("version", DIALECTS)
def test_people_without_an_identification_code_are_known_by_their_name(version: str) -> None:
    (referrer,) = people_of({"ReferringPhysicianName": "Referrer^Rita"}, version)
    (again,) = people_of({"ReferringPhysicianName": "Referrer^Rita^^^", "StudyID": "7"}, version)
    assert again == referrer, "trailing delimiters say nothing (PS3.5 6.2)"
    (own,) = referrer["identifier"]
    assert own["value"].startswith("urn:uuid:")
    assert "Rita" not in str(own)


def test_two_spellings_are_never_one_person() -> None:
    spellings = ["Doe^Jane", "DOE^JANE", "Doe^Jane^M", "Doe^Jane^^Dr.", "Doe Jane", "Jane^Doe", "Doe^Jane=道^純"]
    coded = [
        {"ReferringPhysicianIdentificationSequence": [person(*code)]}
        for code in (("1", ""), ("2", ""), ("1", "99A"), ("1", "99B"))
    ]
    known = [people_of({"ReferringPhysicianName": spelling}) for spelling in spellings]
    known += [people_of({"ReferringPhysicianName": "Doe^Jane", **code}) for code in coded]
    ids = [one["id"] for (one,) in known]
    assert len(set(ids)) == len(ids)


def test_a_code_of_no_scheme_without_a_name_is_nobody_s() -> None:
    attrs = {"ReferringPhysicianIdentificationSequence": [person("1", "")]}
    result = mapped(study(attrs=attrs), referenced=frozenset({"Practitioner"}))
    assert [c["resourceType"] for c in result.entries[0].resource["contained"]] == ["Practitioner"]
    assert "Practitioner" in notes_on(result)


ORDERED = {"AccessionNumber": "A1", "AdmissionID": "V1"}
LOOKED_UP = frozenset({"order", "encounter"})
ORDER_TYPES = {"DSTU2": "DiagnosticOrder", "1.4.0": "DiagnosticOrder", "STU3": "ProcedureRequest"}


@pytest.mark.parametrize("version", DIALECTS)
def test_orders_and_encounters_are_looked_up_where_that_is_wanted(version: str) -> None:
    result = mapped(study(attrs=ORDERED), version, linked=LOOKED_UP)
    encounter = [] if version in ("DSTU2", "1.4.0") else [("Encounter", "identifier=%7CV1")]
    order = (ORDER_TYPES.get(version, "ServiceRequest"), "identifier=%7CA1")
    sought = [entry for entry in result.entries[2:] if entry.write is Write.LINK]
    assert [(e.resource["resourceType"], e.search) for e in sought] == [*encounter, order]
    text = str(result.entries[0].resource)
    assert all(f"'{entry.placeholder}'" in text for entry in sought)


@pytest.mark.parametrize("version", DIALECTS)
def test_what_is_not_found_is_written_as_what_is_not_looked_up(version: str) -> None:
    studies = []
    for linked in (frozenset[str](), LOOKED_UP):
        result = mapped(study(attrs=ORDERED), version, linked=linked)
        others = result.entries[2:]
        assert any(entry.search for entry in others) == bool(linked)
        studies.append(refer(result.entries[0].resource, {e.placeholder: unlinked(e) for e in others}, others))
    assert studies[0] == studies[1]


@pytest.mark.parametrize("version", FROM_R4)
def test_a_device(version: str) -> None:
    series = {
        "Manufacturer": "Synthetic",
        "ManufacturerModelName": "One",
        "DeviceSerialNumber": "7",
        "DeviceUID": "1.2.9",
        "StationName": "CT01",
        "SoftwareVersions": ["1", "", "2"],
    }
    (device,) = imaging_study(study(series=series), version)["contained"]
    assert [i["value"] for i in device["identifier"]] == ["urn:oid:1.2.9", "7"]
    assert (device["manufacturer"], device["modelNumber"], device["serialNumber"]) == ("Synthetic", "One", "7")
    names = device["name"] if version in CONCEPTUAL else device["deviceName"]
    kind: Any = "user-friendly-name"
    if version == "R6":
        kind = {"coding": [{"system": "http://hl7.org/fhir/device-nametype", "code": kind}]}
    assert names == [{"value" if version in CONCEPTUAL else "name": "CT01", "type": kind}]
    assert device["deviceVersion" if version == "R6" else "version"] == [{"value": "1"}, {"value": "2"}]


@pytest.mark.parametrize("version", [name for name in DIALECTS if "endpoint" in DIALECTS[name].elements])
def test_the_endpoint_of_the_archive(version: str) -> None:
    result = mapped(study(), version, dicomweb_url="https://pacs.example/dicom-web", endpoint_name="Archive")
    endpoint = result.entries[2]
    assert endpoint.write is Write.UPSERT
    assert endpoint.resource["address"] == "https://pacs.example/dicom-web"
    assert result.entries[0].resource["endpoint"][0]["reference"] == endpoint.placeholder


@pytest.mark.parametrize("version", FROM_R4)
@pytest.mark.parametrize(
    ("department", "room", "expected"),
    [
        ("Radiology", "CT 2", [{"name": "CT 2"}, {"name": "Radiology"}]),
        ("", "CT 2", [{"name": "CT 2"}]),
        ("Radiology", "", [{"name": "Radiology"}]),
    ],
)
def test_a_room_is_part_of_its_department(department: str, room: str, expected: list[Resource], version: str) -> None:
    found = imaging_study(study(attrs={"InstitutionalDepartmentName": department, "PerformedLocation": room}), version)
    contained = {f"#{resource['id']}": resource for resource in found["contained"]}
    chain, next_one = [], found["location"]
    while next_one:
        resource = contained[next_one["reference"]]
        assert next_one["display"] == resource["name"]
        assert resource.get("identifier", []) == ([{"value": room}] if resource["name"] == room else [])
        chain.append({"name": resource["name"]})
        next_one = resource.get("partOf")
    assert chain == expected
    assert len(contained) == len(expected)


@pytest.mark.parametrize("offset", ["CET", "+9900", "+1"])
def test_an_offset_that_cannot_be_read_is_noted(offset: str) -> None:
    made = study(attrs={"StudyDate": "20240311", "StudyTime": "0900", "TimezoneOffsetFromUTC": offset})
    result = mapped(made, time_zone=BERLIN)
    assert result.entries[0].resource["started"] == "2024-03-11T09:00:00+01:00"
    assert notes_on(result) == {"TimezoneOffsetFromUTC"}


def test_a_specimen_by_number_or_uid_each_once() -> None:
    numbered = {
        "SpecimenIdentifier": "S1",
        "IssuerOfTheSpecimenIdentifierSequence": [{"LocalNamespaceEntityID": "LAB"}],
    }
    series = {
        "SpecimenDescriptionSequence": [numbered, numbered, {"SpecimenUID": "1.2.9"}, {"SpecimenShortDescription": "?"}]
    }
    found = first_series(study(series=series), systems=NamingSystems(specimen={"LAB": "urn:lab"}))["specimen"]
    assert [(s["identifier"]["system"], s["identifier"]["value"]) for s in found] == [
        ("urn:lab", "S1"),
        ("urn:ietf:rfc:3986", "urn:oid:1.2.9"),
    ]


# Counts and instances -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at_most", "listed"), [(None, True), (2, True), (1, False), (0, False)])
def test_instances_are_listed_up_to_a_number(at_most: int | None, listed: bool) -> None:
    result = mapped(study(None, None, None, {}, {}), max_instances=at_most)
    found = result.entries[0].resource
    assert ("instance" in found["series"][0]) is listed
    assert (found["numberOfInstances"], found["series"][0]["numberOfInstances"]) == (2, 2)
    assert ("ImagingStudy.series.instance" in notes_on(result)) is not listed


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("0", 0), ("+3", 3), ("-1", None), ("9999999999", None), ("x", None)]
)
def test_numbers(text: str, expected: int | None) -> None:
    result = mapped(study(None, None, {"SeriesNumber": text}, {"InstanceNumber": text}))
    series = result.entries[0].resource["series"][0]
    assert (series.get("number"), series["instance"][0].get("number")) == (expected, expected)
    assert notes_on(result) == (set() if expected is not None else {"SeriesNumber", "InstanceNumber"})


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"ContentLabel": "LUNG", "DocumentTitle": "Report"}, "LUNG"),
        ({"ConceptNameCodeSequence": [code("1", "DCM", "Dose")], "DocumentTitle": "Report"}, "Dose"),
        ({"ConceptNameCodeSequence": [{"CodeValue": "1"}], "DocumentTitle": "Report"}, "Report"),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, "ORIGINAL\\PRIMARY"),
        ({"ImageType": "ORIGINAL"}, "ORIGINAL"),
        ({}, None),
    ],
)
def test_titles(image: Attrs, expected: str | None) -> None:
    assert first_series(study(None, None, None, image))["instance"][0].get("title") == expected


@pytest.mark.parametrize(("modality", "expected"), [("ct", "CT"), (["PT", "CT"], "PT"), ("", "OT"), (["", "MR"], "MR")])
def test_modalities(modality: Any, expected: str) -> None:
    for version in DIALECTS:
        listed = first_series(study(series={"Modality": modality}), version)["modality"]
        coding = listed["coding"][0] if version in CONCEPTUAL else listed
        assert coding == {"system": DIALECTS[version].systems.get(DCM, DCM), "code": expected}


@pytest.mark.parametrize("version", DIALECTS)
def test_a_modality_of_nobodys_list_is_no_code(version: str) -> None:
    result = mapped(study(series={"Modality": "MRI scan"}), version)
    modality = result.entries[0].resource["series"][0]["modality"]
    assert modality == ({"text": "MRI SCAN"} if version in CONCEPTUAL else {"display": "MRI SCAN"})
    assert "Modality" in notes_on(result)


def listed_modalities(version: str, *modalities: str) -> tuple[list[str], Mapped]:
    """The codes (or words) in the modality element of a study with a series of each modality."""
    images = (Instance("1.2.3", CT),)
    series = tuple(Series(f"1.2.{n}", {"Modality": each}, images) for n, each in enumerate(modalities, start=2))
    result = mapped(Study("1.2.1", 1, {"PatientID": "P1"}, {}, series), version)
    items = result.entries[0].resource.get(DIALECTS[version].elements["modality"].name, [])
    codings = [item.get("coding", [item])[0] for item in items]
    return [coding.get("code", coding.get("text")) for coding in codings], result


@pytest.mark.parametrize("version", DIALECTS)
def test_a_study_lists_acquisition_modalities_up_to_r4b_and_all_from_r5_on(version: str) -> None:
    mixed, _ = listed_modalities(version, "PT", "CT", "SEG", "PT", "KO", "ECG", "OT", "MRI scan")
    reports, result = listed_modalities(version, "KO", "SR", "PR")
    if version in CONCEPTUAL:
        assert mixed == ["PT", "CT", "SEG", "KO", "ECG", "OT", "MRI SCAN"]
        assert reports == ["KO", "SR", "PR"]
    else:
        assert mixed == ["PT", "CT", "ECG"]
        assert reports == []
        assert "ImagingStudy.modality" in notes_on(result)


@pytest.mark.parametrize("cid", [29, 33])
def test_modalities_are_those_of_the_standard(cid: int) -> None:
    ours = code_tables.acquisition_modalities() if cid == 29 else code_tables.modalities()
    newer = {"ANN", "RTINTENT", "RTRAD", "RTSEGANN", "XAPROTOCOL"}  # of PS3.3 C.7.3.1.1.1, after pydicom's edition
    assert ours - newer == context_group(cid)


def test_an_identifier_type_of_nobodys_table_keeps_its_words() -> None:
    qualifiers = [{"IdentifierTypeCode": "HOUSE NUMBER"}]
    patient = mapped(study({"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": qualifiers})).entries[1].resource
    assert patient["identifier"][0]["type"] == {"text": "HOUSE NUMBER"}


def test_comments_become_a_note_and_an_admission_a_visit() -> None:
    found = imaging_study(study(attrs={"StudyComments": "one\r\ntwo", "AdmissionID": "V1"}))
    assert found["note"] == [{"text": "one\r\ntwo"}]
    assert found["encounter"]["identifier"]["value"] == "V1"


# Versions before R4 ---------------------------------------------------------------------------------------------------

BEFORE_R4 = [name for name in DIALECTS if name not in FROM_R4]


@pytest.mark.parametrize("version", BEFORE_R4)
def test_uids_carry_their_prefix(version: str) -> None:
    found = imaging_study(study(), version)
    instance = found["series"][0]["instance"][0]
    assert found["uid"] == "urn:oid:1.2.1"
    assert all(uid.startswith("urn:oid:") for uid in (found["series"][0]["uid"], instance["uid"], instance["sopClass"]))
    assert "status" not in found
    assert mapped(study(), version).entries[0].search == "study=urn%3Aoid%3A1.2.1"


@pytest.mark.parametrize("version", [*BEFORE_R4, "R6"])
def test_a_uid_that_is_no_oid_is_refused(version: str) -> None:
    odd = {"SOPClassUID": "1.2.03"}
    with pytest.raises(NotExpressible, match="leading zeros"):
        mapped(study(None, None, None, odd), version)


def test_availability_is_the_worst_that_is_stated() -> None:
    images = [{"InstanceAvailability": word} for word in ("ONLINE", "OFFLINE", "NEARLINE")]
    found = imaging_study(study(None, None, None, *images), "STU3")
    assert (found["availability"], found["series"][0]["availability"]) == ("OFFLINE", "OFFLINE")
    for version in FROM_R4:
        found = imaging_study(study(None, None, None, *images), version)
        (extension,) = found["series"][0]["extension"]
        assert extension["url"].endswith("extension-ImagingStudy.series.availability")
        assert (extension["valueCode"], found["status"]) == ("OFFLINE", "available")


def test_what_archives_state_is_not_written_if_it_is_switched_off() -> None:
    stated, _ = study_and_options("availability")
    attrs = {"InstanceAvailability": "ONLINE"}
    own = [replace(one, attrs={**one.attrs, **attrs}) for one in stated.series[0].instances]
    series = replace(stated.series[0], instances=tuple(own))
    of_instances = replace(stated, series=(series, *stated.series[1:]))
    for version in DIALECTS:
        assert any(each.stated for each in own)
        assert mapped(stated, version, ian="never") != mapped(stated, version)
        bare = tuple(
            replace(s, instances=tuple(replace(i, stated=()) for i in s.instances)) for s in of_instances.series
        )
        assert mapped(of_instances, version, ian="never") == mapped(replace(of_instances, series=bare), version)


def test_availability_that_nobody_states_is_the_operators() -> None:
    assert "availability" not in imaging_study(study(), "DSTU2")
    assert imaging_study(study(), "DSTU2", availability="ONLINE")["availability"] == "ONLINE"
    assert "extension" not in imaging_study(study(), "R4", availability="ONLINE")


def test_a_study_that_is_gone() -> None:
    gone = study(None, None, None, {"InstanceAvailability": "UNAVAILABLE"}, {"InstanceAvailability": "UNAVAILABLE"})
    assert imaging_study(gone, "R4")["status"] == "registered"
    assert imaging_study(gone, "R6")["status"] == "inactive"
    partly = study(None, None, None, {"InstanceAvailability": "UNAVAILABLE"}, {})
    assert imaging_study(partly, "R4")["status"] == "available"


@pytest.mark.parametrize("version", ["DSTU2", "1.4.0"])
def test_where_there_is_no_endpoint_there_is_a_url(version: str) -> None:
    result = mapped(study(), version, dicomweb_url="https://pacs.example/dicom-web")
    found = result.entries[0].resource
    instance = found["series"][0]["instance"][0]
    assert found["url"] == "https://pacs.example/dicom-web/studies/1.2.1"
    assert found["series"][0]["url"].startswith(f"{found['url']}/series/")
    assert instance["content"][0]["url"].startswith(f"{found['series'][0]['url']}/instances/")
    assert {entry.resource["resourceType"] for entry in result.entries} <= {"ImagingStudy", "Patient"}


@pytest.mark.parametrize("version", ["DSTU2", "1.4.0"])
def test_a_patient_that_cannot_be_referred_to_by_identifier_can_be_contained(version: str) -> None:
    entry = mapped(study({"PatientID": "1"}), version).entries[1]
    assert entry.inside
    bundle = standalone(mapped(study({"PatientID": "1"}), version))
    found = bundle["entry"][0]["resource"]
    assert found["patient"] == {"reference": f"#{entry.inside}"}
    assert [c["id"] for c in found["contained"]] == [entry.inside]


@pytest.mark.parametrize(
    ("sop_class", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "KEY OBJECT DOC"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR DOCUMENT"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RT STRUCTURE SET"),
        ("1.2.3.4", None),
    ],
)
def test_the_type_of_an_instance(sop_class: str, expected: str | None) -> None:
    made = study(None, None, None, {"SOPClassUID": sop_class})
    assert first_series(made, "DSTU2")["instance"][0].get("type") == expected


def test_one_interpreter_where_there_is_room_for_one() -> None:
    made = study(attrs={"NameOfPhysiciansReadingStudy": ["A^A", "B^B"]})
    found = imaging_study(made, "DSTU2")
    assert len(found["contained"]) == 1
    assert found["interpreter"]["reference"] == f"#{found['contained'][0]['id']}"
    assert found["contained"][0]["name"]["family"] == ["A"]
