"""The header reader: what it takes, and that a stranger's bytes cost no more than the budgets."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmwrite, uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from bench.hostile import MIB, peak_bytes
from dicom2fhir.demo.synthetic import code, dataset
from dicom2fhir.dicom.data_elements import (
    DEFLATED,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PER_FRAME_FUNCTIONAL_GROUPS,
    Budgets,
    Wanted,
)
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.reader import HeaderReader, scan
from dicom2fhir.dicom.substitutes import TOO_LONG
from dicom2fhir.dicom.wanted import WANTED as TAKEN
from dicom2fhir.errors import BudgetExceeded, CannotUnderstand, NotAnInstance, NotDicom, Transient
from dicom2fhir.model import Raw
from testdata.make_dicom import encoded

STUDY_ID = 0x00200010
DESCRIPTION = 0x00081030
REASONS = 0x0040100A
CODE_VALUE = 0x00080100
REQUESTS = 0x00400275
WANTED: Wanted = {
    STUDY_ID: None,
    DESCRIPTION: None,
    REASONS: {CODE_VALUE: None},
    REQUESTS: {REASONS: {CODE_VALUE: None}},
}
SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
REASON = {"ReasonForRequestedProcedureCodeSequence": [code("1", "99X", "one"), code("2", "99X", "two")]}


def encode(made: Dataset, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """The data set alone, as it goes over the network."""
    buffer = BytesIO()
    syntax = uid.UID(transfer_syntax)
    dcmwrite(buffer, made, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return buffer.getvalue()


def small() -> Dataset:
    return dataset({"StudyDescription": "CT", "StudyID": "7", **REASON, "RequestAttributesSequence": [REASON]})


def undefined_lengths(made: Dataset) -> Dataset:
    for element in made:
        if isinstance(element.value, Sequence):
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined_lengths(item)
    return made


EXPECTED: Raw = {
    DESCRIPTION: b"CT",
    STUDY_ID: b"7 ",
    REASONS: [{CODE_VALUE: b"1 "}, {CODE_VALUE: b"2 "}],
    REQUESTS: [{REASONS: [{CODE_VALUE: b"1 "}, {CODE_VALUE: b"2 "}]}],
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("change", [lambda made: made, undefined_lengths], ids=["defined", "undefined"])
def test_nested_sequences_in_every_encoding(syntax: str, change: Callable[[Dataset], Dataset]) -> None:
    assert scan(encode(change(small()), syntax), syntax, WANTED) == EXPECTED


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_nothing_is_read_from_pixel_data_on(syntax: str) -> None:
    made = small()
    before = encode(made, syntax)
    big = syntax == EXPLICIT_VR_BIG_ENDIAN
    pixels = struct.pack(">HH" if big else "<HH", 0x7FE0, 0x0010) + b"\xff" * 9
    assert scan(before + pixels, syntax, WANTED) == EXPECTED
    reader = HeaderReader(syntax, WANTED)
    reader.write(before)
    assert not reader.is_complete
    reader.write(pixels.ljust(100_000))
    assert reader.is_complete
    assert reader.end() == EXPECTED


DEFLATED_SYNTAXES = [
    syntax
    for syntax, (name, kind, *_) in UID_dictionary.items()
    if kind == "Transfer Syntax" and "Deflate" in name and "Image Frame" not in name
]
"""Those of PS3.6; Deflated Image Frame Compression deflates frames, not the data set."""


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize("syntax", DEFLATED_SYNTAXES)
def test_a_deflated_data_set(syntax: str) -> None:
    data = deflated(encode(small()))
    assert scan(data, syntax, WANTED) == EXPECTED
    assert scan(data + b"\0", syntax, WANTED) == EXPECTED  # padded to an even length


def test_three_transfer_syntaxes_deflate_the_data_set() -> None:
    assert set(DEFLATED_SYNTAXES) == DEFLATED


def test_of_a_deflated_data_set_the_header_is_inflated() -> None:
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 20_000_000) + bytes(20_000_000)
    data = deflated(encode(small()) + pixels)
    budgets = Budgets(inflated_bytes=200_000)
    assert scan(data, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, WANTED, budgets) == EXPECTED


def test_a_deflated_bomb_is_stopped_at_the_budget() -> None:
    bomb = deflated(element(0x00090010, b"OB", bytes(20_000_000)))
    assert len(bomb) < 25_000
    with pytest.raises(BudgetExceeded, match="inflates"):
        scan(bomb, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(inflated_bytes=1_000_000))


def test_what_is_not_deflated_is_refused() -> None:
    with pytest.raises(CannotUnderstand, match="inflated"):
        scan(b"\xff" * 100, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, WANTED)


# Lies ---------------------------------------------------------------------------------------------------------------


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in explicit VR little endian, with a length of one's own choice."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    length = len(value) if length is None else length
    if vr in (b"SQ", b"UN", b"OB", b"OW", b"UT"):
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


def item(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value) if length is None else length) + value


UNDEFINED = 0xFFFFFFFF
END_OF_ITEM = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
END_OF_SEQUENCE = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
VALUE = element(CODE_VALUE, b"SH", b"1 ")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(element(STUDY_ID, b"SH", b"7 ", 3000), id="a value longer than the data set"),
        pytest.param(element(STUDY_ID, b"UN", b"7 ", UNDEFINED - 1), id="a value of 4 GiB"),
        pytest.param(element(REASONS, b"SQ", item(VALUE), UNDEFINED), id="a sequence without end"),
        pytest.param(element(REASONS, b"SQ", item(VALUE, UNDEFINED), UNDEFINED), id="an item without end"),
        pytest.param(element(REASONS, b"SQ", item(VALUE, 3000), UNDEFINED), id="an item longer than the data set"),
        pytest.param(element(REASONS, b"SQ", b"", UNDEFINED), id="the head of a sequence"),
        pytest.param(element(REASONS, b"SQ", b"pain", UNDEFINED), id="text without end"),
        pytest.param(item(b"", UNDEFINED), id="an item without end and without sequence"),
        pytest.param(VALUE + b"\1\2\3", id="rubbish at the end"),
        pytest.param(b"\1" * 7, id="half an element"),
    ],
)
def test_bytes_that_hide_the_next_element_are_not_understood(data: bytes) -> None:
    with pytest.raises(CannotUnderstand):
        scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED)


def test_unknown_vr_of_undefined_length_holds_implicit_vr() -> None:
    inner = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"1 "
    data = element(REASONS, b"UN", item(inner, UNDEFINED) + END_OF_ITEM + END_OF_SEQUENCE, UNDEFINED)
    assert scan(data + element(STUDY_ID, b"SH", b"7 "), EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {
        REASONS: [{CODE_VALUE: b"1 "}],
        STUDY_ID: b"7 ",
    }


def test_group_lengths_and_private_blocks_are_passed_over() -> None:
    length = struct.pack("<L", 1)  # wrong, as they are in files that were edited
    private = element(0x00090010, b"LO", b"ACME") + element(0x00091001, b"OB", b"\1\2\3\4")
    nested = element(0x00091002, b"SQ", item(element(STUDY_ID, b"SH", b"9 "), UNDEFINED) + END_OF_ITEM, UNDEFINED)
    data = element(0x00080000, b"UL", length) + element(DESCRIPTION, b"LO", b"CT")
    data += private + nested + END_OF_SEQUENCE
    data += element(0x00200000, b"UL", length) + element(STUDY_ID, b"SH", b"7 ")
    assert scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {DESCRIPTION: b"CT", STUDY_ID: b"7 "}


def test_a_single_implicit_element_among_explicit_ones_is_read() -> None:
    implicit = struct.pack("<HHL", STUDY_ID >> 16, STUDY_ID & 0xFFFF, 2) + b"7 "
    data = element(DESCRIPTION, b"LO", b"CT") + implicit
    assert scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {DESCRIPTION: b"CT", STUDY_ID: b"7 "}


@pytest.mark.parametrize(
    ("is_really", "declared"),
    [(EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN), (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)],
)
def test_a_wrong_transfer_syntax_is_seen_through(is_really: str, declared: str) -> None:
    assert scan(encode(small(), is_really), declared, WANTED) == EXPECTED


# File meta information -----------------------------------------------------------------------------------------------


def with_meta(more: bytes, case: str = "cr") -> bytes:
    """A file with something behind its file meta information, whose group length is then wrong."""
    (data,) = encoded(case)
    (length,) = struct.unpack_from("<L", data, 140)
    end = 144 + length
    return data[:end] + more + data[end:]


@pytest.mark.parametrize("size", [0, 1000, 16 * 1024, 200_000, 5_000_001])
def test_file_meta_information_of_any_length(size: int) -> None:
    private = element(0x00020100, b"UI", b"2.25.5") + element(0x00020102, b"OB", bytes(size))
    data = with_meta(private)
    assert read_file(BytesIO(data), WANTED) == read_file(BytesIO(encoded("cr")[0]), WANTED)


@pytest.mark.parametrize("head", [struct.pack("<HL", 0, 70_000), struct.pack("<H", 60_000)], ids=["32 bits", "16 bits"])
def test_file_meta_information_of_an_unknown_vr(head: bytes) -> None:
    size = 70_000 if len(head) > 2 else 60_000
    data = with_meta(struct.pack("<HH2s", 0x0002, 0x0102, b"ZZ") + head + b"A" * size)
    assert read_file(BytesIO(data), WANTED) == read_file(BytesIO(encoded("cr")[0]), WANTED)


def test_a_transfer_syntax_ends_at_a_nul() -> None:
    data = element(0x00020010, b"UI", b"1.2.840.10008.1.2.1\0x.") + element(STUDY_ID, b"SH", b"7 ")
    read = read_file(BytesIO(bytes(128) + b"DICM" + data), WANTED)
    assert (read.transfer_syntax, read.taken) == ("1.2.840.10008.1.2.1", {STUDY_ID: b"7 "})


def test_file_meta_information_must_end() -> None:
    for more in (element(0x00020102, b"OB", b"", 5_000_000), element(0x00020102, b"OB", b"")[:9], b"\2\0"):
        data = with_meta(more)[: 144 + struct.unpack_from("<L", encoded("cr")[0], 140)[0] + len(more)]
        with pytest.raises(CannotUnderstand, match="file meta information"):
            read_file(BytesIO(data), WANTED)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (element(0x00020102, b"OB", bytes(100_001)), "longer than 100000 bytes"),
        (element(0x00020102, b"OB", b"") * 1000, "more than 1000 elements"),
    ],
)
def test_file_meta_information_has_its_budgets(more: bytes, reason: str) -> None:
    with pytest.raises(BudgetExceeded, match=reason):
        read_file(BytesIO(with_meta(more)), WANTED, Budgets(header_bytes=100_000))


@pytest.mark.parametrize("case", ["cr", "implicit-little-endian", "explicit-big-endian"])
@pytest.mark.parametrize("explicit", [True, False])
def test_file_meta_information_repeated_in_the_data_set(case: str, explicit: bool) -> None:
    """What comes first holds; what is repeated may be in another encoding."""
    value = b"1.2.840.10008.1.2.4.50"
    tag = 0x00020010
    implicit = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
    data = with_meta(element(tag, b"UI", value) if explicit else implicit, case)
    assert read_file(BytesIO(data), WANTED) == read_file(BytesIO(encoded(case)[0]), WANTED)


def test_file_meta_information_in_implicit_vr() -> None:
    (data,) = encoded("implicit-little-endian")
    (length,) = struct.unpack_from("<L", data, 140)
    syntax = IMPLICIT_VR_LITTLE_ENDIAN.encode() + b"\0"
    meta = struct.pack("<HHL", 2, 0x10, len(syntax)) + syntax
    found = read_file(BytesIO(data[:132] + meta + data[144 + length :]), WANTED)
    assert (found.taken, found.transfer_syntax) == (read_file(BytesIO(data), WANTED).taken, IMPLICIT_VR_LITTLE_ENDIAN)


# Multi-frame objects -------------------------------------------------------------------------------------------------

FRAMES: Wanted = {STUDY_ID: None, PER_FRAME_FUNCTIONAL_GROUPS: {REASONS: {CODE_VALUE: None}}}
FIRST_FRAME: Raw = {STUDY_ID: b"7 ", PER_FRAME_FUNCTIONAL_GROUPS: [{REASONS: [{CODE_VALUE: b"0 "}]}]}


def frames(count: int) -> Dataset:
    """A multi-frame object's functional groups; each frame has a number, and something that nobody wants."""
    groups = [
        dataset({"ReasonForRequestedProcedureCodeSequence": [code(str(n), "99X", "x")], "OperatorsName": "A"})
        for n in range(count)
    ]
    made = dataset({"StudyID": "7"})
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return made


