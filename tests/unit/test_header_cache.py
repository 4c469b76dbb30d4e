"""A reader that remembers earlier headers, and gets a data set in pieces, takes the same as one that does neither."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.data_elements import (
    DEFAULT_BUDGETS,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Budgets,
    Wanted,
)
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.reader import HeaderReader, scan
from dicom2fhir.dicom.walk import Walk
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Raw
from testdata.make_dicom import ct_instances
from tests.any_data_set import odd_file
from tests.examples import examples
from tests.held import held_bytes

SYNTAXES = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
BUDGETS = (
    DEFAULT_BUDGETS,
    DEFAULT_BUDGETS,
    Budgets(elements=25),
    Budgets(elements=300),
    Budgets(header_bytes=500),
    Budgets(value_bytes=20),
    Budgets(depth=1),
)
OF_ITEMS = {tag: inner for tag, inner in WANTED.items() if isinstance(inner, dict)}
TAGS = sorted(tag for tag, vr in WANTED.items() if tag not in OF_ITEMS and vr not in (b"US", b"UL", b"FD"))
SEQUENCES = sorted(OF_ITEMS)
STUDY_ID = 0x00200010
UNDEFINED = 0xFFFFFFFF


class Encoder:
    """Writes elements in one transfer syntax."""

    def __init__(self, syntax: str) -> None:
        self.order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
        self.is_explicit = syntax != IMPLICIT_VR_LITTLE_ENDIAN
        self.is_deflated = syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

    def bare(self, tag: int, length: int) -> bytes:
        return struct.pack(self.order + "HHL", tag >> 16, tag & 0xFFFF, length)

    def element(self, tag: int, value: Any) -> bytes:
        """An element; a list is a sequence, whose length is not told when its first item is None."""
        if isinstance(value, bytes):
            if not self.is_explicit:
                return self.bare(tag, len(value)) + value
            return struct.pack(self.order + "HH2sH", tag >> 16, tag & 0xFFFF, b"LO", len(value)) + value
        is_undefined = None in value
        items = b"".join(self.item(item, is_undefined) for item in value if item is not None)
        length = UNDEFINED if is_undefined else len(items)
        if is_undefined:
            items += self.bare(0xFFFEE0DD, 0)
        if not self.is_explicit:
            return self.bare(tag, length) + items
        return struct.pack(self.order + "HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, length) + items

    def item(self, elements: dict[int, Any], is_undefined: bool) -> bytes:
        inner = b"".join(self.element(*one) for one in elements.items())
        if is_undefined:
            return self.bare(0xFFFEE000, UNDEFINED) + inner + self.bare(0xFFFEE00D, 0)
        return self.bare(0xFFFEE000, len(inner)) + inner

    def data_set(self, elements: dict[int, Any], pixels: bytes) -> bytes:
        header = b"".join(self.element(*one) for one in sorted(elements.items()))
        if pixels:
            header += self.element(0x7FE00010, pixels)
        if not self.is_deflated:
            return header
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(header) + deflater.flush()


def any_value(random: Random) -> Any:
    return random.randbytes(random.choice((0, 2, 8, 8, 30)))


def any_element(random: Random) -> tuple[int, Any]:
    kind = random.random()
    if kind < 0.6:
        return random.choice(TAGS), any_value(random)
    if kind < 0.8:
        return 0x00090000 + 2 * random.randrange(30), any_value(random)
    tag = random.choice(SEQUENCES)
    wanted = OF_ITEMS[tag]
    items: list[Any] = [
        {inner: any_value(random) for inner in random.sample(sorted(wanted), 2) if not isinstance(wanted[inner], dict)}
        for _ in range(random.randint(0, 2))
    ]
    return tag, [None, *items] if random.random() < 0.5 else items


def related(random: Random, count: int) -> Iterator[tuple[bytes, str]]:
    """Data sets that have much in common, most of them, with their transfer syntaxes; some are damaged."""
    syntax = random.choice(SYNTAXES)
    elements: dict[int, Any] = {}
    for _ in range(count):
        if not elements or random.random() < 0.05:
            elements = dict(any_element(random) for _ in range(random.randint(1, 40)))
        if random.random() < 0.03:
            syntax = random.choice(SYNTAXES)
        for _ in range(random.choice((0, 1, 1, 1, 2))):
            elements[random.choice(sorted(elements)[:5])] = any_value(random)
        if random.random() < 0.05:
            elements.update([any_element(random)])
        if random.random() < 0.05 and len(elements) > 1:
            del elements[random.choice(list(elements))]
        data = Encoder(syntax).data_set(elements, random.randbytes(random.choice((0, 10, 3000))))
        if random.random() < 0.1:
            data = data[: random.randint(0, len(data))]
        if random.random() < 0.1 and data:
            at = random.randrange(len(data))
            data = data[:at] + random.randbytes(1) + data[at + 1 :]
        yield data, syntax


def outcome(reader: HeaderReader, pieces: Sequence[bytes]) -> Raw | str:
    for piece in pieces:
        reader.write(piece)
    try:
        return reader.end()
    except CannotUnderstand as error:
        return f"{type(error).__name__}: {error}"


def cut(data: bytes, random: Random) -> list[bytes]:
    if random.random() < 0.4:
        return [data]
    most = random.choice((1, 7, 100, 1000))
    pieces = []
    while data:
        size = random.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@examples(300)
@given(seed=st.integers(0, 2**32), first_look=st.sampled_from([1, 60, 400, 8192]), budgets=st.sampled_from(BUDGETS))
def test_with_memory_and_in_pieces_as_without_and_whole(seed: int, first_look: int, budgets: Budgets) -> None:
    # made by a seed: nested strategies take a hundred times as long as what they test
    random = Random(seed)
    cache = HeaderCache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicom2fhir.dicom.reader._FIRST_LOOK_BYTES", first_look)
        for data, syntax in related(random, 20):
            whole = outcome(HeaderReader(syntax, WANTED, budgets), [data])
            assert outcome(HeaderReader(syntax, WANTED, budgets, cache), cut(data, random)) == whole


@examples(150)
@given(seed=st.integers(0, 2**32), first_look=st.sampled_from([1, 60, 400]), budgets=st.sampled_from(BUDGETS))
def test_the_same_for_odd_encodings_and_damage(seed: int, first_look: int, budgets: Budgets) -> None:
    random = Random(seed)
    file = odd_file("ISO_IR 100", seed, random.choice(["", "ProcedureCodeSequence"]))
    good = file[file.index(struct.pack("<HH", 0x0008, 0x0005)) :]
    cache = HeaderCache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicom2fhir.dicom.reader._FIRST_LOOK_BYTES", first_look)
        for _ in range(8):
            at = random.randrange(len(good))
            data = good[:at] + random.randbytes(random.randint(0, 3)) + good[at + random.randint(0, 3) :]
            data = random.choice([good, data])
            syntax = random.choice([EXPLICIT_VR_LITTLE_ENDIAN] * 3 + [IMPLICIT_VR_LITTLE_ENDIAN])
            whole = outcome(HeaderReader(syntax, WANTED, budgets), [data])
            assert outcome(HeaderReader(syntax, WANTED, budgets, cache), cut(data, random)) == whole


def read(data: bytes, cache: HeaderCache, wanted: Wanted = WANTED) -> Raw:
    reader = HeaderReader(EXPLICIT_VR_LITTLE_ENDIAN, wanted, DEFAULT_BUDGETS, cache)
    reader.write(data)
    return reader.end()


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were walked over, call by call."""
    lengths = []
    elements = Walk.elements

    def counted(self: Walk, pos: int, until: int) -> int:
        stop = elements(self, pos, until)
        lengths.append(stop - pos)
        return stop

    monkeypatch.setattr(Walk, "elements", counted)
    return lengths


