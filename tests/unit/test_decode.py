"""From bytes to records: character sets, padding, several values, and what is refused."""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VM, keyword_for_tag

from dicom2fhir.dicom.attributes import CODE, Attribute, taken
from dicom2fhir.dicom.attributes import UIDS as UIDS_TAKEN
from dicom2fhir.dicom.character_sets import decode, encodings
from dicom2fhir.dicom.data_elements import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import CannotUnderstand, Mismatch, MissingUID
from dicom2fhir.model import InstanceRecord, Note, Origin, Raw, Received
from testdata.make_cases import record_of
from testdata.make_dicom import encoded
from tests.any_data_set import EVERYTHING

DIMSE, FILE = Origin("dimse"), Origin("file")
UIDS = {
    0x00080016: (b"UI", b"1.2.840.10008.5.1.4.1.1.2"),
    0x00080018: (b"UI", b"1.2.3"),
    0x0020000D: (b"UI", b"1.2.1"),
    0x0020000E: (b"UI", b"1.2.2"),
}
CHARACTER_SET = 0x00080005
STATION = 0x00081010
OPERATORS = 0x00081070
VERSIONS = 0x00181020
PATIENT_NAME = 0x00100010
COMMENTS = 0x00324000

Elements = dict[int, tuple[bytes, bytes]]


def data_set(elements: Elements) -> bytes:
    """A data set of raw values in explicit VR little endian."""
    data = b""
    for tag, (vr, value) in sorted({**UIDS, **elements}.items()):
        data += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
    return data


def record(elements: Elements, origin: Origin = FILE, sop_class: str = "", sop_instance: str = "") -> InstanceRecord:
    return extracted(data_set(elements), origin, sop_class, sop_instance)


def extracted(data: bytes, origin: Origin = FILE, sop_class: str = "", sop_instance: str = "") -> InstanceRecord:
    taken = scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED)
    return decode_instance(Received(taken, EXPLICIT_VR_LITTLE_ENDIAN, origin, sop_class, sop_instance))


def name_of(character_set: bytes, name: bytes) -> Any:
    return record({CHARACTER_SET: (b"CS", character_set), PATIENT_NAME: (b"PN", name)}).patient.get("PatientName")


# Character sets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "name", "description"),
    [
        ("latin-1", "Åström^Jürgen", "Schädel nativ"),
        ("greek", "Διονυσιος", "Αξονική θώρακος"),
        ("cyrillic", "Люкceмбypг", "КТ грудной клетки"),
        ("arabic", "قباني^لنزار", "الصدر"),
        ("hebrew", "שרון^דבורה", "חזה"),
        ("japanese", "Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部CT"),
        ("japanese-kana", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "胸部CT"),
        ("korean", "Hong^Gildong=洪^吉洞=홍^길동", "흉부 CT"),
        ("chinese", "Wang^XiaoDong=王^小东", "胸部CT"),
        ("utf-8", "Wang^XiaoDong=王^小東", "胸部 – Åäö"),
    ],
)
def test_text_in_every_script(case: str, name: str, description: str) -> None:
    found = record_of(encoded(case)[0])
    assert found.patient["PatientName"] == name
    assert found.study["ReferringPhysicianName"] == name
    assert found.study["StudyDescription"] == description
    assert found.notes == ()


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        pytest.param(  # PS3.5 annex H, example 1
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            id="annex H.3.1",
        ),
        pytest.param(  # PS3.5 annex H, example 2
            b"ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            id="annex H.3.2",
        ),
        pytest.param(  # PS3.5 annex I
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
            id="annex I.2",
        ),
        pytest.param(b"\\ISO 2022 IR 58", b"A=\x1b$)A\xcd\xf5", "A=王", id="GB 2312 by escape sequence"),
        pytest.param(b"ISO 2022 IR 100\\ISO 2022 IR 144", b"\xc4=\x1b-L\xbb\xee\xda", "Ä=Люк", id="single bytes"),
        pytest.param(b"ISO_IR 192", "Жuk^Å=王".encode(), "Жuk^Å=王", id="UTF-8"),
        pytest.param(b"ISO-IR 100", b"\xc5str\xf6m", "Åström", id="another separator"),
        pytest.param(b"ISO_IR_100", b"\xc5str\xf6m", "Åström", id="an underscore"),
        pytest.param(b"ISO_IR 100 ", b"\xc5str\xf6m", "Åström", id="padding"),
        pytest.param(b"iso_ir 100", b"\xc5str\xf6m", "Åström", id="lower case"),
        pytest.param(b"ISO-8859-1", b"\xc5str\xf6m", "Åström", id="the name of the ISO standard"),
        pytest.param(b"UTF-8", "Жuk".encode(), "Жuk", id="the name of the encoding"),
        pytest.param(b"windows-1251", "Жук".encode("cp1251"), "Жук", id="a code page"),
        pytest.param(b"ISO_IR 203", b"M\xfcller \xa4", "Müller €", id="Latin-9"),
        pytest.param(b"\\ISO 2022 IR 203", b"A=\x1b-b\xa4", "A=€", id="Latin-9 by escape sequence"),
        pytest.param(b"ISO_IR 149", b"\xfb\xf3^\xd1\xce\xd4\xd7", "洪^吉洞", id="Korean without code extensions"),
    ],
)
def test_names_by_character_set(character_set: bytes, name: bytes, expected: str) -> None:
    found = record({CHARACTER_SET: (b"CS", character_set), PATIENT_NAME: (b"PN", name)})
    assert found.patient["PatientName"] == expected
    assert found.notes == ()


