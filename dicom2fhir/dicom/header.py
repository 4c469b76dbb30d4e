"""Bounded reader of data set headers: bytes in, raw element values out (PS3.5 section 7).

A data set comes from a stranger, in pieces of any size. The reader walks it once, skips by length what is not wanted,
decodes nothing, and gives up with :class:`~dicom2fhir.errors.CannotUnderstand` where the bytes lie about themselves or
a budget is spent. Only what stands before Pixel Data is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from dicom2fhir.errors import BudgetExceeded, CannotUnderstand
from dicom2fhir.model import Raw

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset({DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95"})
"""Deflated Explicit VR Little Endian and JPIP Referenced Deflate: the data set itself is deflated (PS3.5 A.5)."""

Wanted = Mapping[int, "Wanted | None"]
"""Tag -> what is wanted of each item of that sequence, or None for a value taken as it stands."""

_BULK_DATA = frozenset({0x00420011, 0x54000100, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Encapsulated Document, Waveform Sequence, and the three kinds of Pixel Data: nothing wanted follows one of these."""
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
VRS = LONG_VRS | {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
    *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much of a data set is looked at before it is refused; none of them has an origin in the standard."""

    header_bytes: int = 64 * 1024 * 1024
    """Longest header that is kept in memory."""
    elements: int = 400_000
    """Elements walked over, those in sequences too: about 250 ms."""
    depth: int = 32
    """Sequences within sequences."""
    value_bytes: int = 1024 * 1024
    """Longest single value that is taken; longer ones are passed over."""
    inflated_bytes: int = 64 * 1024 * 1024
    """Of a deflated data set."""


DEFAULT_BUDGETS = Budgets()

_FIRST_LOOK_BYTES = 8 * 1024
_LOOK_GROWTH = 1.5
"""How much more there must be for another look: all of them together cost at most three times the last one."""


class _Short(Exception):
    """The bytes end within the element that begins at ``args[0]``, and ``args[1]`` elements were left before it."""


class _Walk:
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
        end: int,
        explicit: bool,
        wanted: Wanted,
        taken: Raw,
        depth: int = 0,
        delimited: bool = False,
    ) -> int:
        """Walk to ``end``, to Pixel Data, or past the item's delimiter, and put what is wanted into ``taken``.

        Returns
        -------
        int
            Where it ended.

        Raises
        ------
        _Short
            An element does not fit; at depth 0 the rest of it may still come.
        """
        data = self.data
        with_vr, without_vr, long = self.unpack
        left = self.elements_left
        while pos < end:
            start = pos
            if pos + 8 > end:
                raise _Short(start, left)
            if explicit:
                group, element, vr, length = with_vr(data, pos)
            else:
                group, element, length = without_vr(data, pos)
                vr = b""
            tag = group << 16 | element
            if tag in _BULK_DATA and not depth:
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
            if vr in LONG_VRS:
                if pos + 4 > end:
                    raise _Short(start, left + 1)
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
                except _Short:
                    if depth:
                        raise
                    raise _Short(start, left + 1) from None
                left = self.elements_left
                if inner:
                    taken[tag] = items
                continue
            stop = pos + length
            if stop > end:
                raise _Short(start, left + 1)
            if inner is None or (inner and vr not in _SEQUENCE_VRS):
                if length <= self.budgets.value_bytes:
                    taken[tag] = data[pos:stop]
            elif inner:
                self.elements_left = left
                try:
                    taken[tag] = self._items(pos, stop, False, explicit and vr != b"UN", inner, depth + 1)[0]
                except _Short as lie:
                    raise CannotUnderstand(_cut(data, lie.args[0], stop, self.big)) from None
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
                raise _Short(pos, self.elements_left)
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
                raise _Short(pos - 8, self.elements_left)
            if not wanted and length != _UNDEFINED:
                pos = stop
                continue
            item: Raw = {}
            pos = self.elements(pos, stop, explicit, wanted, item, depth, length == _UNDEFINED)
            items.append(item)
        if delimited:
            raise _Short(pos, self.elements_left)
        return items, pos


_NOTHING: Wanted = {}


def _at(tag: int, pos: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {pos}"


def is_explicit(data: bytes, pos: int, declared: bool) -> bool:
    """Whether the data set at ``pos`` has explicit VRs: some writers declare the wrong transfer syntax."""
    vr = data[pos + 4 : pos + 6]
    if declared:
        return not vr or b"AA" <= vr <= b"ZZ"
    return vr in VRS


class HeaderReader:
    """Takes what is wanted out of one data set, which may come in pieces.

    What was walked over is not walked again when more comes; a sequence of undefined length is, if it is not all there.

    Parameters
    ----------
    transfer_syntax
        Its Transfer Syntax UID; an unknown one is read as Explicit VR Little Endian, as all encapsulated ones are.
    wanted
        The tags to take; see :data:`Wanted`.
    """

    __slots__ = (
        "_budgets",
        "_data",
        "_error",
        "_explicit",
        "_is_deflated",
        "_look_at_bytes",
        "_pos",
        "_taken",
        "_walk",
        "_wanted",
        "is_complete",
        "transfer_syntax",
    )

    def __init__(self, transfer_syntax: str, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS) -> None:
        self.transfer_syntax = transfer_syntax
        self._wanted = wanted
        self._budgets = budgets
        self._is_deflated = transfer_syntax in _DEFLATED
        self._look_at_bytes = budgets.header_bytes + 1
        if not self._is_deflated:
            self._look_at_bytes = min(_FIRST_LOOK_BYTES, self._look_at_bytes)
        self._data = bytearray()
        self._walk = _Walk(b"", transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets)
        self._explicit: bool | None = None
        self._pos = 0
        self._taken: Raw = {}
        self._error: CannotUnderstand | None = None
        self.is_complete = False
        """Whether what is still to come is of no use."""

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the data set."""
        while piece and not self.is_complete:
            room = self._look_at_bytes - len(self._data)
            self._data += piece[:room]
            piece = piece[room:]
            if len(self._data) == self._look_at_bytes:
                self._look()

    def _look(self) -> None:
        most = self._budgets.header_bytes
        if not self._is_deflated:
            self._walk_on(bytes(self._data))
        if len(self._data) > most and not self.is_complete:
            what = "deflated data set" if self._is_deflated else "header"
            self._end(BudgetExceeded(f"The {what} is longer than {most} bytes."))
        self._look_at_bytes = min(int(_LOOK_GROWTH * self._look_at_bytes) + 1, most + 1)

    def _walk_on(self, data: bytes) -> None:
        """Walk over what has come since."""
        walk = self._walk
        walk.data = data
        if self._explicit is None:
            self._explicit = is_explicit(data, 0, self.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN)
        try:
            self._pos = walk.elements(self._pos, len(data), self._explicit, self._wanted, self._taken)
        except _Short as short:
            self._pos, walk.elements_left = short.args
        except CannotUnderstand as error:
            self._end(error)
        else:
            if self._pos < len(data):
                self._end()

    def _end(self, error: CannotUnderstand | None = None) -> None:
        """Take nothing more."""
        self.is_complete = True
        self._error = error
        self._data.clear()
        self._walk.data = b""

    def end(self) -> Raw:
        """What was wanted, once all of the data set was written.

        Raises
        ------
        CannotUnderstand
            It is no data set, or ends within an element before Pixel Data.
        BudgetExceeded
            A limit is passed.
        """
        if not self.is_complete:
            data = bytes(self._data)
            if self._is_deflated:
                data = _inflate(data, self._budgets)
            self._walk_on(data)
            if not self.is_complete and self._pos < len(data):
                self._error = CannotUnderstand(_cut(data, self._pos, len(data), self._walk.big))
            self.is_complete = True
        if self._error is not None:
            raise self._error
        return self._taken


def scan(data: bytes, transfer_syntax: str, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS) -> Raw:
    """Take what is wanted out of a data set that is in memory.

    Raises
    ------
    CannotUnderstand, BudgetExceeded
        As :meth:`HeaderReader.end`.
    """
    reader = HeaderReader(transfer_syntax, wanted, budgets)
    reader.write(data)
    return reader.end()


def _cut(data: bytes, pos: int, end: int, big: bool) -> str:
    if pos + 4 > end:
        return f"The data set ends within an element at byte {pos}."
    group, element = struct.unpack_from(">HH" if big else "<HH", data, pos)
    return f"The data set ends within the element {_at(group << 16 | element, pos)}."


def _inflate(data: bytes, budgets: Budgets) -> bytes:
    """Inflate a data set (RFC 1951, no zlib header: PS3.5 A.5) up to the budget."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, budgets.inflated_bytes)
    except zlib.error as error:
        raise CannotUnderstand(f"The deflated data set cannot be inflated: {error}.") from None
    if inflater.unconsumed_tail:
        raise BudgetExceeded(f"The data set inflates to more than {budgets.inflated_bytes} bytes.")
    if not inflater.eof:
        raise CannotUnderstand("The deflated data set ends too early.")
    return inflated
