"""A study is the same whatever order its instances come in, and disagreement is settled by counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.attributes import LEVELS, Attribute
from dicom2fhir.dicom.study import assemble
from dicom2fhir.model import InstanceRecord, Note, Study
from testdata.make_cases import record_of
from testdata.make_dicom import CASES, encoded

CT = "1.2.840.10008.5.1.4.1.1.2"


def record(sop: str, series: str = "1.2.2", levels: Mapping[str, dict[str, Any]] | None = None) -> InstanceRecord:
    attrs: dict[str, dict[str, Any]] = {level: {} for level in LEVELS} | dict(levels or {})
    return InstanceRecord(
        study_uid="1.2.1",
        series_uid=series,
        sop_uid=sop,
        patient=attrs["patient"],
        study=attrs["study"],
        series=attrs["series"],
        instance={"SOPClassUID": CT} | attrs["instance"],
    )


def study_of(*attrs: dict[str, Any], level: str = "study") -> Study:
    """A study of one series with an instance for each of ``attrs``."""
    return assemble("1.2.1", 1, [record(f"1.2.3.{n}", levels={level: attrs_}) for n, attrs_ in enumerate(attrs)])


# Order --------------------------------------------------------------------------------------------------------------


def values(attribute: Attribute) -> st.SearchStrategy[Any]:
    """A few values, so that they often agree; malformed ones (several where there may be one) among them."""
    if attribute.vr == "SQ":
        item = st.fixed_dictionaries({attribute.items[0].keyword: st.sampled_from("ab")})
        return st.lists(item, min_size=1, max_size=2)
    return st.sampled_from(["a", "b", "20240311", ["a", "b"]])


def attrs_of(level: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={a.keyword: values(a) for a in LEVELS[level][:12]})


RECORDS = st.lists(
    st.builds(
        record,
        st.integers(1, 4).map(lambda n: f"1.2.3.{n}"),
        st.sampled_from(["1.2.2.1", "1.2.2.10", "1.2.2.9"]),
        st.fixed_dictionaries({level: attrs_of(level) for level in LEVELS}),
    ),
    max_size=6,
    unique_by=lambda found: (found.series_uid, found.sop_uid),
)


@given(records=RECORDS, data=st.data())
def test_the_order_of_arrival_does_not_matter(records: list[InstanceRecord], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(records))
    assert assemble("1.2.1", 1, shuffled) == assemble("1.2.1", 1, records)


@pytest.mark.parametrize("case", [case.name for case in CASES.values() if case.outcome == "accepted"])
def test_every_generated_study_is_the_same_in_reverse(case: str) -> None:
    records = [record_of(data) for data in encoded(case)[:60]]
    assert assemble("1.2.1", 1, records) == assemble("1.2.1", 1, reversed(records))


def test_series_are_in_the_order_of_their_uids_and_instances_in_that_of_their_numbers() -> None:
    numbers = {"1.2.3.1": "10", "1.2.3.2": "9", "1.2.3.10": "9", "1.2.3.3": "x", "1.2.3.4": None, "1.2.3.5": "-1"}
    records = [
        record(uid, "1.2.2.10", {"instance": {"InstanceNumber": number} if number else {}})
        for uid, number in numbers.items()
    ]
    study = assemble("1.2.1", 3, [*records, record("1.2.3.9", "1.2.2.9")])
    assert [series.uid for series in study.series] == ["1.2.2.9", "1.2.2.10"]
    assert [instance.uid[6:] for instance in study.series[1].instances] == ["5", "2", "10", "1", "3", "4"]
    assert study.revision == 3


# Which value stands -------------------------------------------------------------------------------------------------


def test_what_all_say_stands_and_nothing_is_noted() -> None:
    study = study_of({"StudyDescription": "a"}, {"StudyDescription": "a"})
    assert study.attrs == {"StudyDescription": "a"}
    assert study.notes == ()


@pytest.mark.parametrize(
    ("given_values", "stands"),
    [
        (["b", "b", "a"], "b"),
        (["a", "b"], "a"),
        ([None, None, "a"], "a"),
        ([None, "b", "a", "b"], "b"),
        ([["a", "b"], "a", ["a", "b"]], ["a", "b"]),
    ],
)
def test_the_most_frequent_then_the_smallest_stands(given_values: list[Any], stands: object) -> None:
    study = study_of(*({"StudyDescription": value} if value else {} for value in given_values))
    assert study.attrs == {"StudyDescription": stands}
    differs = len({str(value) for value in given_values if value}) > 1
    expected = Note("info", "StudyDescription", "differs between instances; the most frequent value is used")
    assert study.notes == ((expected,) if differs else ())


def test_the_earliest_date_stands_with_the_time_and_zone_of_its_instance() -> None:
    study = study_of(
        {"StudyDate": "20240312", "StudyTime": "0100", "TimezoneOffsetFromUTC": "+0100"},
        {"StudyDate": "20240312", "StudyTime": "0100", "TimezoneOffsetFromUTC": "+0100"},
        {"StudyDate": "20240311", "StudyTime": "2300"},
        {"StudyTime": "0000"},
    )
    assert study.attrs == {"StudyDate": "20240311", "StudyTime": "2300"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("20240311", "2300", "-0500"), ("20240312", "0100", "-0500"), id="one zone"),
        pytest.param(("20240312", "0100", "+1400"), ("20240311", "2300", "-0500"), id="two zones"),
        pytest.param(("20240311", "091500.5", "+0100"), ("20240311", "0915", "+0000"), id="other precisions"),
        pytest.param(("20240102", "1200", ""), ("2024.12.31", "1200", ""), id="an ACR-NEMA date"),
        pytest.param(("20240311", "0915", ""), ("20240311", "09:16", ""), id="an ACR-NEMA time"),
        pytest.param(("20240311", "0915", ""), ("20240311", "091500.000001", ""), id="half a minute's digits"),
        pytest.param(("20240311", "2300", ""), ("20240312", "0100", "+1400"), id="a zone that nobody tells"),
        pytest.param(("20240311", "2359", "-1200"), ("20240312", "1200", "+0000"), id="a day apart"),
    ],
)
def test_the_earliest_is_a_moment_and_no_text(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    keywords = ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC")
    one, other = ({k: v for k, v in zip(keywords, given, strict=True) if v} for given in (first, second))
    assert study_of(one, other).attrs == study_of(other, one).attrs == one


def test_a_date_with_a_time_is_better_than_the_same_date_without() -> None:
    study = study_of({"StudyDate": "20240311"}, {"StudyDate": "20240311", "StudyTime": "2300"})
    assert study.attrs == {"StudyDate": "20240311", "StudyTime": "2300"}


def test_a_date_that_has_several_values_does_no_harm() -> None:
    study = study_of({"StudyDate": ["20240101", "20240102"]}, {"StudyDate": "20240311"})
    assert study.attrs == {"StudyDate": "20240311"}


def test_a_name_never_meets_the_identification_of_another() -> None:
    first = {"ReferringPhysicianName": "A", "ReferringPhysicianIdentificationSequence": [{"InstitutionName": "a"}]}
    second = {"ReferringPhysicianName": "B"}
    assert study_of(first, second, second).attrs == second
    assert study_of(first, first, second).attrs == first


def test_an_accession_number_never_meets_the_issuer_of_another() -> None:
    issuer = {"IssuerOfAccessionNumberSequence": [{"LocalNamespaceEntityID": "RIS"}]}
    assert study_of({"AccessionNumber": "1", **issuer}, *[{"AccessionNumber": "2"}] * 2).attrs == {
        "AccessionNumber": "2",
        "RequestAttributesSequence": [{"AccessionNumber": "1", **issuer}],
    }
    assert study_of(issuer, issuer, {"AccessionNumber": "2"}).attrs == {"AccessionNumber": "2"}


def test_an_accession_number_that_does_not_stand_for_the_study_stays_one_of_its_orders() -> None:
    order = {"AccessionNumber": "3"}
    images = [{"AccessionNumber": number} for number in "212321"] + [{"RequestAttributesSequence": [order]}]
    expected = {"AccessionNumber": "2", "RequestAttributesSequence": [order, {"AccessionNumber": "1"}, order]}
    assert study_of(*images).attrs == study_of(*reversed(images)).attrs == expected


def test_every_order_counts_once() -> None:
    one, two = {"AccessionNumber": "1"}, {"AccessionNumber": "2"}
    study = study_of({"RequestAttributesSequence": [two, one]}, {"RequestAttributesSequence": [one]}, {"StudyID": "1"})
    assert study.attrs["RequestAttributesSequence"] == [one, two]


def test_series_settle_their_attributes_each_for_itself() -> None:
    records = [
        record(f"1.2.3.{n}", series, {"series": {"Modality": modality}})
        for n, (series, modality) in enumerate([("1.2.2", "CT"), ("1.2.2", "CT"), ("1.2.2", "MR"), ("1.2.9", "PT")])
    ]
    study = assemble("1.2.1", 1, records)
    assert [series.attrs for series in study.series] == [{"Modality": "CT"}, {"Modality": "PT"}]


def test_notes_of_instances_are_told_once() -> None:
    note = Note("warning", "StudyInstanceUID", "is odd")
    records = [InstanceRecord("1", "1.1", f"1.1.{n}", {}, {}, {}, {"SOPClassUID": CT}, (note,)) for n in range(3)]
    assert assemble("1", 1, records).notes == (note,)


def test_a_study_without_instances() -> None:
    assert assemble("1.2.1", 1, []) == Study("1.2.1", 1, {}, {}, (), is_announced=True)


# Conflicts ----------------------------------------------------------------------------------------------------------

QUALIFIERS = [{"UniversalEntityID": "1.2", "UniversalEntityIDType": "ISO"}]


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        pytest.param({"PatientID": "1"}, {"PatientID": "1"}, "", id="one patient"),
        pytest.param({"PatientID": "1"}, {"PatientName": "A"}, "", id="one that names nobody"),
        pytest.param({"PatientID": "1"}, {"PatientID": ["1", "1"]}, "", id="the same twice"),
        pytest.param({"PatientID": "2"}, {"PatientID": ["1", "2"]}, "different PatientIDs", id="another one first"),
        pytest.param(
            {"PatientID": "1"}, {"PatientID": "2"}, "different PatientIDs (2 + 1 instances)", id="two patients"
        ),
        pytest.param({"PatientID": "1"}, {"PatientID": "1", "IssuerOfPatientID": "A"}, "", id="an issuer left out"),
        pytest.param(
            {"PatientID": "1", "IssuerOfPatientID": "A"},
            {"PatientID": "1", "IssuerOfPatientID": "A", "IssuerOfPatientIDQualifiersSequence": QUALIFIERS},
            "",
            id="the issuer's universal id left out",
        ),
        pytest.param(
            {"PatientID": "1", "IssuerOfPatientID": "A"},
            {"PatientID": "1", "IssuerOfPatientID": "B"},
            "different issuers",
            id="two issuers",
        ),
        pytest.param(
            {"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": QUALIFIERS},
            {"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": [{"UniversalEntityID": "1.3"}]},
            "different issuers",
            id="two universal ids",
        ),
    ],
)
def test_conflicts(first: dict[str, Any], second: dict[str, Any], conflict: str) -> None:
    found = study_of(first, first, second, level="patient").conflict
    assert conflict in found
    assert bool(found) is bool(conflict)


def test_a_conflict_names_no_patient() -> None:
    found = study_of({"PatientID": "SECRET"}, {"PatientID": "HIDDEN"}, level="patient").conflict
    assert "SECRET" not in found
    assert "HIDDEN" not in found


def test_name_and_birth_date_come_from_the_instances_of_the_patient_id() -> None:
    named = {"PatientID": "1", "PatientName": "A", "PatientBirthDate": "19640229"}
    nameless = {"PatientName": "Z", "PatientSex": "O"}
    assert study_of(named, nameless, nameless, level="patient").patient == named
