"""From bytes to records: character sets, padding, several values, and what is refused."""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom2fhir.dicom.attributes import WANTED
from dicom2fhir.dicom.extract import extract
from dicom2fhir.dicom.header import EXPLICIT_VR_LITTLE_ENDIAN
from dicom2fhir.dicom.reader import scan
from dicom2fhir.errors import CannotUnderstand, Mismatch, MissingUID
from dicom2fhir.model import InstanceRecord, Note, Origin, Received
from testdata.make_cases import record_of
from testdata.make_dicom import encoded

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
    return extract(Received(taken, EXPLICIT_VR_LITTLE_ENDIAN, origin, sop_class, sop_instance))


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
    ],
)
def test_names_by_character_set(character_set: bytes, name: bytes, expected: str) -> None:
    assert name_of(character_set, name) == expected


@pytest.mark.parametrize("character_set", [b"GB18030", b"GBK"])
def test_a_backslash_within_a_character_separates_nothing(character_set: bytes) -> None:
    names = ["誠^A", "許^B"]
    assert b"\x5c" in "誠".encode("gbk")[1:] + "許".encode("gbk")[1:], "the test is about this byte"
    assert name_of(character_set, "\\".join(names).encode("gbk")) == names


def test_a_backslash_within_shift_jis_separates_nothing() -> None:
    assert "表".encode("shift_jis") == b"\x95\x5c"
    assert name_of(b"ISO_IR 13", "表^A".encode("shift_jis")) == "表^A"


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        pytest.param(b"", b"J\xfcrgen", "Jürgen", id="none, and Latin-1"),
        pytest.param(b"", "Jürgen".encode(), "Jürgen", id="none, and UTF-8"),
        pytest.param(b"ISO_IR 6", "王".encode(), "王", id="ASCII, and UTF-8"),
        pytest.param(b"ISO_IR 192", b"J\xfcrgen", "J\ufffdrgen", id="UTF-8, and Latin-1"),
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


@settings(deadline=None)
@given(
    character_set=st.sampled_from(
        [
            b"",
            b"ISO_IR 100",
            b"ISO_IR 13",
            b"ISO_IR 192",
            b"GB18030",
            b"\\ISO 2022 IR 87",
            b"\\ISO 2022 IR 149",
            b"X\\Y",
        ]
    ),
    name=st.binary(max_size=60),
)
def test_any_bytes_become_text_without_control_characters(character_set: bytes, name: bytes) -> None:
    found = name_of(character_set, name)
    for text in [found] if isinstance(found, str) else found or []:
        assert not any(ord(character) < 0x20 and character not in "\t\r\n" for character in text)
        assert text == text.strip()


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
    found = list(record({tag: (vr, value)}).series.values())
    assert found == ([] if expected is None else [expected])


def test_a_backslash_in_long_text_is_a_backslash() -> None:
    assert record({COMMENTS: (b"LT", b"one\\two\r\nthree\x0c ")}).study["StudyComments"] == "one\\two\r\nthree"


def test_values_beyond_the_thousandth_are_left_out() -> None:
    found = record({VERSIONS: (b"LO", b"\\".join([b"1"] * 5000))})
    assert len(found.series["SoftwareVersions"]) == 1000


def test_what_should_be_a_sequence_and_is_text_is_left_out() -> None:
    found = record({0x00081032: (b"LO", b"CT chest")})
    assert "ProcedureCodeSequence" not in found.study
    assert found.notes == (Note("warning", "ProcedureCodeSequence", "is not a sequence; left out"),)


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
