"""Measurement reports (TID 1500): which observations they hold, of what they were made, and what identifies them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.fhir.mapping import measured, measurement_reports
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.mapping.measurement_reports import CLASSES, MOST, TEMPLATE, TITLES
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Resource
from testdata.make_cases import studies_of
from testdata.make_dicom import datasets, encode
from tests.invariants import violations

WITH_IMAGES = ("R5", "R6")
FROM_R4_ON = ("R4", "R4B", *WITH_IMAGES)
REGIONS, REPLACED = "sr-tid1500-regions", "sr-tid1500-replaced"


def mapped(files: Sequence[Dataset], version: str = "R5", **options: Any) -> Mapped:
    (study,) = studies_of(map(encode, files))
    return map_study(study, DIALECTS[version], MappingOptions(**{"measurements": "auto", **options}))


def made(files: Sequence[Dataset], version: str = "R5", type_: str = "Observation", **options: Any) -> list[Resource]:
    every = [one.entries[0].resource for one in mapped(files, version, **options).secondary]
    return [one for one in every if one["resourceType"] == type_]


def changed(change: Callable[[Dataset], None], version: str = "R5", case: str = REGIONS) -> Mapped:
    """The resources of a case after a change of its report."""
    *others, report = datasets(case)
    change(report)
    return mapped([*others, report], version)


def observations(whole: Mapped) -> list[Resource]:
    every = (one.entries[0].resource for one in whole.secondary)
    return [one for one in every if one["resourceType"] == "Observation"]


def every(item: Dataset) -> Iterator[Dataset]:
    """The content items below one, at any depth."""
    for inner in item.get("ContentSequence", []):
        yield inner
        yield from every(inner)


def named(report: Dataset, code: str, among: int = 0) -> Dataset:
    """The content item with a concept name."""
    found = [
        item
        for item in every(report)
        if "ConceptNameCodeSequence" in item and code in str(item.ConceptNameCodeSequence[0])
    ]
    return found[among]


def title(resource: Resource) -> str:
    code = resource["code"]
    return str(code.get("text") or code["coding"][0]["display"])


def of_name(resources: list[Resource], name: str, among: int = 0) -> Resource:
    return [one for one in resources if title(one) == name][among]


def test_codes_are_those_of_the_standard() -> None:
    tables: Any = (cid_concepts, concepts)
    groups, codes = tables
    assert {code.code for code in TITLES} == {code for name in groups[7021]["DCM"] for code in codes["DCM"][name]}
    known = {(scheme, code) for scheme, names in codes.items() for own in names.values() for code in own}
    ours = [*vars(measurement_reports).values(), *vars(measured).values()]
    used = {code.code for code in ours if type(code).__name__ == "Coding" and "dicom.nema" in code.system}
    assert {("DCM", code) for code in used} <= known
    assert {code for name in groups[222]["SCT"] for code in codes["SCT"][name]} == set(measured._INTERPRETATIONS)
    assert {uid.EnhancedSRStorage, uid.ComprehensiveSRStorage, uid.Comprehensive3DSRStorage} == CLASSES
    assert CONTENT.keys() >= CLASSES


@pytest.mark.parametrize("version", DIALECTS)
def test_which_versions_have_them(version: str) -> None:
    assert len(made(datasets(REGIONS), version)) == (10 if version in FROM_R4_ON else 0)
    assert len(made(datasets(REGIONS), version, "ImagingSelection")) == (4 if version in WITH_IMAGES else 0)
    assert not made(datasets(REGIONS), version, measurements="never")
    assert violations(mapped(datasets(REGIONS), version), version) == []


def test_they_are_off_unless_asked_for() -> None:
    assert MappingOptions().measurements == "never"


def test_what_is_read_of_a_group() -> None:
    found = made(datasets(REGIONS))
    assert [title(one) for one in found] == [
        *("Length", "Area", "Margins", "Morphologically Abnormal Structure"),
        *("Diameter, Mean", "Diameter, Maximum", "Volume", "Measurement Group"),
        *("Measurement of Response", "Current Response"),
    ]
    first, second = (one for one in found if "hasMember" in one)
    assert [one["reference"] for one in first["hasMember"]] == [f"urn:uuid:{one['id']}" for one in found[:3]]
    assert first["valueCodeableConcept"]["coding"][0]["code"] == "27925004"
    assert {one["value"] for one in first["identifier"]} >= {"Nodule 1"}
    assert first["category"][0]["coding"][0]["code"] == "125007"
    assert "category" not in second, "its code says the same"


def test_the_moment_is_that_of_the_group_before_that_of_the_report() -> None:
    found = made(datasets(REGIONS))
    assert of_name(found, "Volume")["effectiveDateTime"] == "2024-03-11T11:00:00+01:00"
    assert of_name(found, "Volume")["issued"] == "2024-03-11T11:00:00+01:00"
    assert of_name(found, "Area")["effectiveDateTime"].startswith("2024-03-11T09:20:15")


def test_the_algorithm_is_the_device() -> None:
    found = made(datasets(REGIONS))
    displays = [one["device"]["display"] for one in found]
    assert [display == "NoduleFinder" for display in displays] == [
        *(False, True, False, False),
        *4 * [True],
        False,
        False,
    ]
    (device,) = (one for one in of_name(found, "Area")["contained"] if one["resourceType"] == "Device")
    assert device["version"] == [{"value": "2.1"}]


def test_site_and_side() -> None:
    (structure,) = (
        one for one in of_name(made(datasets(REGIONS)), "Length")["contained"] if one["resourceType"] == "BodyStructure"
    )
    (included,) = structure["includedStructure"]
    assert included["structure"]["coding"][0]["code"] == "39607008"
    assert included["laterality"]["coding"][0]["code"] == "7771000"
    assert of_name(made(datasets(REGIONS), "R4"), "Length")["bodySite"]["text"] == "Lung, Left"
    assert of_name(made(datasets("sr-tid1500")), "Length")["bodySite"]["coding"][0]["code"] == "39607008"


def test_regions_segments_and_their_observations() -> None:
    selections = {title(one): one for one in made(datasets(REGIONS), "R6", "ImagingSelection")}
    path = selections["Path"]["instance"][0]["imageRegion2D"]
    assert path == [{"regionType": "polyline", "coordinate": [10.5, 10.25, 20, 18.125]}]
    assert selections["Referenced Segment"]["instance"][0]["subset"] == ["1"]
    regions, in_space = (
        one for one in made(datasets(REGIONS), "R6", "ImagingSelection") if title(one) == "Image Region"
    )
    assert [one["number"] for one in regions["instance"]] == [1, 2]
    assert [one["regionType"] for one in regions["instance"][1]["imageRegion2D"]] == ["point", "point"]
    assert in_space["imageRegion3D"][0]["coordinate"] == [1, 2, 3, 4.5, 2, 3, 4.5, 6, 3, 1, 2, 3]
    assert "seriesUid" not in in_space
    found = made(datasets(REGIONS), "R6")
    assert of_name(found, "Length")["derivedFrom"][0]["reference"] == f"urn:uuid:{selections['Path']['id']}"
    assert of_name(found, "Area")["derivedFrom"][0]["reference"] == f"urn:uuid:{regions['id']}"
    assert of_name(found, "Current Response")["derivedFrom"][0]["type"] == "ImagingStudy"


def test_r5_has_a_region_in_space_without_coordinates_and_r4_no_region() -> None:
    for version, missing in (("R5", "region in space"), ("R4", "image regions")):
        whole = mapped(datasets(REGIONS), version)
        assert any(missing in note.text for note in whole.notes if note.level == "version")
    assert {one["derivedFrom"][0]["type"] for one in made(datasets(REGIONS), "R4")} == {"ImagingStudy"}


def test_why_there_is_no_number() -> None:
    reason = of_name(made(datasets(REGIONS)), "Volume")["dataAbsentReason"]["coding"]
    assert [one["code"] for one in reason] == ["error", "114006"]


def test_the_normal_range_is_written_as_far_as_it_is_stated() -> None:
    def only_a_limit(report: Dataset) -> None:
        for item in every(report):
            kept = [one for one in item.get("ContentSequence", []) if "Normal Range L" not in meaning(one)]
            if "ContentSequence" in item:
                item.ContentSequence = [one for one in kept if "Authority" not in meaning(one)]

    def without_units(report: Dataset) -> None:
        only_a_limit(report)
        for item in every(report):
            if "Normal Range Upper" in meaning(item):
                del item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence

    def ranges(change: Callable[[Dataset], None]) -> list[Any]:
        return [one["referenceRange"] for one in observations(changed(change)) if "referenceRange" in one]

    millimetres = {"unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"}
    assert ranges(only_a_limit) == [[{"high": {"value": 5.5, **millimetres}}]]
    assert ranges(without_units) == []


def meaning(item: Dataset) -> str:
    """The concept name of a content item in words."""
    name = item.get("ConceptNameCodeSequence")
    return str(name[0].CodeMeaning) if name else ""


def test_a_number_without_a_unit_is_left_out_with_a_note() -> None:
    def change(report: Dataset) -> None:
        del named(report, "Area").MeasuredValueSequence[0].MeasurementUnitsCodeSequence

    whole = changed(change)
    assert "Area" not in map(title, observations(whole))
    assert any("has no number with a unit" in note.text for note in whole.notes)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({"VerificationFlag": "VERIFIED"}, "final"),
        ({"VerificationFlag": "UNVERIFIED"}, "preliminary"),
        ({"VerificationFlag": "UNVERIFIED", "PreliminaryFlag": "FINAL"}, "final"),
        ({"VerificationFlag": "VERIFIED", "PreliminaryFlag": "PRELIMINARY"}, "preliminary"),
        ({"VerificationFlag": "VERIFIED", "CompletionFlag": "PARTIAL"}, "preliminary"),
    ],
)
def test_the_status(flags: dict[str, str], status: str) -> None:
    def change(report: Dataset) -> None:
        for keyword, value in flags.items():
            setattr(report, keyword, value)

    assert {one["status"] for one in observations(changed(change))} == {status}


# What identifies them ------------------------------------------------------------------------------------------------


def ids(whole: Mapped) -> dict[str, str]:
    """The name of each observation, or the lesion of a group -> its id."""
    return {
        next((i["value"] for i in one["identifier"] if i["value"].startswith("Nodule")), title(one)): one["id"]
        for one in observations(whole)
    }


def test_ids_do_not_depend_on_values_or_on_the_place_in_the_report() -> None:
    before = ids(mapped(datasets(REGIONS)))

    def change(report: Dataset) -> None:
        for item in every(report):
            if "MeasuredValueSequence" in item and item.MeasuredValueSequence:
                item.MeasuredValueSequence[0].NumericValue = "77"
        groups = report.ContentSequence[3]
        groups.ContentSequence = [*reversed(groups.ContentSequence)]
        first = groups.ContentSequence[1]
        first.ContentSequence = [*reversed(first.ContentSequence)]

    assert ids(changed(change)) == before


def test_the_same_lesion_twice_is_two_groups() -> None:
    def change(report: Dataset) -> None:
        groups = report.ContentSequence[3]
        groups.ContentSequence = [*groups.ContentSequence, deepcopy(groups.ContentSequence[0])]

    found = observations(changed(change))
    assert len({one["id"] for one in found}) == len(found) == 14


def test_a_report_that_another_one_replaces_is_left_out() -> None:
    first, second = datasets(REPLACED)
    found = made([first, second])
    assert [one["valueQuantity"]["value"] for one in found if "valueQuantity" in one] == [9]
    assert not {one["id"] for one in found} & {one["id"] for one in made([first])}
    assert made([second, first]) == found


@given(st.permutations(range(4)))
def test_images_and_report_come_in_any_order(order: list[int]) -> None:
    files = datasets(REGIONS)
    whole, again = mapped(files), mapped([files[i] for i in order])
    assert [one.entries[0].resource for one in again.secondary] == [one.entries[0].resource for one in whole.secondary]


def test_images_of_evidence_that_is_not_here() -> None:
    *_, report = datasets(REGIONS)
    regions = next(one for one in made([report], type_="ImagingSelection") if title(one) == "Image Region")
    assert len(regions["instance"]) == 2
    assert "seriesNumber" not in regions


def test_an_instance_that_nobody_knows_is_left_out() -> None:
    def change(report: Dataset) -> None:
        del report.CurrentRequestedProcedureEvidenceSequence

    *_, report = datasets(REGIONS)
    change(report)
    whole = mapped([report])
    assert not [one for one in whole.secondary if "instance" in one.entries[0].resource]
    assert any("without class, series or study" in note.text for note in whole.notes)
    assert of_name(observations(whole), "Area")["derivedFrom"][0]["type"] == "ImagingStudy"


# What is not read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("POLYLINE", [1, 2, 3]),
        ("CIRCLE", [1, 2, 3, 4, 5, 6]),
        ("SPIRAL", [1, 2]),
        ("POINT", []),
        ("POINT", [float("nan"), 1]),
    ],
)
def test_coordinates_that_do_not_fit_are_left_out(kind: str, data: list[float]) -> None:
    def change(report: Dataset) -> None:
        path = named(report, "121055")
        path.GraphicType, path.GraphicData = kind, data or None

    whole = changed(change)
    assert any(note.where == "GraphicData" for note in whole.notes)
    assert "Path" not in [title(one.entries[0].resource) for one in whole.secondary]


def test_frames_of_a_segmentation_are_not_written_as_its_segments() -> None:
    def change(report: Dataset) -> None:
        reference = named(report, "121191").ReferencedSOPSequence[0]
        del reference.ReferencedSegmentNumber
        reference.ReferencedFrameNumber = [7]

    whole = changed(change)
    (segment,) = (
        one.entries[0].resource for one in whole.secondary if title(one.entries[0].resource) == "Referenced Segment"
    )
    assert "subset" not in segment["instance"][0]
    assert any(note.where == "ReferencedFrameNumber" for note in whole.notes)


def test_a_region_of_the_whole_slide_is_left_out() -> None:
    def change(report: Dataset) -> None:
        named(report, "121055").PixelOriginInterpretation = "VOLUME"

    assert any(note.where == "PixelOriginInterpretation" for note in changed(change).notes)


def test_other_documents_of_the_class_are_left_alone() -> None:
    def change(report: Dataset) -> None:
        report.ConceptNameCodeSequence[0].CodeValue = "1"
        report.ContentTemplateSequence[0].TemplateIdentifier = "5200"

    assert changed(change).secondary == ()
    assert TEMPLATE == "1500"


def test_a_report_without_measurements_is_noted() -> None:
    def change(report: Dataset) -> None:
        report.ContentSequence = report.ContentSequence[:2]

    whole = changed(change)
    assert whole.secondary == ()
    assert any("has no measurements" in note.text for note in whole.notes)


def test_a_report_of_too_many_measurements_is_cut_at_a_group() -> None:
    def change(report: Dataset) -> None:
        groups = report.ContentSequence[3]
        groups.ContentSequence = [deepcopy(groups.ContentSequence[0]) for _ in range(MOST // 4)]

    whole = changed(change)
    assert MOST - 6 < len(whole.secondary) <= MOST
    assert any(f"more than {MOST} resources" in note.text for note in whole.notes)
    members = {one["reference"] for found in observations(whole) for one in found.get("hasMember", ())}
    assert members <= {one.entries[0].placeholder for one in whole.secondary}