@pytest.mark.parametrize("change", [lambda made: made, undefined_lengths], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", [*SYNTAXES, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN])
def test_of_the_frames_the_first_is_read(syntax: str, change: Callable[[Dataset], Dataset]) -> None:
    is_deflated = syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    written = encode(change(frames(1000)), EXPLICIT_VR_LITTLE_ENDIAN if is_deflated else syntax)
    data = deflated(written) if is_deflated else written
    budgets = Budgets(elements=60)
    assert scan(data, syntax, FRAMES, budgets) == FIRST_FRAME
    reader = HeaderReader(syntax, FRAMES, budgets)
    for start in range(0, len(data), 7):
        reader.write(data[start : start + 7])
    assert reader.end() == FIRST_FRAME
    if not is_deflated:
        reader = HeaderReader(syntax, FRAMES, budgets)
        reader.write(data[: len(data) // 2])
        assert reader.is_complete


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("change", [lambda made: made, undefined_lengths], ids=["defined", "undefined"])
def test_an_object_may_have_no_frames(syntax: str, change: Callable[[Dataset], Dataset]) -> None:
    data = encode(change(frames(0)), syntax)
    assert scan(data, syntax, FRAMES) == {STUDY_ID: b"7 ", PER_FRAME_FUNCTIONAL_GROUPS: []}


def test_nothing_wanted_comes_after_the_frames() -> None:
    assert max(TAKEN) == PER_FRAME_FUNCTIONAL_GROUPS


# Budgets ------------------------------------------------------------------------------------------------------------


def test_too_many_elements() -> None:
    data = b"".join(element(0x00090000 + n, b"LO", b"") for n in range(1, 101))
    assert scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(elements=100)) == {}
    with pytest.raises(BudgetExceeded, match="more than 99 elements"):
        scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(elements=99))


def test_items_count_as_elements() -> None:
    data = element(REASONS, b"SQ", item(b"") * 100)
    with pytest.raises(BudgetExceeded, match="elements"):
        scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(elements=50))


