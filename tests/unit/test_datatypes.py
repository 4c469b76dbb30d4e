"""From DICOM's notation to FHIR's meaning."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._snomed_dict import mapping

from dicom2fhir.fhir.version.datatypes import (
    CODING_SCHEMES,
    URI,
    Coding,
    Concept,
    NamingSystems,
    coding,
    concept,
    date_time,
    date_time_of_dt,
    deterministic_id,
    fhir_date,
    gender,
    human_names,
    identifier,
    issuer_system,
    offset,
    one,
    several,
    unsigned_int,
    zone_of,
)
from dicom2fhir.model import Attrs

BERLIN, NEW_YORK, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
DATE_TIME = re.compile(
    r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"(T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([+-]((0\d|1[0-3]):[0-5]\d|14:00)))?)?)?"
)
"""R4 and R5's pattern of ``dateTime``, and DSTU2's seconds."""


# Dates and times ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("da", "expected"),
    [
        ("20240311", "2024-03-11"),
        ("2024.03.11", "2024-03-11"),
        ("20240229", "2024-02-29"),
        ("20230229", None),
        ("20230231", None),
        ("20241301", None),
        ("00000101", None),
        ("2024", None),
        ("202403", None),
        ("2024-03-11", None),
        ("20240101-20240201", None),
        ("2024031", None),
        ("", None),
    ],
)
def test_da(da: str, expected: str | None) -> None:
    assert fhir_date(da) == expected


@pytest.mark.parametrize(
    ("tm", "expected"),
    [
        ("091530", "T09:15:30+01:00"),
        ("0915", "T09:15:00+01:00"),
        ("09", ""),
        ("091530.1", "T09:15:30.1+01:00"),
        ("091530.250000", "T09:15:30.25+01:00"),
        ("091530.000000", "T09:15:30+01:00"),
        ("091530.1234567", "T09:15:30.123456+01:00"),
        ("091530.0000001", "T09:15:30+01:00"),
        ("091530.", "T09:15:30+01:00"),
        ("091530.-00001", "T09:15:30+01:00"),
        ("091530,5", "T09:15:30.5+01:00"),
        ("091530125", "T09:15:30.125+01:00"),
        ("09:15:30", "T09:15:30+01:00"),
        ("09:15:30.", "T09:15:30+01:00"),
        ("0915.", "T09:15:00+01:00"),
        ("09:15.", "T09:15:00+01:00"),
        ("09:15", "T09:15:00+01:00"),
        ("09 15 30", "T09:15:30+01:00"),
        ("101560.5", "T10:15:59.5+01:00"),
        ("091530-101530", ""),
        ("091530+0100", ""),
        ("091530.5x", ""),
        ("101560", "T10:15:59+01:00"),
        ("101561", ""),
        ("101599.5", ""),
        ("000000", "T00:00:00+01:00"),
        ("240000", ""),
        ("096000", ""),
        ("9:15", ""),
        ("0900-1000", ""),
        ("noon", ""),
        ("", ""),
    ],
)
def test_tm(tm: str, expected: str) -> None:
    assert date_time("20240311", tm, BERLIN) == "2024-03-11" + expected


def test_a_time_without_zone_is_left_out() -> None:
    assert date_time("20240311", "091530", None) == "2024-03-11"


@pytest.mark.parametrize(
    ("da", "zone", "expected"),
    [
        ("20240115", BERLIN, "+01:00"),
        ("20240715", BERLIN, "+02:00"),
        ("20240715", NEW_YORK, "-04:00"),
        ("20241215", NEW_YORK, "-05:00"),
        ("20240715", KOLKATA, "+05:30"),
        ("20240715", timezone(timedelta(hours=-4, minutes=-30)), "-04:30"),
        ("20240715", UTC, "+00:00"),
        ("18800101", BERLIN, "+00:53"),
        ("18800101", NEW_YORK, "-04:56"),
        ("20240331", BERLIN, "+01:00"),  # 02:30 does not exist on that day
        ("20241027", BERLIN, "+02:00"),  # 02:30 exists twice; the first one
    ],
)
def test_the_offset_is_that_of_the_day(da: str, zone: tzinfo, expected: str) -> None:
    found = date_time(da, "023000", zone)
    assert found is not None
    assert found.endswith("T02:30:00" + expected)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(
            ("+0100", 60),
            ("-04:30", -270),
            ("-0430", -270),
            ("+0000", 0),
            ("-0000", 0),
            ("+1400", 840),
            ("-1200", -720),
            ("+0545", 345),
        ),
        *(
            ("+1401", None),
            ("-1201", None),
            ("+0160", None),
            ("+1:00", None),
            ("0100", None),
            ("CET", None),
            ("", None),
        ),
    ],
)
def test_offset(text: str, minutes: int | None) -> None:
    found = offset(text)
    assert (found and found.utcoffset(None)) == (None if minutes is None else timedelta(minutes=minutes))


def test_the_data_sets_own_offset_wins() -> None:
    assert zone_of("+0300", BERLIN) == timezone(timedelta(hours=3))
    assert zone_of("CET", BERLIN) is BERLIN
    assert zone_of("", None) is None


@pytest.mark.parametrize(
    ("dt", "expected"),
    [
        ("20240311091530.5", "2024-03-11T09:15:30.5+01:00"),
        ("20240311091530-0500", "2024-03-11T09:15:30-05:00"),
        ("202403110915+0530", "2024-03-11T09:15:00+05:30"),
        ("20240311091530.1234567+0530", "2024-03-11T09:15:30.123456+05:30"),
        ("20240311091530.-0500", "2024-03-11T09:15:30-05:00"),
        ("20240311091530.", "2024-03-11T09:15:30+01:00"),
        ("20240311091530 -0500", "2024-03-11T09:15:30-05:00"),
        ("20240311091530-05:00", "2024-03-11T09:15:30-05:00"),
        ("2024031109:15:30-0500", "2024-03-11T09:15:30-05:00"),
        ("20240311-0500", "2024-03-11"),
        ("2024-0500", "2024"),
        ("20240311091530&0500", "2024-03-11"),
        ("20240311T091530", "2024-03-11"),
        ("20240311" + " " * 1000 + "x", "2024-03-11"),
        ("20240", None),
        ("2024-03-11 09:15:30", None),
        ("2024031109", "2024-03-11"),
        ("20240311", "2024-03-11"),
        ("202403", "2024-03"),
        ("2024", "2024"),
        ("202413", None),
        ("0000", None),
        ("20240231", None),
        ("20240311091530+9900", "2024-03-11T09:15:30+01:00"),
        ("soon", None),
        ("", None),
    ],
)
def test_dt(dt: str, expected: str | None) -> None:
    assert date_time_of_dt(dt, BERLIN) == expected


@given(
    da=st.text("0123456789.-", max_size=10),
    tm=st.text("0123456789.:,+- ", max_size=14),
    zone=st.sampled_from([None, BERLIN, NEW_YORK, KOLKATA]),
)
def test_whatever_comes_is_a_valid_date_time_or_none(da: str, tm: str, zone: tzinfo | None) -> None:
    for found in (date_time(da, tm, zone), date_time("20240311", tm, zone), date_time_of_dt(da + tm, zone)):
        assert found is None or DATE_TIME.fullmatch(found)


@given(st.dates(), st.times(), st.sampled_from([BERLIN, NEW_YORK, KOLKATA]))
def test_every_moment_is_valid(day: object, time: object, zone: tzinfo) -> None:
    da, tm = str(day).replace("-", ""), str(time).replace(":", "")
    found = date_time(da, tm, zone)
    assert found is not None
    assert DATE_TIME.fullmatch(found), found


# Numbers and small things ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0", 0), ("7", 7), ("+3", 3), ("3.0", 3), ("3.", 3), ("007", 7), ("2147483647", 2**31 - 1)),
        *(("-1", None), ("2147483648", None), ("3.5", None), ("1e3", None), ("x", None), ("", None), ("9" * 13, None)),
    ],
)
def test_unsigned_int(text: str, expected: int | None) -> None:
    assert unsigned_int(text) == expected


@pytest.mark.parametrize(
    ("sex", "expected"), [("M", "male"), ("f", "female"), ("O", "other"), ("U", None), ("X", None), ("", None)]
)
def test_gender(sex: str, expected: str | None) -> None:
    assert gender(sex) == expected


def test_one_and_several() -> None:
    items: list[Attrs] = [{}]
    assert (one("a"), one(["", "a", "b"]), one([]), one(None), one(items)) == ("a", "a", "", "", "")
    assert (several("a"), several(["a", ""]), several(""), several(None)) == (["a"], ["a", ""], [], [])


def test_ids_depend_on_the_parts_and_on_their_bounds() -> None:
    assert deterministic_id("Patient", "a", "b") == deterministic_id("Patient", "a", "b")
    assert len({deterministic_id(*parts) for parts in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"))}) == 4


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pn", "expected"),
    [
        ("Doe^Jane", {"text": "Jane Doe", "family": "Doe", "given": ["Jane"]}),
        ("Doe^Jane^Maria^Dr.^MD", {
            "text": "Dr. Jane Maria Doe MD", "family": "Doe", "given": ["Jane", "Maria"],
            "prefix": ["Dr."], "suffix": ["MD"],
        }),
        ("DOE JOHN", {"text": "DOE JOHN", "family": "DOE JOHN"}),
        ("^Jane", {"text": "Jane", "given": ["Jane"]}),
        ("Doe^^Maria", {"text": "Maria Doe", "family": "Doe", "given": ["Maria"]}),
        ("von  der  Heide ^ Anna Maria", {
            "text": "Anna Maria von der Heide", "family": "von der Heide", "given": ["Anna Maria"],
        }),
        ("Doe^Jane^^^^^extra", {"text": "Jane Doe", "family": "Doe", "given": ["Jane"]}),
        ("Doe^Jane==", {"text": "Jane Doe", "family": "Doe", "given": ["Jane"]}),
    ],
)  # fmt: skip
def test_a_name_of_one_group(pn: str, expected: dict[str, object]) -> None:
    assert human_names(pn) == [expected]


@pytest.mark.parametrize("pn", ["", "^^^^", "==", "^=^=^", " ^ "])
def test_a_name_that_says_nothing(pn: str) -> None:
    assert human_names(pn) == []


def test_the_groups_of_a_name_are_marked() -> None:
    names = human_names("Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert [name["extension"][0]["valueCode"] for name in names] == ["ABC", "IDE", "SYL"]
    assert [name["family"] for name in names] == ["Yamada", "山田", "やまだ"]
    assert [name["text"] for name in names] == ["Tarou Yamada", "山田 太郎", "やまだ たろう"]


@pytest.mark.parametrize(
    ("pn", "text"),
    [
        ("=山田^太郎^^先生^", "先生 山田 太郎"),
        ("==Yamada^Tarou", "Yamada Tarou"),
        ("王^小东", "王 小东"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ﾔﾏﾀﾞ ﾀﾛｳ"),
        ("홍^길동", "홍 길동"),
        ("Люк^Жук", "Жук Люк"),
    ],
)
def test_names_of_east_asia_are_written_family_first(pn: str, text: str) -> None:
    assert [name["text"] for name in human_names(pn)] == [text]


def test_a_group_alone_is_marked_when_it_is_not_alphabetic() -> None:
    (name,) = human_names("=山田^太郎")
    assert name["extension"][0]["valueCode"] == "IDE"


# Codes ----------------------------------------------------------------------------------------------------------------


def schemes(designator: str) -> str:
    return CODING_SCHEMES.get(designator, "")


def item(value: str, designator: str = "", meaning: str = "", **others: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": designator, "CodeMeaning": meaning, **others}


@pytest.mark.parametrize(
    ("given_item", "expected"),
    [
        (item("39607008", "SCT", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (item("T-28000", "SRT", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (item("T-28000", "SNM3", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (item("t-28000 ", "99SDM", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (item("T-28000", "SCT", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (item("39607008", "SRT", "Lung"), Coding("39607008", "http://snomed.info/sct", "Lung")),
        (
            item("T-28000", "SRT", "Lung", CodingSchemeVersion="SMI 1998"),
            Coding("39607008", "http://snomed.info/sct", "Lung"),
        ),
        (
            item("T-0XXXX", "SRT", "Thing", CodingSchemeVersion="1.1"),
            Coding("T-0XXXX", "http://snomed.info/srt", "Thing", "1.1"),
        ),
        (item("T-0XXXX", "SCT", "Thing"), Coding("T-0XXXX", "http://snomed.info/srt", "Thing")),
        (item("T-28000", "99LUNG", "Lung"), Coding("T-28000", "", "Lung")),
        (item("113014", "DCM"), Coding("113014", "http://dicom.nema.org/resources/ontology/DCM")),
        (item("24627-2", "LN", "CT"), Coding("24627-2", "http://loinc.org", "CT")),
        (item("X  1 ", "99SYN"), Coding("X 1")),
        (item("1", "I10", CodingSchemeVersion="2019"), Coding("1", "http://hl7.org/fhir/sid/icd-10", version="2019")),
        ({"LongCodeValue": "x" * 20, "CodingSchemeDesignator": "LN"}, Coding("x" * 20, "http://loinc.org")),
        ({"URNCodeValue": "urn:oid:1.2"}, Coding("urn:oid:1.2", URI)),
        ({"CodeMeaning": "Lung"}, None),
        ({}, None),
    ],
)
def test_coding(given_item: dict[str, str], expected: Coding | None) -> None:
    assert coding(given_item, schemes) == expected


def test_every_code_of_annex_o_becomes_snomed_ct() -> None:
    assert len(mapping["SRT"]) > 7000
    for code, concept_id in mapping["SRT"].items():
        assert coding(item(code, "SRT"), schemes) == Coding(concept_id, "http://snomed.info/sct")


def test_a_scheme_of_the_operators_choice_keeps_its_codes() -> None:
    assert coding(item("T-28000", "SRT"), {"SRT": "urn:own"}.__getitem__) == Coding("T-28000", "urn:own")


def test_words_stand_for_a_code_that_is_missing() -> None:
    assert concept({"CodeMeaning": "Lung"}, schemes) == Concept(text="Lung")
    assert concept({"CodingSchemeDesignator": "SCT"}, schemes) is None


@pytest.mark.parametrize(
    ("designator", "expected"),
    [
        ("SCT", "http://snomed.info/sct"),
        ("DCM", "https://operator.example/dcm"),
        ("99A", "https://operator.example/a"),
        ("99B", "urn:oid:1.2.9"),
        ("99LOINC", "http://loinc.org"),
        ("99SNOMED", "http://snomed.info/sct"),
        ("LN", "http://loinc.org"),
        ("99C", ""),
        ("", ""),
    ],
)
def test_the_operator_then_the_standard_then_the_data_set_name_a_scheme(designator: str, expected: str) -> None:
    systems = NamingSystems(
        coding_schemes={"DCM": "https://operator.example/dcm", "99A": "https://operator.example/a"},
    )
    uids = {"SCT": "2.16.840.1.113883.6.96", "99A": "1.2.8", "99B": "1.2.9", "": "1.2.10"}
    uids |= {"99LOINC": "2.16.840.1.113883.6.1", "99SNOMED": "2.16.840.1.113883.6.96", "LN": "1.2.11"}
    assert systems.of_coding_scheme(designator, uids) == expected


# Identifiers ----------------------------------------------------------------------------------------------------------

TABLE = {"WARD": "https://hospital.example/ward", "1.2.3": "https://hospital.example/universal", "": "urn:default"}


@pytest.mark.parametrize(
    ("table", "local", "universal", "kind", "expected"),
    [
        (TABLE, "WARD", "", "", ("https://hospital.example/ward", "WARD")),
        (TABLE, "", "1.2.3", "ISO", ("https://hospital.example/universal", "1.2.3")),
        (TABLE, "WARD", "1.2.4", "ISO", ("https://hospital.example/ward", "WARD")),
        (TABLE, "OTHER", "1.2.3", "ISO", ("https://hospital.example/universal", "OTHER")),
        ({}, "OTHER", "1.2.4", "ISO", ("urn:oid:1.2.4", "OTHER")),
        ({}, "", "550e8400-e29b-41d4-a716-446655440000", "UUID", (
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000",
        )),
        ({}, "", "https://x.example/ids", "URI", ("https://x.example/ids", "https://x.example/ids")),
        ({}, "", "x.example", "DNS", ("http://x.example", "x.example")),
        (TABLE, "", "", "", ("urn:default", "")),
        ({}, "", "", "", ("", "")),
    ],
)  # fmt: skip
def test_the_system_of_an_issuer(
    table: dict[str, str], local: str, universal: str, kind: str, expected: tuple[str, str]
) -> None:
    qualifiers = {"UniversalEntityID": universal, "UniversalEntityIDType": kind}
    assert issuer_system(table, local, qualifiers) == expected


@pytest.mark.parametrize("qualifiers", [None, {"UniversalEntityID": "no uri", "UniversalEntityIDType": "URI"}])
def test_an_issuer_without_system_gets_one_of_its_own(qualifiers: dict[str, str] | None) -> None:
    north, _ = issuer_system(TABLE, "NORTH", qualifiers)
    south, _ = issuer_system(TABLE, "SOUTH", qualifiers)
    assert north.startswith("urn:uuid:")
    assert len({north, south, "urn:default"}) == 3


def test_a_local_namespace_within_the_qualifiers_counts() -> None:
    assert issuer_system(TABLE, "", {"LocalNamespaceEntityID": "WARD"}) == ("https://hospital.example/ward", "WARD")


def test_identifier() -> None:
    assert identifier("1", "urn:x", "MR", "Ward", "official") == {
        "use": "official",
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
        "system": "urn:x",
        "value": "1",
        "assigner": {"display": "Ward"},
    }
    assert identifier("1", "") == {"value": "1"}
