"""What is damaged or oddly encoded costs one value at most; a data set that goes wrong there is read to its end."""

from __future__ import annotations

import struct
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.data_elements import (
    DEFAULT_BUDGETS,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    LONG_VRS,
    PER_FRAME_FUNCTIONAL_GROUPS,
    Wanted,
)
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.reader import HeaderReader, scan
from dicom2fhir.dicom.substitutes import DAMAGED, NO_VALUE
from dicom2fhir.model import Raw
from tests.examples import examples

UNDEFINED = 0xFFFFFFFF
DESCRIPTION = 0x00081030
CODES = 0x00081032
CODE_VALUE = 0x00080100
REQUESTS = 0x00400275
ACCESSION = 0x00080050
LAST = 0x00540220
WANTED: Wanted = {
    DESCRIPTION: None,
    CODES: {CODE_VALUE: None},
    REQUESTS: {ACCESSION: None, CODES: {CODE_VALUE: None}},
    LAST: None,
    PER_FRAME_FUNCTIONAL_GROUPS: {CODES: {CODE_VALUE: None}},
}
SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)


class Encoder:
    """Writes what nobody should write."""

    def __init__(self, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> None:
        self.syntax = syntax
        self.order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
        self.explicit = syntax != IMPLICIT_VR_LITTLE_ENDIAN

    def element(self, tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit:
            return head + struct.pack(self.order + "L", length) + value
        if vr in LONG_VRS:
            return head + vr + struct.pack(self.order + "HL", 0, length) + value
        return head + vr + struct.pack(self.order + "H", length) + value

    def bare(self, tag: int, value: bytes = b"", length: int | None = None) -> bytes:
        """An item or delimiter."""
        length = len(value) if length is None else length
        return struct.pack(self.order + "HHL", tag >> 16, tag & 0xFFFF, length) + value

    def item(self, value: bytes, length: int | None = None) -> bytes:
        return self.bare(0xFFFEE000, value, length)

    @property
    def end_of_item(self) -> bytes:
        return self.bare(0xFFFEE00D)

    @property
    def end_of_sequence(self) -> bytes:
        return self.bare(0xFFFEE0DD)

    @property
    def code(self) -> bytes:
        return self.element(CODE_VALUE, b"SH", b"1 ")


def around(encoder: Encoder, middle: bytes) -> bytes:
    """A data set with something in its middle, and a value behind it."""
    return encoder.element(DESCRIPTION, b"LO", b"CT") + middle + encoder.element(LAST, b"LO", b"7 ")


def read(encoder: Encoder, data: bytes) -> Raw:
    """Read it whole, in pieces, and with itself in the cache, which must all be the same."""
    whole = scan(data, encoder.syntax, WANTED)
    cache = HeaderCache()
    for size in (1, 3, 50, 10_000):
        for _ in range(3):
            reader = HeaderReader(encoder.syntax, WANTED, cache=cache)
            for at in range(0, len(data), size):
                reader.write(data[at : at + size])
            assert reader.end() == whole
    return whole


def with_code(encoder: Encoder) -> dict[str, tuple[bytes, Raw]]:
    """Name -> what stands in the middle, and what is taken of it."""
    e = encoder
    code = e.code
    damaged: Raw = {CODES: DAMAGED}
    good: Raw = {CODES: [{CODE_VALUE: b"1 "}]}
    return {
        "text in a sequence": (e.element(CODES, b"SQ", b"CT HEAD "), damaged),
        "zeros in a sequence": (e.element(CODES, b"SQ", bytes(8)), damaged),
        "a few bytes in a sequence": (e.element(CODES, b"SQ", b"CT"), damaged),
        "text of undefined length": (e.element(CODES, b"SQ", b"CT HEAD" + e.end_of_sequence, UNDEFINED), damaged),
        "an item longer than its sequence": (e.element(CODES, b"SQ", e.item(code, 3000)), damaged),
        "half an item": (e.element(CODES, b"SQ", e.item(code)[:5]), damaged),
        "half an item after a whole one": (e.element(CODES, b"SQ", e.item(code) + e.item(code)[:9]), damaged),
        "an element without its item": (e.element(CODES, b"SQ", code), damaged),
        "a value longer than its item": (
            e.element(CODES, b"SQ", e.item(e.element(CODE_VALUE, b"SH", b"1 ", 90))),
            damaged,
        ),
        "an item in an item": (e.element(CODES, b"SQ", e.item(e.item(code))), damaged),
        "a damaged item of known length in a sequence without": (
            e.element(CODES, b"SQ", e.item(b"\1\2\3") + e.item(code) + e.end_of_sequence, UNDEFINED),
            damaged,
        ),
        "a sequence without end in one of known length": (
            e.element(REQUESTS, b"SQ", e.item(e.element(CODES, b"SQ", e.item(code), UNDEFINED))),
            {REQUESTS: DAMAGED},
        ),
        "a nested sequence that holds text": (
            e.element(
                REQUESTS, b"SQ", e.item(e.element(CODES, b"SQ", b"CT HEAD ") + e.element(ACCESSION, b"SH", b"A1"))
            ),
            {REQUESTS: [{CODES: DAMAGED, ACCESSION: b"A1"}]},
        ),
        "no items": (e.element(CODES, b"SQ", b""), {CODES: []}),
        "no items, undefined": (e.element(CODES, b"SQ", e.end_of_sequence, UNDEFINED), {CODES: []}),
        "delimiters although lengths are known": (
            e.element(CODES, b"SQ", e.item(code + e.end_of_item) + e.end_of_sequence),
            good,
        ),
        "a delimiter too many": (e.element(CODES, b"SQ", e.item(code)) + e.end_of_sequence + e.end_of_item, good),
        "a delimiter behind an item of known length": (
            e.element(CODES, b"SQ", e.item(code) + e.end_of_item + e.end_of_sequence, UNDEFINED),
            good,
        ),
        "the delimiter of an item is missing at the end": (
            e.element(CODES, b"SQ", e.item(code, UNDEFINED) + e.end_of_sequence, UNDEFINED),
            good,
        ),
        "the delimiter of an item is missing before another": (
            e.element(CODES, b"SQ", e.item(code, UNDEFINED) * 2 + e.end_of_sequence, UNDEFINED),
            {CODES: [{CODE_VALUE: b"1 "}] * 2},
        ),
        "an item without its sequence": (e.item(code), {}),
        "a private sequence that holds text": (e.element(0x00091010, b"SQ", b"CT HEAD "), {}),
        "private text of undefined length": (
            e.element(0x00091010, b"UT", b"text" + e.end_of_sequence, UNDEFINED),
            {},
        ),
        "file meta information": (e.element(0x00020010, b"UI", b"1.2.840.10008.1.2\0"), {}),
        "file meta information, explicit": (Encoder().element(0x00020010, b"UI", b"1.2.840\0"), {})
        if e.order == "<"
        else (b"", {}),
        "file meta information, implicit": (
            Encoder(IMPLICIT_VR_LITTLE_ENDIAN).element(0x00020010, b"", b"1.2.840\0") if e.order == "<" else b"",
            {},
        ),
        "a group length that is wrong": (e.element(0x00100000, b"UL", struct.pack(e.order + "L", 99999)), {}),
        "a sequence of undefined length where a value must be": (
            e.element(DESCRIPTION, b"SQ", e.item(code) + e.end_of_sequence, UNDEFINED),
            {DESCRIPTION: NO_VALUE},
        ),
        "text of undefined length where a value must be": (
            e.element(DESCRIPTION, b"UT", b"text" + e.end_of_sequence, UNDEFINED),
            {DESCRIPTION: NO_VALUE},
        ),
    }


NAMES = tuple(with_code(Encoder()))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", NAMES)
def test_damage_costs_one_value(syntax: str, name: str) -> None:
    encoder = Encoder(syntax)
    middle, taken = with_code(encoder)[name]
    assert read(encoder, around(encoder, middle)) == {DESCRIPTION: b"CT", **taken, LAST: b"7 "}


def test_a_sequence_where_a_value_must_be_is_none() -> None:
    e = Encoder()
    data = around(e, e.element(DESCRIPTION, b"SQ", e.item(e.code)))
    assert read(e, data) == {DESCRIPTION: NO_VALUE, LAST: b"7 "}


@pytest.mark.parametrize("vr", [b"LO", b"UT", b"OB"])
def test_a_sequence_of_another_vr_is_none(vr: bytes) -> None:
    e = Encoder()
    assert read(e, around(e, e.element(CODES, vr, b"pain"))) == {DESCRIPTION: b"CT", CODES: DAMAGED, LAST: b"7 "}
    assert read(e, around(e, e.element(CODES, vr, b""))) == {DESCRIPTION: b"CT", CODES: [], LAST: b"7 "}


def test_of_a_sequence_so_many_items_are_taken() -> None:
    e = Encoder()
    data = around(e, e.element(CODES, b"SQ", e.item(e.code) * 3000))
    assert scan(data, e.syntax, WANTED)[CODES] == [{CODE_VALUE: b"1 "}] * (DEFAULT_BUDGETS.items - 1) + [{}]


# VRs ----------------------------------------------------------------------------------------------------------------

UNKNOWN_VRS = [b"  ", b"??", b"\0\0", b"--", b"ox", b"OX", b"XX", b"UK", b"O ", b"\xff\xff"]


@pytest.mark.parametrize("vr", UNKNOWN_VRS)
@pytest.mark.parametrize("order", "<>")
def test_unknown_vrs_with_lengths_of_either_size(vr: bytes, order: str) -> None:
    """DCMTK reads those with 16-bit lengths, PS3.5 section 7.1.2 announces those with 32-bit ones."""
    e = Encoder(EXPLICIT_VR_LITTLE_ENDIAN if order == "<" else EXPLICIT_VR_BIG_ENDIAN)
    values = (b"", b"\0\0", b"text", b"ISO_IR 192CSDA  ", bytes(300))
    for length, value, count in product(("H", "HL"), values, (1, 3)):
        lengths = struct.pack(order + length, *[0] * (len(length) - 1), len(value))
        unknown = [struct.pack(order + "HH", 0x0028, 0x0120 + n) + vr + lengths + value for n in range(count)]
        assert read(e, around(e, b"".join(unknown))) == {DESCRIPTION: b"CT", LAST: b"7 "}, (length, value, count)


@pytest.mark.parametrize("vr", UNKNOWN_VRS)
def test_a_value_of_unknown_vr_is_taken(vr: bytes) -> None:
    e = Encoder()
    data = e.element(0x00080020, b"DA", b"20200102") + struct.pack("<HH2sH", 0x8, 0x1030, vr, 2) + b"CT"
    assert read(e, data + e.element(LAST, b"LO", b"7 ")) == {DESCRIPTION: b"CT", LAST: b"7 "}


@pytest.mark.parametrize("vr", [b"  ", b"\0\0", b"??"])
def test_a_first_element_of_unknown_vr_does_not_make_all_implicit(vr: bytes) -> None:
    e = Encoder()
    first = struct.pack("<HH2sH", 0x8, 0x5, vr, 10) + b"ISO_IR 100"
    assert read(e, first + around(e, b"")) == {DESCRIPTION: b"CT", LAST: b"7 "}


@examples(200)
@given(value=st.text("ABCDEFGILMNOSTUVW 0123^", max_size=100), end=st.booleans())
def test_a_single_implicit_element_is_not_taken_for_something_else(value: str, end: bool) -> None:
    """Whatever letters it holds, also those of VRs."""
    e = Encoder()
    text = value.encode() + b" " * (len(value) % 2)
    implicit = Encoder(IMPLICIT_VR_LITTLE_ENDIAN).element(DESCRIPTION, b"", text)
    behind = b"" if end else e.element(LAST, b"LO", b"7 ")
    expected: Raw = {DESCRIPTION: text} if end else {DESCRIPTION: text, LAST: b"7 "}
    assert read(e, e.element(0x00080020, b"DA", b"20200102") + implicit + behind) == expected


@pytest.mark.parametrize("syntax", [EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
@pytest.mark.parametrize("inside", SYNTAXES)
@pytest.mark.parametrize("is_open", [True, False])
def test_un_may_hold_a_sequence(syntax: str, inside: str, is_open: bool) -> None:
    """In Implicit VR Little Endian by the standard (PS3.5 section 6.2.2, CP-246), in others in practice."""
    if Encoder(inside).order == ">" != Encoder(syntax).order:
        return  # nobody writes that
    e, i = Encoder(syntax), Encoder(inside)
    nested = i.element(CODES, b"SQ" if i.explicit else b"UN", i.item(i.code))
    content = i.item(nested + i.element(REQUESTS, b"SQ", b""))
    value = content + i.end_of_sequence if is_open else content
    middle = e.element(REQUESTS, b"UN", value, UNDEFINED if is_open else None)
    expected: Raw = {DESCRIPTION: b"CT", REQUESTS: [{CODES: [{CODE_VALUE: b"1 "}]}], LAST: b"7 "}
    assert read(e, around(e, middle)) == expected


def test_items_in_implicit_vr_within_explicit_vr() -> None:
    e, i = Encoder(), Encoder(IMPLICIT_VR_LITTLE_ENDIAN)
    items = e.item(i.element(0x00080050, b"", b"A1") + i.element(CODES, b"", i.item(i.code)))
    assert read(e, around(e, e.element(REQUESTS, b"SQ", items))) == {
        DESCRIPTION: b"CT",
        REQUESTS: [{ACCESSION: b"A1", CODES: [{CODE_VALUE: b"1 "}]}],
        LAST: b"7 ",
    }


# The ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13, 512])
def test_padding_behind_the_last_element(syntax: str, count: int) -> None:
    e = Encoder(syntax)
    assert read(e, around(e, b"") + bytes(count)) == {DESCRIPTION: b"CT", LAST: b"7 "}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("group", [0x0000, 0x0002])
@pytest.mark.parametrize("explicit", [True, False])
def test_groups_that_belong_elsewhere_may_begin_a_data_set(syntax: str, group: int, explicit: bool) -> None:
    """A command set or file meta information in front of it, in an encoding of its own."""
    e = Encoder(syntax)
    own = Encoder(IMPLICIT_VR_LITTLE_ENDIAN if not explicit else e.syntax if e.explicit else EXPLICIT_VR_LITTLE_ENDIAN)
    if own.order != e.order:
        return
    before = own.element(group << 16, b"UL", struct.pack(own.order + "L", 8)) + own.element(
        group << 16 | 0x0002, b"OB", b"1.2.840."
    )
    assert read(e, before + around(e, b"")) == {DESCRIPTION: b"CT", LAST: b"7 "}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damaged_frames_end_the_header(syntax: str) -> None:
    e = Encoder(syntax)
    for items, length in ((b"CT HEAD ", None), (e.item(b"\1\2\3"), None), (e.item(b"\1" * 8), UNDEFINED)):
        frames = e.element(PER_FRAME_FUNCTIONAL_GROUPS, b"SQ", items, length) + bytes(range(100))
        assert read(e, e.element(DESCRIPTION, b"LO", b"CT") + frames) == {
            DESCRIPTION: b"CT",
            PER_FRAME_FUNCTIONAL_GROUPS: DAMAGED,
        }