def test_items_of_undefined_length_that_nobody_wants_count_too() -> None:
    data = element(0x00090010, b"SQ", (item(b"", UNDEFINED) + END_OF_ITEM) * 100 + END_OF_SEQUENCE, UNDEFINED)
    with pytest.raises(BudgetExceeded, match="elements"):
        scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(elements=50))


@pytest.mark.parametrize("levels", [33, 5000])
def test_too_deep(levels: int) -> None:
    data = (element(0x00090010, b"SQ", b"", UNDEFINED) + item(b"", UNDEFINED)) * levels
    with pytest.raises(BudgetExceeded, match="nested deeper than 32"):
        scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED)


def test_as_deep_as_may_be() -> None:
    data = (element(0x00090010, b"SQ", b"", UNDEFINED) + item(b"", UNDEFINED)) * 32
    data += (END_OF_ITEM + END_OF_SEQUENCE) * 32
    assert scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {}


def test_a_value_that_is_too_long_is_passed_over() -> None:
    data = element(DESCRIPTION, b"UT", b"x" * 101) + element(STUDY_ID, b"SH", b"7 ")
    assert scan(data, EXPLICIT_VR_LITTLE_ENDIAN, WANTED, Budgets(value_bytes=100)) == {
        DESCRIPTION: TOO_LONG,
        STUDY_ID: b"7 ",
    }