ISO_IR = {
    "100": "Ä", "101": "Ł", "109": "Ħ", "110": "Ķ", "144": "Ж", "127": "ش", "126": "Ω", "138": "ש", "148": "Ğ",
    "203": "€", "13": "ﾔ", "166": "ส", "6": "A",
}  # fmt: skip
"""Registration number of each single-byte character set in PS3.3 tables C.12-2 and C.12-3 -> a character of it."""
PYTHON = {
    "100": "latin1", "101": "latin2", "109": "latin3", "110": "latin4", "144": "iso8859-5", "127": "iso8859-6",
    "126": "iso8859-7", "138": "iso8859-8", "148": "iso8859-9", "203": "iso8859-15", "13": "shift_jis",
    "166": "iso8859-11", "6": "ascii",
}  # fmt: skip


@pytest.mark.parametrize("number", ISO_IR)
@pytest.mark.parametrize("term", ["ISO_IR {}", "ISO 2022 IR {}", "ISO_IR_{}", "iso ir {}"])
def test_every_single_byte_character_set(number: str, term: str) -> None:
    name = ISO_IR[number] + "B"
    assert name_of(term.format(number).encode(), name.encode(PYTHON[number])) == name


CODECS_THAT_ARE_NO_CHARACTER_SETS = (
    "zlib", "bz2", "hex", "base64", "quopri", "uu", "rot13", "undefined", "idna", "punycode", "utf_7", "utf_16",
    "utf-32", "utf_8_sig", "unicode_escape", "raw_unicode_escape", "charmap", "mbcs", "oem", "aliases", "cp037",
)  # fmt: skip


@pytest.mark.parametrize("name", CODECS_THAT_ARE_NO_CHARACTER_SETS)
def test_a_codec_of_python_is_no_character_set(name: str) -> None:
    found = record(
        {
            CHARACTER_SET: (b"CS", name.encode()),
            PATIENT_NAME: (b"PN", b"M\xfcller"),
            COMMENTS: (b"LT", b"T\xeate \\ \\u0041"),
        }
    )
    assert found.patient["PatientName"] == "Müller"
    assert found.study["StudyComments"] == "Tête \\ \\u0041"
    assert Note("warning", "SpecificCharacterSet", "names an unknown character set") in found.notes


