"""Bounded reader of data set headers: bytes in, raw element values out (PS3.5 section 7).

A data set comes from a stranger, in pieces of any size. The reader walks it once, skips by length what is not wanted,
decodes nothing, and gives up with :class:`~dicom2fhir.errors.CannotUnderstand` where the bytes lie about themselves or
a budget is spent. Only what stands before Pixel Data is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from dicom2fhir.errors import BudgetExceeded, CannotUnderstand
from dicom2fhir.model import Raw

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95"})
"""Deflated Explicit VR Little Endian and JPIP Referenced Deflate: the data set itself is deflated (PS3.5 A.5)."""

Wanted = Mapping[int, "Wanted | None"]
"""Tag -> what is wanted of each item of that sequence, or None for a value taken as it stands."""

_BULK_DATA = frozenset({0x00420011, 0x54000100, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Encapsulated Document, Waveform Sequence, and the three kinds of Pixel Data: nothing wanted follows one of these."""
PER_FRAME_FUNCTIONAL_GROUPS = 0x52009230
"""Holds an item for each frame, of which the first is taken: with 100,000 frames it is longer than everything else, and
nothing wanted follows it (PS3.3 C.7.6.16)."""
_LAST = _BULK_DATA | {PER_FRAME_FUNCTIONAL_GROUPS}
_FIRST_BULK_GROUP = 0x0042
_ITEM = 0xFFFEE000
_ITEM_DELIMITER = 0xFFFEE00D
_SEQUENCE_DELIMITER = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a 32-bit length (PS3.5 table 7.1-1)."""
_SEQUENCE_VRS = frozenset({b"SQ", b"UN", b""})
"""Those in which a sequence may come; none in implicit VR."""
_UNPACK_LITTLE = tuple(struct.Struct(f).unpack_from for f in ("<HH2sH", "<HHL", "<L"))
_UNPACK_BIG = tuple(struct.Struct(f).unpack_from for f in (">HH2sH", ">HHL", ">L"))
"""Group, element, VR and short length; group, element and length without VR; long length."""
_SHORT_VRS = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
VRS = LONG_VRS | _SHORT_VRS


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much of a data set is looked at before it is refused; none of them has an origin in the standard."""

    header_bytes: int = 64 * 1024 * 1024
    """Longest header that is kept in memory."""
    elements: int = 400_000
    """Elements walked over, those in sequences too: half a second of a processor at worst."""
    depth: int = 32
    """Sequences within sequences."""
    value_bytes: int = 1024 * 1024
    """Longest single value that is taken; longer ones are passed over."""
    inflated_bytes: int = 64 * 1024 * 1024
    """Of a deflated data set."""


DEFAULT_BUDGETS = Budgets()


class Short(Exception):
    """The bytes end within the element that begins at ``args[0]``, and ``args[1]`` elements were left before it."""