LONG_VALUE = bytes(8 * MIB)
WITH_VR = element(0x00080005, b"CS", b"")
PASSED_OVER: dict[str, tuple[str, bytes]] = {
    "wanted": (EXPLICIT_VR_LITTLE_ENDIAN, WITH_VR + element(DESCRIPTION, b"UT", LONG_VALUE)),
    "wanted, of unknown VR": (EXPLICIT_VR_LITTLE_ENDIAN, WITH_VR + element(DESCRIPTION, b"UN", LONG_VALUE)),
    "in an item": (
        EXPLICIT_VR_LITTLE_ENDIAN,
        WITH_VR + element(0x00091010, b"SQ", item(element(0x00091011, b"OW", LONG_VALUE))),
    ),
    "in items of undefined length": (
        EXPLICIT_VR_LITTLE_ENDIAN,
        WITH_VR
        + element(0x00091010, b"SQ", item(element(0x00091011, b"OB", LONG_VALUE), UNDEFINED), UNDEFINED)
        + END_OF_ITEM
        + END_OF_SEQUENCE,
    ),
    "fragments": (
        EXPLICIT_VR_LITTLE_ENDIAN,
        WITH_VR + element(0x00091010, b"OB", item(LONG_VALUE), UNDEFINED) + END_OF_SEQUENCE,
    ),
    "first, of a group before those of data sets": (EXPLICIT_VR_LITTLE_ENDIAN, element(0x00020102, b"OB", LONG_VALUE)),
    "first, without VR": (IMPLICIT_VR_LITTLE_ENDIAN, struct.pack("<HHL", 9, 0x1010, len(LONG_VALUE)) + LONG_VALUE),
    "first, without VR against the transfer syntax": (
        EXPLICIT_VR_LITTLE_ENDIAN,
        struct.pack("<HHL", 9, 0x1010, len(LONG_VALUE)) + LONG_VALUE,
    ),
}
DEFLATED_TOO = {
    f"{what}, deflated": (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, deflated(data))
    for what, (syntax, data) in PASSED_OVER.items()
    if syntax == EXPLICIT_VR_LITTLE_ENDIAN
}