@pytest.mark.parametrize(
    "character_set",
    [
        b"punycode",
        b"",
        b"ISO_IR 192",
        b"GB18030",
        b"GBK",
        b"ISO_IR 13",
        b"ISO_IR 126",
        b"\\ISO 2022 IR 87",
        b"ISO_IR 149",
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "unit", [b"a-\xff", b"\x81", b"\x1b", b"\x1b(B", b"\x1b$B\xff", b"\xed\xa0", b"\x85", b"\0\xff"], ids=repr
)
def test_a_long_value_costs_little(character_set: bytes, unit: bytes) -> None:
    value = unit * (600_000 // len(unit))
    raw: Raw = {CHARACTER_SET: character_set, COMMENTS: value, **{tag: uid for tag, (_, uid) in UIDS.items()}}
    began = process_time()
    decode_instance(Received(raw, EXPLICIT_VR_LITTLE_ENDIAN, FILE))
    assert process_time() - began < 0.5


@pytest.mark.parametrize("character_set", [b"GB18030", b"GBK"])
def test_a_backslash_within_a_character_separates_nothing(character_set: bytes) -> None:
    names = ["誠^A", "許^B"]
    assert b"\x5c" in "誠".encode("gbk")[1:] + "許".encode("gbk")[1:], "the test is about this byte"
    found = record({CHARACTER_SET: (b"CS", character_set), OPERATORS: (b"PN", "\\".join(names).encode("gbk"))})
    assert found.series["OperatorsName"] == names


def test_a_backslash_within_shift_jis_separates_nothing() -> None:
    assert "表".encode("shift_jis") == b"\x95\x5c"
    assert name_of(b"ISO_IR 13", "表^A".encode("shift_jis")) == "表^A"


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        pytest.param(b"", b"J\xfcrgen", "Jürgen", id="none, and Latin-1"),
        pytest.param(b"", "Jürgen".encode(), "Jürgen", id="none, and UTF-8"),
        pytest.param(b"ISO_IR 6", "王".encode(), "王", id="ASCII, and UTF-8"),
        pytest.param(b"ISO_IR 192", b"J\xfcrgen", "Jürgen", id="UTF-8, and Latin-1"),
        pytest.param(b"ISO_IR 192", b"Zo\xeb", "Zoë", id="UTF-8, and Latin-1 at the end"),
        pytest.param(b"ISO_IR 192", "王^Zo".encode() + b"\xeb", "王^Zoë", id="UTF-8, and one byte of Latin-1"),
        pytest.param(b"ISO_IR 192", b"\x80uro", "€uro", id="UTF-8, and Windows-1252"),
        pytest.param(b"ISO_IR 100", b"O\x92Neil", "O\u2019Neil", id="Latin-1, and Windows-1252"),
        pytest.param(b"ISO_IR 126", b"\xae\xff\xe1", "®ÿα", id="bytes that the Greek set lacks"),
        pytest.param(b"ISO_IR 100\\ISO_IR 192", "Jürgen".encode(), "Jürgen", id="UTF-8 beside another"),
        pytest.param(b"\\ISO 2022 IR 149", b"\xfb\xf3^\xd1\xce", "洪^吉", id="Korean without its escape sequences"),
        pytest.param(b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B^\x1b%zJ\xfc", "山田^%zJü", id="one bad escape sequence"),
        pytest.param(b"ISO\0_IR 100", b"J\xfcrgen", "Jürgen", id="a NUL in the term"),
        pytest.param(b"ISO_IR 100\0\x7fX", b"J\xfcrgen", "Jürgen", id="a NUL behind the term"),
        pytest.param(b"\xff\xfe", b"J\xfcrgen", "Jürgen", id="no text"),
        pytest.param(b"ISO_IR 999", b"J\xfcrgen", "Jürgen", id="one that does not exist"),
        pytest.param(b"\\ISO 2022 IR 87", b"\x1b$B\xff\xff\x1b(B", None, id="no Japanese character"),
        pytest.param(b"\\ISO 2022 IR 87", b"A\x1b%zB", "A%zB", id="an escape sequence that does not exist"),
    ],
)
def test_a_wrong_character_set_is_noted_and_never_an_error(
    character_set: bytes, name: bytes, expected: str | None
) -> None:
    found = record({CHARACTER_SET: (b"CS", character_set), PATIENT_NAME: (b"PN", name)})
    assert found.notes
    if expected is not None:
        assert found.patient["PatientName"] == expected


TERMS = [b"ISO_IR 100", b"ISO_IR 13", b"ISO_IR 192", b"GB18030", b"GBK", b"ISO 2022 IR 87", b"ISO 2022 IR 149"]
TERMS += [b"ISO 2022 IR 58", b"ISO 2022 IR 159", b"ISO 2022 IR 203", b"ISO_IR 166", b"", b"zlib", b"punycode", b"X"]
PIECES = [b"\x1b", b"\x1b$B", b"\x1b$)C", b"\x1b$(D", b"\x1b-b", b"\x1b%G", b"\0", b"\\", b"^", b"\r\n", b"\xff"]
PIECES += ["\ud800".encode("utf-8", "surrogatepass"), b"\xef\xbf\xbe", b"\x84\x31\xa4\x39", b"1", b"A"]
any_character_set = st.lists(st.sampled_from(TERMS) | st.binary(max_size=12), max_size=4).map(b"\\".join)
any_bytes = st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=8).map(b"".join)