class Walk:
    """One pass over one data set."""

    __slots__ = ("big", "budgets", "data", "elements_left", "unpack")

    def __init__(self, data: bytes, big: bool, budgets: Budgets) -> None:
        self.data = data
        self.big = big
        self.unpack = _UNPACK_BIG if big else _UNPACK_LITTLE
        self.budgets = budgets
        self.elements_left = budgets.elements

    def elements(
        self,
        pos: int,
        until: int,
        end: int,
        explicit: bool,
        wanted: Wanted,
        taken: Raw,
        depth: int = 0,
        delimited: bool = False,
    ) -> int:
        """Walk to Pixel Data, or past the item's delimiter, and put what is wanted into ``taken``.

        Parameters
        ----------
        until
            Where to stop, or behind the element that is begun before that.
        end
            Where the data set or the item ends.

        Returns
        -------
        int
            Where it ended.

        Raises
        ------
        Short
            An element does not fit; at depth 0 the rest of it may still come.
        """
        data = self.data
        with_vr, without_vr, long = self.unpack
        left = self.elements_left
        while pos < until:
            start = pos
            if pos + 8 > end:
                raise Short(start, left)
            if explicit:
                group, element, vr, length = with_vr(data, pos)
            else:
                group, element, length = without_vr(data, pos)
                vr = b""
            tag = group << 16 | element
            if group >= _FIRST_BULK_GROUP and tag in _LAST and not depth:
                inner = wanted.get(tag)
                if inner:
                    self.elements_left = left
                    taken[tag] = self._first_item(start, end, explicit, inner)
                break
            left -= 1
            if left < 0:
                raise BudgetExceeded(f"The data set has more than {self.budgets.elements} elements.")
            if group == 0xFFFE:
                if tag == _ITEM_DELIMITER and delimited:
                    pos += 8
                    break
                raise CannotUnderstand(f"An item or delimiter where an element must be, {_at(tag, start)}.")
            pos += 8
            if vr in _SHORT_VRS:  # most are
                pass
            elif vr in LONG_VRS:
                if pos + 4 > end:
                    raise Short(start, left + 1)
                (length,) = long(data, pos)
                pos += 4
            elif explicit and not b"AA" <= vr <= b"ZZ":
                # PS3.5 knows no mixed encoding, but files with single implicit elements among explicit ones exist
                vr = b""
                (length,) = long(data, pos - 4)
            inner = wanted.get(tag, _NOTHING)
            if length == _UNDEFINED:
                self.elements_left = left
                try:
                    # UN of undefined length holds Implicit VR Little Endian (PS3.5 section 6.2.2)
                    items, pos = self._items(pos, end, True, explicit and vr != b"UN", inner or _NOTHING, depth + 1)
                except Short:
                    if depth:
                        raise
                    raise Short(start, left + 1) from None
                left = self.elements_left
                if inner:
                    taken[tag] = items
                continue
            stop = pos + length
            if stop > end:
                raise Short(start, left + 1)
            if inner is None or (inner and vr not in _SEQUENCE_VRS):
                if length <= self.budgets.value_bytes:
                    taken[tag] = data[pos:stop]
            elif inner:
                self.elements_left = left
                try:
                    taken[tag] = self._items(pos, stop, False, explicit and vr != b"UN", inner, depth + 1)[0]
                except Short as lie:
                    raise CannotUnderstand(cut(data, lie.args[0], stop, self.big)) from None
                left = self.elements_left
            pos = stop
        self.elements_left = left
        return pos

    def _items(
        self, pos: int, end: int, delimited: bool, explicit: bool, wanted: Wanted, depth: int
    ) -> tuple[list[Raw], int]:
        """The items from ``pos`` to the sequence delimiter or, unless it must come, to ``end`` (PS3.5 section 7.5)."""
        if depth > self.budgets.depth:
            raise BudgetExceeded(f"Sequences are nested deeper than {self.budgets.depth}.")
        header = self.unpack[1]
        items: list[Raw] = []
        while pos < end:
            if pos + 8 > end:
                raise Short(pos, self.elements_left)
            self.elements_left -= 1
            if self.elements_left < 0:
                raise BudgetExceeded(f"The data set has more than {self.budgets.elements} elements.")
            group, element, length = header(self.data, pos)
            tag = group << 16 | element
            if tag == _SEQUENCE_DELIMITER:
                return items, pos + 8
            if tag != _ITEM:
                raise CannotUnderstand(f"No item where a sequence must have one, {_at(tag, pos)}.")
            pos += 8
            stop = end if length == _UNDEFINED else pos + length
            if stop > end:
                raise Short(pos - 8, self.elements_left)
            if not wanted and length != _UNDEFINED:
                pos = stop
                continue
            item: Raw = {}
            pos = self.elements(pos, stop, stop, explicit, wanted, item, depth, length == _UNDEFINED)
            items.append(item)
        if delimited:
            raise Short(pos, self.elements_left)
        return items, pos

    def _first_item(self, start: int, end: int, explicit: bool, wanted: Wanted) -> list[Raw]:
        """The first item of the sequence at ``start``, which is all that is looked at of it."""
        left = self.elements_left
        data = self.data
        head = 12 if explicit else 8
        if start + head > end:
            raise Short(start, left)
        (length,) = self.unpack[2](data, start + head - 4)
        pos = start + head
        delimited = length == _UNDEFINED
        if not delimited and not length:
            return []
        if pos + 8 > end:
            raise Short(start, left)
        group, element, length = self.unpack[1](data, pos)
        tag = group << 16 | element
        if tag == _SEQUENCE_DELIMITER and delimited:
            return []
        if tag != _ITEM:
            raise CannotUnderstand(f"No item where a sequence must have one, {_at(tag, pos)}.")
        pos += 8
        stop = end if length == _UNDEFINED else pos + length
        if stop > end:
            raise Short(start, left)
        item: Raw = {}
        try:
            self.elements(pos, stop, stop, explicit, wanted, item, 1, length == _UNDEFINED)
        except Short:
            raise Short(start, left) from None
        self.elements_left = left  # they are walked over again when more comes, and must not be counted twice
        return [item]


_NOTHING: Wanted = {}


def _at(tag: int, pos: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {pos}"


def is_explicit(data: bytes, pos: int, declared: bool) -> bool:
    """Whether the data set at ``pos`` has explicit VRs: some writers declare the wrong transfer syntax."""
    vr = data[pos + 4 : pos + 6]
    if declared:
        return not vr or b"AA" <= vr <= b"ZZ"
    return vr in VRS


def cut(data: bytes, pos: int, end: int, big: bool) -> str:
    """Say which element at ``pos`` does not fit."""
    if pos + 4 > end:
        return f"The data set ends within an element at byte {pos}."
    group, element = struct.unpack_from(">HH" if big else "<HH", data, pos)
    return f"The data set ends within the element {_at(group << 16 | element, pos)}."
