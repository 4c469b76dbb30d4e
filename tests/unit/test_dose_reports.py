"""Radiation dose reports: which values are read, which report counts, and what the Observation says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Resource
from testdata.make_cases import studies_of
from testdata.make_dicom import datasets, encode

FROM_R4_ON = ("R4", "R4B", "R5", "R6")


def mapped(reports: Sequence[Dataset], version: str = "R4", **options: Any) -> Mapped:
    (study,) = studies_of(map(encode, reports))
    return map_study(study, DIALECTS[version], MappingOptions(**options))


def observations(reports: Sequence[Dataset], version: str = "R4", **options: Any) -> list[Resource]:
    return [one.entries[0].resource for one in mapped(reports, version, **options).secondary]


def changed(case: str, change: Callable[[Dataset], None]) -> Resource:
    """The Observation of a case after a change of its report."""
    (report,) = datasets(case)
    change(report)
    (made,) = observations([report])
    return made


def named(report: Dataset, code: str, among: int = 0) -> Dataset:
    """The content item with a concept name, at any depth."""
    found = [item for item in every(report) if item.ConceptNameCodeSequence[0].CodeValue == code]
    return found[among]


def every(item: Dataset) -> list[Dataset]:
    below = [inner for one in item.get("ContentSequence", []) for inner in every(one)]
    return [item, *below]


def quantities(observation: Resource) -> dict[str, Any]:
    """The text of each component with a number -> the number."""
    return {
        one["code"].get("text", one["code"]["coding"][0]["display"]): one["valueQuantity"]["value"]
        for one in observation["component"]
        if "valueQuantity" in one
    }


@pytest.mark.parametrize("version", DIALECTS)
def test_from_r4_on(version: str) -> None:
    assert len(observations(datasets("sr-dose"), version)) == (version in FROM_R4_ON)
    assert not observations(datasets("sr-dose"), version, dose_reports="never")


def test_codes_of_snomed_rt_are_understood() -> None:
    (made,) = observations(datasets("sr-dose-mammography"))
    assert quantities(made) == {
        "Accumulated Average Glandular Dose, Single Plane, Right breast": 2.7,
        "Accumulated Average Glandular Dose, Single Plane, Left breast": 2.9,
        "Total Number of Radiographic Frames, Single Plane": 4,
    }


def test_planes_are_not_added_up() -> None:
    (made,) = observations(datasets("sr-dose-biplane"))
    found = quantities(made)
    assert found["Dose Area Product Total, Plane A"] == 0.0046
    assert found["Dose Area Product Total, Plane B"] == 0.0021
    assert len(found) == 10


def test_the_dose_of_events_is_not_read() -> None:
    (made,) = observations(datasets("sr-dose"))
    assert quantities(made) == {"CT Dose Length Product Total": 210.5, "Total Number of Irradiation Events": 1}


GENERAL = (uid.EnhancedSRStorage, uid.ComprehensiveSRStorage, uid.Comprehensive3DSRStorage)


@pytest.mark.parametrize("sop_class", GENERAL, ids=lambda sop_class: str(sop_class.name))
@pytest.mark.parametrize("case", ["sr-dose", "sr-dose-biplane", "sr-dose-nm"])
def test_a_report_in_a_general_sop_class_says_the_same(case: str, sop_class: uid.UID) -> None:
    (own,) = observations(datasets(case))

    def change(report: Dataset) -> None:
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = sop_class

    assert changed(case, change) == own


@pytest.mark.parametrize(("sop_class", "title"), [(uid.XRayRadiationDoseSRStorage, "113500"), (GENERAL[0], "126000")])
def test_a_report_with_another_title_is_none(sop_class: uid.UID, title: str) -> None:
    (report,) = datasets("sr-dose")
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = sop_class
    report.ConceptNameCodeSequence[0].CodeValue = title
    assert observations([report]) == []


def test_a_report_that_another_one_replaces_is_left_out_and_scopes_stay_apart() -> None:
    first, second, whole = datasets("sr-dose-replaced")
    values = [quantities(one)["CT Dose Length Product Total"] for one in observations([first, second, whole])]
    assert sorted(values) == [315, 655.25]
    assert len(observations([first, whole])) == 2
    scopes = {one["component"][-1]["valueCodeableConcept"]["coding"][0]["code"] for one in observations([first, whole])}
    assert scopes == {"113014", "113016"}


def test_a_report_that_names_itself_is_not_replaced() -> None:
    _, second, _ = datasets("sr-dose-replaced")
    reference = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    reference.ReferencedSOPInstanceUID = second.SOPInstanceUID
    assert len(observations([second])) == 1


@given(st.permutations(range(3)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    reports = datasets("sr-dose-replaced")
    by_id = {one["id"]: one for one in observations(reports)}
    assert {one["id"]: one for one in observations([reports[i] for i in order])} == by_id


def test_a_later_value_of_the_same_report_is_the_same_observation() -> None:
    def correct(report: Dataset) -> None:
        named(report, "113813").MeasuredValueSequence[0].NumericValue = "212"

    (before,) = observations(datasets("sr-dose"))
    after = changed("sr-dose", correct)
    assert after["id"] == before["id"]
    assert quantities(after)["CT Dose Length Product Total"] == 212


@pytest.mark.parametrize(("written", "value"), [("0", 0), ("0.50", 0.5), ("1e2", 100), ("-1.5", -1.5)])
def test_numbers(written: str, value: float) -> None:
    def change(report: Dataset) -> None:
        named(report, "113813").MeasuredValueSequence[0].NumericValue = written

    assert quantities(changed("sr-dose", change))["CT Dose Length Product Total"] == value


def test_a_number_that_only_the_floating_point_value_has() -> None:
    def change(report: Dataset) -> None:
        measured = named(report, "113813").MeasuredValueSequence[0]
        del measured.NumericValue
        measured.FloatingPointValue = 12.25

    assert quantities(changed("sr-dose", change))["CT Dose Length Product Total"] == 12.25


def test_a_number_without_a_unit_is_left_out_with_a_note() -> None:
    (report,) = datasets("sr-dose")
    del named(report, "113813").MeasuredValueSequence[0].MeasurementUnitsCodeSequence
    whole = mapped([report])
    assert list(quantities(whole.secondary[0].entries[0].resource)) == ["Total Number of Irradiation Events"]
    assert any("CT Dose Length Product Total" in note.text for note in whole.notes)


def test_why_there_is_no_number() -> None:
    (made,) = observations(datasets("sr-dose-nm"))
    (absent,) = (one["dataAbsentReason"]["coding"] for one in made["component"] if "dataAbsentReason" in one)
    assert [one["code"] for one in absent] == ["not-performed", "114007"]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({"CompletionFlag": "COMPLETE"}, "final"),
        ({"CompletionFlag": "PARTIAL"}, "preliminary"),
        ({"PreliminaryFlag": "PRELIMINARY"}, "preliminary"),
        ({"CompletionFlag": None}, "final"),
    ],
)
def test_the_status(flags: dict[str, str], status: str) -> None:
    def change(report: Dataset) -> None:
        for keyword, value in flags.items():
            setattr(report, keyword, value)

    assert changed("sr-dose", change)["status"] == status


def test_the_start_is_that_of_the_report_then_of_the_first_event_then_its_moment() -> None:
    (stated, _) = observations(datasets("sr-dose-replaced"))
    assert stated["effectiveDateTime"] == "2024-03-11T10:20:00+01:00"
    (by_event,) = observations(datasets("sr-dose-mammography"))
    assert by_event["effectiveDateTime"].startswith("2024-03-11T10:13:00")
    (by_moment,) = observations(datasets("sr-dose"))
    assert by_moment["effectiveDateTime"] == by_moment["issued"]


def test_who_authorized_is_preferred_and_without_anybody_the_profile_is_not_claimed() -> None:
    (made,) = observations(datasets("sr-dose-biplane"))
    assert [one["display"] for one in made["performer"]] == ["Anna Authorizer"]
    assert "profile" in made["meta"]

    def nobody(report: Dataset) -> None:
        report.ContentSequence = report.ContentSequence[:-1]
        del report.PerformingPhysicianName
        del report.PerformingPhysicianIdentificationSequence

    without = changed("sr-dose-biplane", nobody)
    assert without.keys().isdisjoint(("performer", "meta"))


def test_other_documents_of_the_class_are_left_alone() -> None:
    def retitled(report: Dataset) -> None:
        report.ConceptNameCodeSequence[0].CodeValue = "113500"

    (report,) = datasets("sr-dose")
    retitled(report)
    assert observations([report]) == []


def test_a_report_without_totals_is_noted() -> None:
    (report,) = datasets("sr-dose")
    report.ContentSequence = report.ContentSequence[:2]
    whole = mapped([report])
    assert whole.secondary == ()
    assert any("no dose totals" in note.text for note in whole.notes)


def test_hundreds_of_events_do_not_hide_who_authorized_what_follows_them() -> None:
    (report,) = datasets("sr-dose")
    *others, event = report.ContentSequence
    event.ContentSequence = [event.ContentSequence[0] for _ in range(60)]
    authorized = datasets("sr-dose-replaced")[0].ContentSequence[-1]
    report.ContentSequence = [*others, *[event] * 400, authorized]
    (made,) = observations([report])
    assert made["performer"][0]["display"] == "Anna Authorizer"
    assert quantities(made)["CT Dose Length Product Total"] == 210.5