@pytest.mark.parametrize("what", PASSED_OVER | DEFLATED_TOO)
def test_what_is_passed_over_takes_no_memory(what: str) -> None:
    syntax, data = (PASSED_OVER | DEFLATED_TOO)[what]
    assert peak_bytes(syntax, data) < 2 * MIB


def test_what_follows_a_long_first_value_is_read() -> None:
    """Of a group that comes before those of data sets, and without VR where the transfer syntax has them."""
    long = LONG_VALUE[: 2 * MIB]
    explicit = element(0x00020102, b"OB", long) + element(STUDY_ID, b"SH", b"7 ")
    assert scan(explicit, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {STUDY_ID: b"7 "}
    implicit = b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in ((0x00091010, long), (STUDY_ID, b"7 "))
    )
    assert scan(implicit, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) == {STUDY_ID: b"7 "}


CODES = WITH_VR + element(REQUESTS, b"SQ", item(element(REASONS, b"SQ", item(VALUE) * 999)) * 20)
HOLDING = {
    "codes": (EXPLICIT_VR_LITTLE_ENDIAN, CODES),
    "codes, deflated": (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, deflated(CODES)),
    "text": (
        EXPLICIT_VR_LITTLE_ENDIAN,
        element(0x00101002, b"SQ", item(element(0x00100020, b"UT", b"\xff\1" * (MIB // 2)))),
    ),
    "what waits": (EXPLICIT_VR_LITTLE_ENDIAN, element(DESCRIPTION, b"UT", bytes(MIB - 2), MIB)),
}


@pytest.mark.parametrize("what", HOLDING)
def test_memory_that_is_counted_is_what_is_held(what: str) -> None:
    """Of what waits and of what is taken, while it is decoded too."""
    syntax, data = HOLDING[what]
    counted: list[int] = []
    reader = HeaderReader(syntax, TAKEN, hold=counted.append)
    reader.write(data)
    with contextlib.suppress(CannotUnderstand):
        reader.end()
    assert peak_bytes(syntax, data) < max(counted) + 256 * 1024


def test_nothing_is_counted_for_what_is_passed_over_or_given_up() -> None:
    counted: list[int] = []
    reader = HeaderReader(EXPLICIT_VR_LITTLE_ENDIAN, TAKEN, hold=counted.append)
    reader.write(PASSED_OVER["in an item"][1])
    assert max(counted) < MIB
    reader = HeaderReader(EXPLICIT_VR_LITTLE_ENDIAN, TAKEN, hold=counted.append)
    reader.write(CODES * 3)
    with pytest.raises(BudgetExceeded):
        reader.end()
    assert counted[-1] == 0 < max(counted)


def test_a_reader_that_may_hold_no_more_stops_before_it_does() -> None:
    """A few kB that are deflated become as much as the budgets allow in one piece."""
    counted: list[int] = []

    def hold(held_bytes: int) -> None:
        counted.append(held_bytes)
        if held_bytes > MIB:
            raise Transient

    with pytest.raises(Transient):
        HeaderReader(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, TAKEN, hold=hold).write(deflated(CODES * 3))
    assert max(counted) < 2 * MIB


def test_a_header_that_is_too_long() -> None:
    data = encoded("cr")[0][:132] + element(0x00090010, b"OB", bytes(300_000))
    with pytest.raises(BudgetExceeded, match="longer than 100000 bytes"):
        read_file(BytesIO(data), WANTED, Budgets(header_bytes=100_000))


def test_a_deflated_file_that_is_too_long() -> None:
    (data,) = encoded("deflated")
    with pytest.raises(BudgetExceeded, match="deflated data set inflates to more than 500 bytes"):
        read_file(BytesIO(data), WANTED, Budgets(inflated_bytes=500))


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "transfer_syntax", "has_meta"),
    [
        ("implicit-little-endian", IMPLICIT_VR_LITTLE_ENDIAN, True),
        ("explicit-little-endian", EXPLICIT_VR_LITTLE_ENDIAN, True),
        ("explicit-big-endian", EXPLICIT_VR_BIG_ENDIAN, True),
        ("deflated", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, True),
        ("rle-lossless", uid.RLELossless, True),
        ("no-preamble", IMPLICIT_VR_LITTLE_ENDIAN, False),
        ("no-preamble-explicit", EXPLICIT_VR_LITTLE_ENDIAN, False),
    ],
)
def test_a_file_is_read_up_to_pixel_data(case: str, transfer_syntax: str, has_meta: bool) -> None:
    (data,) = encoded(case)
    file = BytesIO(data)
    found = read_file(file, WANTED)
    assert found.transfer_syntax == transfer_syntax
    assert bool(found.sop_class) is bool(found.sop_instance) is has_meta
    assert STUDY_ID in found.taken


def test_pixels_are_not_read() -> None:
    (data,) = encoded("cr")
    file = BytesIO(data + bytes(10_000_000))
    read_file(file, WANTED)
    assert file.tell() < 100_000


def test_a_preamble_alone_may_be_missing() -> None:
    (data,) = encoded("cr")
    assert read_file(BytesIO(data[132:]), WANTED) == read_file(BytesIO(data), WANTED)


@pytest.mark.parametrize("data", [b"", b"x", b"Not DICOM.\n" * 20, bytes(200), b"\xff" * 5000, b"<html>" * 100])
def test_other_files_are_not_dicom(data: bytes) -> None:
    with pytest.raises(NotDicom):
        read_file(BytesIO(data), WANTED)


def test_a_dicomdir_is_no_instance(pydicom_files: list[Path]) -> None:
    directories = [path for path in pydicom_files if path.name.startswith("DICOMDIR")]
    assert directories
    for data in (*encoded("dicomdir"), *(path.read_bytes() for path in directories)):
        with pytest.raises(NotAnInstance):
            read_file(BytesIO(data), WANTED)


@pytest.mark.parametrize(
    "case", ["sm", "no-preamble", "no-preamble-explicit", "explicit-big-endian", "deflated", "private-undefined-length"]
)
def test_a_file_cut_anywhere_is_understood_or_refused(case: str) -> None:
    """Only the errors of the house; a cut between two elements cannot be seen."""
    data = encoded(case)[0]
    for length in range(len(data)):
        try:
            read_file(BytesIO(data[:length]), WANTED)
        except (NotDicom, CannotUnderstand):
            continue


@given(data=st.binary(max_size=400), preamble=st.booleans(), at=st.integers(0, 10_000))
def test_any_bytes_are_understood_or_refused(data: bytes, preamble: bool, at: int) -> None:
    good = encoded("uid-64")[0][:1500]
    for broken in ((b"\0" * 128 + b"DICM" if preamble else b"") + data, good[: at % 1500] + data + good[at % 1500 :]):
        try:
            read_file(BytesIO(broken), WANTED, Budgets(header_bytes=100_000, elements=1000))
        except (NotDicom, CannotUnderstand):
            continue


@given(data=st.binary(max_size=400), syntax=st.sampled_from(SYNTAXES))
def test_any_data_set_is_understood_or_refused(data: bytes, syntax: str) -> None:
    try:
        scan(data, syntax, WANTED)
    except CannotUnderstand:
        return
    scan(data, syntax, {})
