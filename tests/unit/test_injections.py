"""When and how a tracer or a contrast agent was given, and what a patient can weigh, where profiles ask for it."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydicom import dcmwrite

from dicom2fhir.demo.synthetic import Values, code, instance
from dicom2fhir.fhir.mapping.date_times import day_from, day_until, moment, moment_of_dt
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile.apply import conform
from dicom2fhir.fhir.profile.plausible_ranges import BOUNDS, is_plausible
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Resource
from dicom2fhir.wiring.options import profile
from testdata.make_cases import studies_of
from tests.invariants import violations

OSIRIS, MII = "osiris", "mii-bildgebung"
BERLIN = ZoneInfo("Europe/Berlin")
INTRAVENOUS = code("47625008", "SCT", "Intravenous route")


def mapped(name: str, *images: dict[str, Any], modality: str = "PT") -> Mapped:
    """One series as a profile wants it, from files."""
    files = []
    for number, attributes in enumerate(images, start=1):
        made = instance(modality, "injections", 1, number, **attributes)
        buffer = BytesIO()
        dcmwrite(buffer, made)
        files.append(buffer.getvalue())
    (study,) = studies_of(files)
    dialect = DIALECTS["R4"]
    result = conform(profile(name), map_study(study, dialect, MappingOptions()), study, dialect, MappingOptions())
    assert violations(result, "R4") == []
    return result


def contained(result: Mapped, type_: str) -> list[Resource]:
    return [one for one in result.entries[0].resource.get("contained", []) if one["resourceType"] == type_]


def acquired(date: str, time: str, **others: Any) -> dict[str, Any]:
    return {"AcquisitionDate": date, "AcquisitionTime": time, "SeriesDate": date, "SeriesTime": time, **others}


def tracer(**attributes: Any) -> dict[str, Any]:
    item: Values = {"Radiopharmaceutical": "FDG", "RadionuclideTotalDose": "320000000", **attributes}
    return {"RadiopharmaceuticalInformationSequence": [item]}


# The day --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "images", "expected", "is_noted"),
    [
        ("081500", [acquired("20240311", "092000")], "2024-03-11T08:15:00+01:00", False),
        ("092000", [acquired("20240311", "092000")], "2024-03-11T09:20:00+01:00", False),
        ("092001", [acquired("20240311", "092000")], "2024-03-10T09:20:01+01:00", True),
        ("235000", [acquired("20240312", "001500")], "2024-03-11T23:50:00+01:00", True),
        ("235000", [acquired("20240301", "001500")], "2024-02-29T23:50:00+01:00", True),
        ("23", [acquired("20240312", "001500")], "2024-03-11", True),
        ("00", [acquired("20240312", "001500")], "2024-03-12", False),
        # the series begins before midnight and the tracer comes after its first image
        (
            "235800",
            [acquired("20240311", "235500"), acquired("20240312", "000500", SeriesDate="20240311")],
            "2024-03-11T23:58:00+01:00",
            True,
        ),
        # the acquisition has the time of another zone than the data set
        (
            "235000",
            [acquired("20240312", "", AcquisitionDateTime="20240311231500+0000")],
            "2024-03-11T23:50:00+01:00",
            True,
        ),
    ],
)
def test_a_tracer_comes_before_the_acquisition(
    start: str, images: list[dict[str, Any]], expected: str, is_noted: bool
) -> None:
    result = mapped(OSIRIS, *({**image, **tracer(RadiopharmaceuticalStartTime=start)} for image in images))
    (injection,) = contained(result, "MedicationAdministration")
    assert injection["effectiveDateTime"] == expected
    assert ("RadiopharmaceuticalStartTime" in {note.where for note in result.notes}) is is_noted


def test_without_an_acquisition_the_last_image_says_when_a_tracer_was_there() -> None:
    image: dict[str, Any] = {
        "SeriesDate": "20240311",
        "SeriesTime": "100000",
        "ContentDate": "20240311",
        "ContentTime": "100100",
    }
    image |= {"AcquisitionDate": None, "AcquisitionTime": None, **tracer(RadiopharmaceuticalStartTime="100030")}
    (injection,) = contained(mapped(OSIRIS, image), "MedicationAdministration")
    assert injection["effectiveDateTime"] == "2024-03-11T10:00:30+01:00"


def test_a_start_after_the_acquisition_is_noted() -> None:
    image = {**acquired("20240311", "092000"), **tracer(RadiopharmaceuticalStartDateTime="20240311093000")}
    result = mapped(MII, image)
    assert "is before the start; the duration is left out" in {note.text for note in result.notes}


def test_a_start_with_its_date_stands() -> None:
    both = tracer(RadiopharmaceuticalStartTime="081500", RadiopharmaceuticalStartDateTime="20240309235000+0100")
    (injection,) = contained(mapped(OSIRIS, {**acquired("20240311", "092000"), **both}), "MedicationAdministration")
    assert injection["effectiveDateTime"] == "2024-03-09T23:50:00+01:00"


def test_without_a_time_zone_the_day_is_told_all_the_same() -> None:
    image = {**acquired("20240312", "001500"), **tracer(RadiopharmaceuticalStartTime="235000")}
    (injection,) = contained(mapped(OSIRIS, {**image, "TimezoneOffsetFromUTC": None}), "MedicationAdministration")
    assert injection["effectiveDateTime"] == "2024-03-11"


CONTRAST = {"ContrastBolusAgent": "Iohexol 350"}


@pytest.mark.parametrize("name", [OSIRIS, MII])
@pytest.mark.parametrize(
    ("start", "stop", "acquisition", "expected"),
    [
        ("091945", "092005", ("20240311", "092010"), ("2024-03-11T09:19:45", "2024-03-11T09:20:05")),
        ("235900", "000010", ("20240312", "000100"), ("2024-03-11T23:59:00", "2024-03-12T00:00:10")),
        ("235900", "002000", ("20240312", "000100"), ("2024-03-11T23:59:00", "2024-03-12T00:20:00")),
        ("235000", "235900", ("20240312", "000100"), ("2024-03-11T23:50:00", "2024-03-11T23:59:00")),
        ("235000", None, ("20240312", "000100"), ("2024-03-11T23:50:00", None)),
        # an end a minute before the start is a mistake, not an injection of a day
        ("091945", "091845", ("20240311", "092010"), ("2024-03-11T09:19:45", None)),
    ],
)
@pytest.mark.parametrize("is_enhanced", [False, True], ids=["classic", "enhanced"])
def test_a_contrast_agent_across_midnight(
    name: str,
    start: str,
    stop: str | None,
    acquisition: tuple[str, str],
    expected: tuple[str, str | None],
    is_enhanced: bool,
) -> None:
    times = {"ContrastBolusStartTime": start, "ContrastBolusStopTime": stop}
    agent = {**code("109218005", "SCT", "Iohexol"), "ContrastAdministrationProfileSequence": [times]}
    given = {"ContrastBolusAgentSequence": [agent]} if is_enhanced else {**CONTRAST, **times}
    result = mapped(name, {**acquired(*acquisition), **given}, modality="CT")
    (injection,) = contained(result, "MedicationAdministration")
    period = {"start": expected[0], "end": expected[1]}
    assert injection["effectivePeriod"] == {key: f"{value}+01:00" for key, value in period.items() if value}


@pytest.mark.parametrize(
    ("start", "stop", "last", "day"),
    [("235900", "00", ("20240312", "000100"), "20240312"), ("091945", "09", ("20240311", "092010"), "20240311")],
)
def test_an_end_that_is_an_hour_alone_lies_on_the_day_of_that_hour(
    start: str, stop: str, last: tuple[str, str], day: str
) -> None:
    until = moment(*last, BERLIN)
    assert until
    begin = moment(day_until(start, until), start, BERLIN)
    assert begin and day_from(stop, begin) == day


def test_a_contrast_agent_given_during_a_long_acquisition() -> None:
    image = {**CONTRAST, "ContrastBolusStartTime": "092110", "AcquisitionDuration": 300.0}
    result = mapped(MII, {**acquired("20240311", "092010"), **image}, modality="MR")
    (injection,) = contained(result, "MedicationAdministration")
    assert injection["effectivePeriod"] == {"start": "2024-03-11T09:21:10+01:00"}


def test_the_calendar_ends() -> None:
    first, last = datetime(1, 1, 1, 0, 15), datetime(9999, 12, 31, 23, 59)
    assert day_until("2300", first) == day_from("0100", last) == day_until("0100", last, 120) == ""
    assert moment("00010101", "0000", BERLIN) is None
    assert moment_of_dt("99991231235959-1200", BERLIN) is None


# The route ------------------------------------------------------------------------------------------------------------

IN_OSIRIS = {"system": "http://snomed.info/sct", "code": "47625008", "display": "Intravenous use"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"AdministrationRouteCodeSequence": [INTRAVENOUS]}, IN_OSIRIS),
        ({"RadiopharmaceuticalRoute": "IV"}, IN_OSIRIS),
        ({"RadiopharmaceuticalRoute": "Intravenous"}, IN_OSIRIS),
        ({"AdministrationRouteCodeSequence": [code("26643006", "SCT", "Oral route")]}, None),
        ({"RadiopharmaceuticalRoute": "INHALATION"}, None),
    ],
)
def test_the_route_is_what_the_header_says(given: Values, expected: Resource | None) -> None:
    result = mapped(OSIRIS, {**acquired("20240311", "092000"), **tracer(**given)})
    (injection,) = contained(result, "MedicationAdministration")
    assert injection["dosage"].get("route") == (expected and {"coding": [expected]})
    assert injection["dosage"]["dose"]["value"] == 320


# Implausible numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "value", "is_kept"),
    [
        *(("PatientWeight", weight, False) for weight in ("0", "0.0", "-70", "0.1", "7000", "1e9", "nan", "inf")),
        *(("PatientWeight", weight, True) for weight in ("0.2", "3.2", "64.5", "635")),
        *(("PatientSize", size, False) for size in ("0", "175", "3.5", "-1.7")),
        *(("PatientSize", size, True) for size in ("0.24", "1.68", "2.72")),
    ],
)
def test_weights_and_sizes_that_cannot_be_are_left_out(keyword: str, value: str, is_kept: bool) -> None:
    others = dict.fromkeys(BOUNDS.keys() & {"PatientWeight", "PatientSize"})
    result = mapped(MII, {**others, keyword: value}, modality="CT")
    found = [one["valueQuantity"]["value"] for one in contained(result, "Observation")]
    assert found == ([pytest.approx(float(value) * (100 if keyword == "PatientSize" else 1))] if is_kept else [])
    notes = [note for note in result.notes if note.where == keyword]
    assert bool(notes) is not is_kept
    assert all(value not in note.text for note in notes)


def test_a_weight_that_cannot_be_is_missing_where_it_is_required() -> None:
    image = {**acquired("20240311", "092000"), **tracer(), "PatientWeight": "0"}
    result = mapped(OSIRIS, image)
    (series,) = result.entries[0].resource["series"]
    (weights,) = (one for one in series["extension"] if one["url"].endswith("series-weightheigt"))
    assert weights["extension"][0] == {"url": "patient_weight", "valueDecimal": 999999}


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("SliceThickness", "0", False),
        ("SliceThickness", "0.001", True),
        ("PixelSpacing", "-0.5", False),
        ("MagneticFieldStrength", "15000", False),
        ("MagneticFieldStrength", "0.064", True),
        ("MagneticFieldStrength", "7", True),
        ("RadionuclideTotalDose", "0", False),
        ("EchoTime", "0", True),
        ("EchoTime", "-1", False),
        ("ConvolutionKernel", "-1", True),
        ("KVP", "none", True),
        ("KVP", "nan", True),
    ],
)
def test_what_a_number_can_be(keyword: str, value: str, expected: bool) -> None:
    assert is_plausible(keyword, value) is expected
