"""Whether a file contains its whole data set. What follows the header is skipped with seeks; no pixels are read."""

from __future__ import annotations

import struct
from enum import Enum
from typing import BinaryIO, NamedTuple

from dicom2fhir.dicom.data_elements import (
    BULK_DATA,
    ITEM,
    ITEM_DELIMITER,
    ITEM_GROUP,
    LONG_VRS,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED,
)
from dicom2fhir.dicom.element_encoding import BIG, LITTLE
from dicom2fhir.model import Note

_PIXEL_DATA = 0x7FE00010
_KEYWORDS = {
    0x00420011: "EncapsulatedDocument",
    0x52009230: "PerFrameFunctionalGroupsSequence",
    0x54000100: "WaveformSequence",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    _PIXEL_DATA: "PixelData",
}
"""Of the elements that may be the first after a header."""
_PLAIN_PIXELS = (b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0OB\0\0")
_MOST_HEADS = 20_000
"""Maximum number of elements and items to skip: 0.1 s of CPU time."""
_HEADS_FOR_A_NOTE = 1_000
"""The maximum for a note: to skip more fragments on a network share takes too long for a note."""
_DEEPEST = 32
HEAD_BYTES = 12
"""Maximum size of the tag, VR and length fields of an element (PS3.5 section 7.1.2)."""


class Completeness(Enum):
    """What the size of a file tells about its data set."""

    WHOLE = "whole"
    CUT = "cut"
    UNKNOWN = "unknown"
    """It has no element whose end is known to be the end of the data set."""


class Rest(NamedTuple):
    """What follows the header of a data set.

    Attributes
    ----------
    at
        Position of its first element in the file.
    explicit
        Whether elements have VRs.
    big
        Whether it is encoded in big endian.
    head
        Its first :data:`HEAD_BYTES`, if they were read with the header.
    """

    at: int
    explicit: bool
    big: bool
    head: bytes


class _Cut(Exception):
    """The file ends within an element."""


class _Unclear(Exception):
    """There is no element at the position, or there are too many elements to skip."""


def completeness(file: BinaryIO, rest: Rest | None, size_bytes: int, most_heads: int = _MOST_HEADS) -> Completeness:
    """Compare the size of a file with the end of its last element.

    Parameters
    ----------
    rest
        What follows the header; None if nothing is known to follow, so that any end may be right.
    most_heads
        Maximum number of elements and items to skip.
    """
    if rest is None:
        return Completeness.UNKNOWN
    if _ends_with_pixels(rest, size_bytes):
        return Completeness.WHOLE
    try:
        _Seeker(file, rest, size_bytes, most_heads).pass_over()
    except _Cut:
        return Completeness.CUT
    except _Unclear:
        return Completeness.UNKNOWN
    return Completeness.WHOLE


def _ends_with_pixels(rest: Rest, size_bytes: int) -> bool:
    """Whether the value after the header ends at the end of the file. For most files no walk is needed."""
    at, explicit, big, head = rest
    is_plain = explicit and not big and head.startswith(_PLAIN_PIXELS)
    return is_plain and at + HEAD_BYTES + int.from_bytes(head[8:], "little") == size_bytes


def noted(file: BinaryIO, rest: Rest | None, size_bytes: int) -> tuple[Note, ...]:
    """A note on a file that ends too early, for callers that use its header anyway."""
    if rest is None or completeness(file, rest, size_bytes, _HEADS_FOR_A_NOTE) is not Completeness.CUT:
        return ()
    file.seek(rest.at)
    group, element = struct.unpack(">HH" if rest.big else "<HH", file.read(4))
    return (Note("warning", _KEYWORDS[group << 16 | element], "the file ends within it, or within what follows it"),)


class _Seeker:
    """Skips from element to element by their lengths (PS3.5 section 7.1)."""

    def __init__(self, file: BinaryIO, rest: Rest, size_bytes: int, heads_left: int) -> None:
        self._file = file
        self._rest = rest
        self._size_bytes = size_bytes
        self._heads_left = heads_left
        self._with_vr, self._without_vr, self._long = BIG if rest.big else LITTLE

    def pass_over(self) -> None:
        """Skip elements with ascending tags to the end of the file; one of them must hold bulk data."""
        pos, last, has_bulk = self._rest.at, 0, False
        while pos < self._size_bytes and not self._is_padding(pos):
            tag, length, begin, explicit = self._element(pos, self._rest.explicit)
            if tag <= last:
                raise _Unclear
            pos, last = self._behind(tag, length, begin, explicit, 0), tag
            has_bulk |= tag in BULK_DATA
        if pos > self._size_bytes:
            raise _Cut
        if not has_bulk:
            raise _Unclear  # pixels are probably missing after the functional groups

    def _is_padding(self, pos: int) -> bool:
        left = self._size_bytes - pos
        return left < 8 and not self._read(pos)[:left].strip(b"\0")

    def _read(self, pos: int) -> bytes:
        self._heads_left -= 1
        if self._heads_left < 0:
            raise _Unclear
        if pos == self._rest.at and len(self._rest.head) == HEAD_BYTES:
            return self._rest.head
        self._file.seek(pos)
        return self._file.read(HEAD_BYTES)

    def _element(self, pos: int, explicit: bool) -> tuple[int, int, int, bool]:
        """Tag and length of an element, the position of its value, and whether elements in it have VRs."""
        data = self._read(pos)
        if len(data) < 8:
            raise _Cut
        group, element, length = self._without_vr(data, 0)
        tag = group << 16 | element
        if not explicit or group == ITEM_GROUP:
            return tag, length, pos + 8, explicit
        _, _, vr, short = self._with_vr(data, 0)
        if vr in SHORT_VRS:
            return tag, short, pos + 8, explicit
        if vr not in LONG_VRS:
            raise _Unclear
        if len(data) < HEAD_BYTES:
            raise _Cut
        # items in UN of undefined length are Implicit VR (PS3.5 section 6.2.2)
        return tag, self._long(data, 8)[0], pos + 12, vr != b"UN"

    def _behind(self, tag: int, length: int, begin: int, explicit: bool, depth: int) -> int:
        """The position after a value."""
        if length != UNDEFINED:
            return begin + length
        if tag == _PIXEL_DATA and not depth and self._ends_with_delimiter():
            return self._size_bytes
        return self._items(begin, explicit, depth + 1)

    def _ends_with_delimiter(self) -> bool:
        """Whether the file ends like encapsulated Pixel Data, so that its fragments need not be skipped one by one."""
        order = ">" if self._rest.big else "<"
        delimiter = struct.pack(f"{order}HHL", SEQUENCE_DELIMITER >> 16, SEQUENCE_DELIMITER & 0xFFFF, 0)
        return self._read(self._size_bytes - len(delimiter)) == delimiter

    def _items(self, pos: int, explicit: bool, depth: int) -> int:
        """The position after a value of undefined length (PS3.5 section 7.5)."""
        if depth > _DEEPEST:
            raise _Unclear
        while True:
            tag, length, pos, _ = self._element(pos, False)
            if tag == SEQUENCE_DELIMITER:
                return pos
            if tag != ITEM:
                raise _Unclear
            pos = self._item(pos, explicit, depth) if length == UNDEFINED else pos + length

    def _item(self, pos: int, explicit: bool, depth: int) -> int:
        """The position after an item of undefined length."""
        while True:
            tag, length, begin, has_vrs = self._element(pos, explicit)
            if tag == ITEM_DELIMITER:
                return begin
            pos = self._behind(tag, length, begin, has_vrs, depth)