def test_what_a_series_repeats_is_jumped_over(walked: list[int]) -> None:
    first, second, *others = (made.header for made in ct_instances(12))
    cache = HeaderCache()
    read(first, cache)
    read(second, cache)
    walked.clear()
    taken = [read(header, cache) for header in others]
    assert sum(walked) < 0.1 * len(first) * len(others)
    assert taken == [scan(header, EXPLICIT_VR_LITTLE_ENDIAN, WANTED) for header in others]


def test_what_is_wanted_may_change() -> None:
    header = next(iter(ct_instances(1))).header
    cache = HeaderCache()
    for _ in range(3):
        read(header, cache)
    study_id: Wanted = {0x00200010: None}
    assert read(header, cache, study_id) == scan(header, EXPLICIT_VR_LITTLE_ENDIAN, study_id)


def test_what_varies_now_and_then_is_walked_over_from_then_on(walked: list[int]) -> None:
    header = next(iter(ct_instances(1))).header
    cache = HeaderCache()
    for number in range(3):
        read(header.replace(b"CT01", b"CT%02d" % number), cache)
    walked.clear()
    for number in range(10):
        read(header.replace(b"CT01", b"CT%02d" % number), cache)
    assert 0 < sum(walked) < len(header)


@pytest.mark.parametrize("at", [0, -1])
def test_elements_that_are_jumped_over_count(at: int) -> None:
    encoder = Encoder(EXPLICIT_VR_LITTLE_ENDIAN)
    elements = [encoder.element(tag, b"1.2.3.") for tag in TAGS[:20]]
    budgets, cache = Budgets(elements=20), HeaderCache()
    for _ in range(3):
        outcome(HeaderReader(EXPLICIT_VR_LITTLE_ENDIAN, WANTED, budgets, cache), elements)
    elements.insert(at, encoder.element(STUDY_ID, b"7 "))
    found = outcome(HeaderReader(EXPLICIT_VR_LITTLE_ENDIAN, WANTED, budgets, cache), [b"".join(elements)])
    assert found == "BudgetExceeded: The data set has more than 20 elements."


def many(count: int, value: bytes, number: int) -> bytes:
    """A header of many elements, no two alike, one of which has a number."""
    encoder = Encoder(EXPLICIT_VR_LITTLE_ENDIAN)
    elements = [encoder.element(TAGS[index % len(TAGS)], b"%06d" % index + value) for index in range(count)]
    return b"".join(elements) + encoder.element(STUDY_ID, b"%04d" % number)


@pytest.mark.parametrize(("count", "value"), [(1900, b"x" * 40), (120, b"x" * 1000), (8000, b""), (200, b"x" * 5000)])
def test_memory_is_bounded(count: int, value: bytes) -> None:
    cache = HeaderCache()
    held = []
    for number in range(20):
        read(many(count, value, number), cache)
        held.append(held_bytes(cache))
    assert max(held) < 600_000
    assert max(held[10:]) <= max(held[:10])


def test_a_header_before_damage_to_deflated_pixels_is_learnt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is longer than the first look, and all of it comes out of the piece that is damaged."""
    learnt = []
    monkeypatch.setattr(HeaderCache, "finish", lambda _cache, walk, length: learnt.append(len(walk.data) >= length))
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 30_000) + bytes(30_000)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(struct.pack("<HH2sH", 0x20, 0x10, b"SH", 2) + b"ID" + pixels)
    data += deflater.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 50
    reader = HeaderReader(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, WANTED, cache=HeaderCache())
    reader.write(data)
    assert reader.end() == {STUDY_ID: b"ID"}
    assert learnt == [True]