def any_raw(attributes: Sequence[Attribute], depth: int = 2) -> st.SearchStrategy[Raw]:
    """Any values of some attributes: bytes where a sequence should be, and items where text should be, too."""

    def value(attribute: Attribute) -> st.SearchStrategy[Any]:
        if not depth:
            return any_bytes
        return any_bytes | st.lists(any_raw(attribute.items or CODE, depth - 1), max_size=2)

    chosen = st.lists(st.sampled_from(attributes), max_size=6, unique_by=lambda attribute: attribute.tag)
    own = st.fixed_dictionaries({}, optional={CHARACTER_SET: any_character_set})
    made = chosen.flatmap(lambda some: st.fixed_dictionaries({a.tag: value(a) for a in some}))
    return st.builds(lambda first, rest: {**first, **rest}, own, made)


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_of(inner)
    else:
        for inner in value:
            yield from texts_of(inner)


FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (section 2.2)."""


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(raw=any_raw(EVERYTHING), syntax=st.sampled_from([EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]))
def test_any_bytes_of_any_attribute_become_text_that_fhir_can_hold(raw: Raw, syntax: str) -> None:
    uids: Raw = {tag: uid for tag, (_, uid) in UIDS.items()}
    found = decode_instance(Received(raw | uids, syntax, FILE))
    for text in texts_of([found.patient, found.study, found.series, found.instance]):
        assert not FORBIDDEN.search(text)
        assert text == text.strip()
    assert len(set(found.notes)) == len(found.notes)


@given(raw=any_raw(UIDS_TAKEN))
def test_any_bytes_of_a_uid_identify_or_are_refused(raw: Raw) -> None:
    with suppress(MissingUID):
        decode_instance(Received(raw, EXPLICIT_VR_LITTLE_ENDIAN, FILE))


@given(character_set=any_character_set, name=any_bytes)
def test_any_name_in_any_character_set_becomes_text(character_set: bytes, name: bytes) -> None:
    by, _ = encodings(character_set.decode("latin-1").split("\\"))
    text, _, _ = decode(name, by, 100)
    assert "\ufffd" not in text or "\ufffd".encode() in name
    text.encode()


def test_an_item_may_have_a_character_set_of_its_own() -> None:
    code = struct.pack("<HH2sH", 0x0008, 0x0104, b"LO", 4) + "胸".encode("gb18030") + b"  "
    own = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 8) + b"GB18030 "
    item = own + code
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    head = struct.pack("<HH2sHL", 0x0008, 0x1032, b"SQ", 0, len(sequence))
    data = data_set({CHARACTER_SET: (b"CS", b"ISO_IR 192")})
    at = data.index(struct.pack("<HH", 0x0020, 0x000D))
    assert extracted(data[:at] + head + sequence + data[at:]).study["ProcedureCodeSequence"] == [{"CodeMeaning": "胸"}]


# Values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        pytest.param(STATION, b"SH", b"  CT1 ", "CT1", id="spaces"),
        pytest.param(STATION, b"SH", b"CT1\0\0\0", "CT1", id="NULs"),
        pytest.param(STATION, b"SH", b"CT1 \0 \0", "CT1", id="NULs and spaces"),
        pytest.param(VERSIONS, b"LO", b"1.2\0\\b7\0", ["1.2", "b7"], id="NULs behind each value"),
        pytest.param(STATION, b"SH", b" \0 ", None, id="nothing but padding"),
        pytest.param(STATION, b"SH", b"", None, id="nothing"),
        pytest.param(STATION, b"SH", b"C\x07T\x7f1", "CT1", id="control characters"),
        pytest.param(VERSIONS, b"LO", b"1.2 \\ b7", ["1.2", "b7"], id="two values"),
        pytest.param(VERSIONS, b"LO", b"1.2\\\\b7", ["1.2", "", "b7"], id="an empty one between"),
        pytest.param(VERSIONS, b"LO", b"\\b7", ["", "b7"], id="an empty one first"),
        pytest.param(VERSIONS, b"LO", b"b7\\\\", "b7", id="empty ones last"),
        pytest.param(VERSIONS, b"LO", b"\\\\", None, id="empty ones alone"),
        pytest.param(OPERATORS, b"PN", b"A^B\\C^D", ["A^B", "C^D"], id="two people"),
    ],
)
def test_values_are_split_and_stripped(tag: int, vr: bytes, value: bytes, expected: object) -> None:
    found = record({tag: (vr, value)})
    assert list(found.series.values()) == ([] if expected is None else [expected])
    assert found.notes == ()


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        pytest.param(0x00100020, b"LO", b"P1\0garbage", "P1", id="LO"),
        pytest.param(0x00100020, b"LO", b"\0garbage", None, id="nothing before it"),
        pytest.param(0x00100020, b"LO", b"P1\0\0J\xfcrgen", "P1", id="bytes of no character set behind it"),
        pytest.param(0x00080050, b"SH", b"A1\0\0\0x ", "A1", id="SH"),
        pytest.param(PATIENT_NAME, b"PN", b"Doe^Jane\0Roe^John=x", "Doe^Jane", id="PN"),
        pytest.param(0x00080060, b"CS", b"CT\0MR", "CT", id="CS"),
        pytest.param(0x00080020, b"DA", b"20200102\0\0\0001", "20200102", id="DA"),
        pytest.param(0x0020000D, b"UI", b"1.2.1\0xyz", None, id="UI"),
        pytest.param(COMMENTS, b"LT", b"one\\two\0three\\four", "one\\two", id="LT"),
        pytest.param(VERSIONS, b"LO", b"1\0x\\2\0y\\3", ["1", "2", "3"], id="each of several values"),
        pytest.param(0x00080018, b"UI", b"1.2.3\0\0 9", None, id="SOP Instance UID"),
    ],
)
def test_a_value_ends_at_a_nul(tag: int, vr: bytes, value: bytes, expected: object) -> None:
    found = record({tag: (vr, value)})
    assert (found.study_uid, found.sop_uid) == ("1.2.1", "1.2.3")
    held = [*found.patient.values(), *found.study.values(), *found.series.values()]
    assert held == ([] if expected is None else [expected])
    assert found.notes[-1].text == "contains a NUL; the rest is left out"


def test_a_backslash_in_long_text_is_a_backslash() -> None:
    assert record({COMMENTS: (b"LT", b"one\\two\r\nthree\x0c ")}).study["StudyComments"] == "one\\two\r\nthree"


@pytest.mark.parametrize(
    ("tag", "value", "expected", "noted"),
    [
        pytest.param(0x00100020, b"PID1\\PID2", "PID1", True, id="two Patient IDs"),
        pytest.param(0x00100020, b"PID1\\PID1 ", "PID1", False, id="one Patient ID twice"),
        pytest.param(0x00100020, b"PID1\\", "PID1", False, id="an empty one behind"),
        pytest.param(0x00080050, b"AC1\\AC2\\AC1", "AC1", True, id="two accession numbers"),
        pytest.param(0x00080050, b"\\AC2", "AC2", False, id="an empty one first"),
        pytest.param(0x00080050, b"AC1\\AC1", "AC1", False, id="one accession number twice"),
        pytest.param(0x00081030, b"A\\B", "A", True, id="two descriptions"),
        pytest.param(0x00081050, b"A\\A", ["A", "A"], False, id="two physicians of one name"),
    ],
)
def test_only_what_may_have_several_values_has_several(tag: int, value: bytes, expected: object, noted: bool) -> None:
    found = record({tag: (b"LO", value)})
    assert [*found.patient.values(), *found.study.values(), *found.series.values()] == [expected]
    assert [note.text for note in found.notes] == ["has several values; the first is used"] * noted


def test_what_may_have_several_values_is_what_the_dictionary_says() -> None:
    def told(attributes: Iterable[Attribute]) -> Iterator[tuple[str, bool]]:
        for attribute in attributes:
            yield attribute.keyword, attribute.many or attribute.vr == "SQ" or dictionary_VM(attribute.tag) == "1"
            assert not (attribute.many and dictionary_VM(attribute.tag) == "1"), attribute.keyword
            yield from told((*attribute.items, *attribute.instead))

    assert [keyword for keyword, fits in told(taken()) if not fits] == []


def test_values_beyond_the_thousandth_are_left_out() -> None:
    found = record({VERSIONS: (b"LO", b"\\".join([b"1"] * 5000))})
    assert len(found.series["SoftwareVersions"]) == 1000
    assert found.notes == (Note("warning", "SoftwareVersions", "values after the first 1000 left out"),)


ROWS, WEIGHT = 0x00280010, 0x00101030


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (ROWS, b"US", b"\0\2", "512"),
        (ROWS, b"SS", b"\0\2", "512"),
        (ROWS, b"UL", b"\0\2\0\0", "512"),
        (ROWS, b"IS", b"512 ", "512"),
        (ROWS, b"DS", b"512.0 ", "512"),
        (ROWS, b"FL", struct.pack("<f", 512), "512"),
        (ROWS, b"UN", b"\0\2", "512"),
        (ROWS, b"SS", b"\xff\xff", None),
        (ROWS, b"LO", b"many", None),
        (ROWS, b"DS", b"inf ", None),
        (ROWS, b"UL", b"\0\2", None),
        (WEIGHT, b"DS", b"70.5", "70.5"),
        (WEIGHT, b"FD", struct.pack("<d", 70.5), "70.5"),
        (WEIGHT, b"US", b"\x46\0", "70"),
        (WEIGHT, b"LO", b"70.5", "70.5"),
        (WEIGHT, b"FD", b"70.5", None),
    ],
)
def test_a_value_of_another_vr_is_read_by_its_own(tag: int, vr: bytes, value: bytes, expected: str | None) -> None:
    data = data_set({tag: (vr, value)})
    if vr == b"UN":
        data = data_set({}) + struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    found = extracted(data)
    keyword, level = ("Rows", found.series) if tag == ROWS else ("PatientWeight", found.study)
    assert level.get(keyword) == expected
    assert [note.where for note in found.notes] == ([] if expected else [keyword])


def test_a_sequence_where_a_value_must_be_is_left_out() -> None:
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1030, b"SQ", 0, 8) + b"\xfe\xff\x00\xe0\0\0\0\0"
    found = extracted(data_set({}) + sequence)
    assert "StudyDescription" not in found.study
    assert found.notes == (Note("warning", "StudyDescription", "is not valid for its VR; left out"),)


@pytest.mark.parametrize("tag", [0x00081030, CHARACTER_SET, PATIENT_NAME])
def test_a_value_that_is_too_long_is_noted_by_its_attribute(tag: int) -> None:
    long = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"UN", 0, 1024 * 1024 + 2) + b"x" * (1024 * 1024 + 2)
    found = extracted(long + data_set({}) if tag < 0x00080016 else data_set({}) + long)
    assert found.notes == (Note("warning", keyword_for_tag(tag), "is longer than max_value_bytes; left out"),)


def test_what_should_be_a_sequence_and_is_text_is_left_out() -> None:
    found = record({0x00081032: (b"LO", b"CT chest")})
    assert "ProcedureCodeSequence" not in found.study
    assert found.notes == (Note("warning", "ProcedureCodeSequence", "cannot be read as a sequence; left out"),)


def test_no_note_holds_a_value() -> None:
    found = record(
        {PATIENT_NAME: (b"PN", b"J\xfcrgen"), CHARACTER_SET: (b"CS", b"SECRET"), 0x0020000D: (b"UI", b"1.02")}
    )
    assert len(found.notes) == 3
    assert not any(word in note.text for note in found.notes for word in ("rgen", "SECRET", "1.02"))


# UIDs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", UIDS)
@pytest.mark.parametrize("value", [b"", b"\0", b"1.2 3", b"1.2\\1.3", b"1.2_3", b"1" * 65], ids=repr)
def test_a_uid_that_cannot_identify_is_refused(tag: int, value: bytes) -> None:
    with pytest.raises(MissingUID) as caught:
        record({tag: (b"UI", value)})
    assert "1.2" not in str(caught.value)


@pytest.mark.parametrize("value", [b"1.2.03", b"3.4", b"1.2.", b"1", b"abc"])
def test_a_uid_against_the_rules_is_taken_and_noted(value: bytes) -> None:
    found = record({0x0020000D: (b"UI", value)})
    assert found.study_uid == value.decode()
    assert [note.where for note in found.notes] == ["StudyInstanceUID"]


@pytest.mark.parametrize("value", [b"1.2.3\0", b"1.2.3 ", b" 1.2.3", b"1.2.3\0\0"])
def test_padding_of_uids_goes(value: bytes) -> None:
    found = record({0x00080018: (b"UI", value)}, DIMSE, sop_instance="1.2.3")
    assert found.sop_uid == "1.2.3"
    assert found.notes == ()


def test_uids_of_the_command_and_the_file_end_at_a_nul_too() -> None:
    assert record({}, DIMSE, sop_instance="1.2.3\0garbage").sop_uid == "1.2.3"
    assert record({0x00080018: (b"UI", b"")}, FILE, sop_instance="1.2.9\0garbage").sop_uid == "1.2.9"


def test_the_command_or_the_file_fills_in_what_the_data_set_lacks() -> None:
    lacking: Elements = {0x00080016: (b"UI", b""), 0x00080018: (b"UI", b"")}
    found = record(lacking, sop_class="1.2.840.10008.5.1.4.1.1.4", sop_instance="1.2.9")
    assert (found.sop_uid, found.instance["SOPClassUID"]) == ("1.2.9", "1.2.840.10008.5.1.4.1.1.4")


@pytest.mark.parametrize("claim", [{"sop_class": "1.2.9"}, {"sop_instance": "1.2.9"}])
def test_a_command_that_names_another_instance_is_a_mismatch(claim: dict[str, str]) -> None:
    with pytest.raises(Mismatch):
        record({}, DIMSE, **claim)


def test_a_file_whose_meta_information_is_stale_is_taken_by_its_data_set() -> None:
    assert record({}, FILE, "1.2.9", "1.2.9").sop_uid == "1.2.3"


def test_every_refused_case_is_refused() -> None:
    for case in ("study-uid-missing", "series-uid-empty", "sop-uid-missing", "truncated"):
        with pytest.raises(CannotUnderstand):
            record_of(encoded(case)[0])
