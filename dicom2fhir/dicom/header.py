"""Bounded reader of data set headers: bytes in, raw element values out (PS3.5 section 7, PS3.10 section 7).

A data set comes from a stranger. The reader walks it once, skips by length what is not wanted, decodes nothing, and
gives up with :class:`~dicom2fhir.errors.CannotUnderstand` where the bytes lie about themselves or a budget is spent.
Only what stands before Pixel Data is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from dicom2fhir.errors import BudgetExceeded, CannotUnderstand, NotAnInstance, NotDicom

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset({DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95"})
"""Deflated Explicit VR Little Endian and JPIP Referenced Deflate: the data set itself is deflated (PS3.5 A.5)."""

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

Wanted = Mapping[int, "Wanted | None"]
"""Tag -> what is wanted of each item of that sequence, or None for a value taken as it stands."""

Raw = dict[int, "bytes | list[Raw]"]
"""Tag -> undecoded value, or the items of a sequence."""

_BULK_DATA = frozenset({0x00420011, 0x54000100, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Encapsulated Document, Waveform Sequence, and the three kinds of Pixel Data: nothing wanted follows one of these."""
_ITEM = 0xFFFEE000
_ITEM_DELIMITER = 0xFFFEE00D
_SEQUENCE_DELIMITER = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a 32-bit length (PS3.5 table 7.1-1)."""
_SEQUENCE_VRS = frozenset({b"SQ", b"UN", b""})
"""Those in which a sequence may come; none in implicit VR."""
_UNPACK_LITTLE = tuple(struct.Struct(f).unpack_from for f in ("<HH2sH", "<HHL", "<L"))
_UNPACK_BIG = tuple(struct.Struct(f).unpack_from for f in (">HH2sH", ">HHL", ">L"))
"""Group, element, VR and short length; group, element and length without VR; long length."""
_VRS = _LONG_VRS | {
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


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The beginning of a DICOM file: a data set without Pixel Data, and what the file meta information says of it."""

    header: bytes
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    taken: Raw
    """What was wanted of it."""


class _Short(Exception):
    """The bytes end within the element that begins at ``args[0]``."""


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
            With the position of the element that does not fit; only at depth 0 the rest may still come.
        """
        data = self.data
        with_vr, without_vr, long = self.unpack
        left = self.elements_left
        while pos < end:
            start = pos
            if pos + 8 > end:
                raise _Short(start)
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
            if vr in _LONG_VRS:
                if pos + 4 > end:
                    raise _Short(start)
                (length,) = long(data, pos)
                pos += 4
            elif explicit and not b"AA" <= vr <= b"ZZ":
                # PS3.5 knows no mixed encoding, but files with single implicit elements among explicit ones exist
                vr = b""
                (length,) = long(data, pos - 4)
            inner = wanted.get(tag, _NOTHING)
            if length == _UNDEFINED:
                self.elements_left = left
                # UN of undefined length holds Implicit VR Little Endian (PS3.5 section 6.2.2)
                items, pos = self._items(
                    pos, end, explicit and vr != b"UN", inner or _NOTHING, depth + 1, start if not depth else None
                )
                left = self.elements_left
                if inner:
                    taken[tag] = items
                continue
            stop = pos + length
            if stop > end:
                raise _Short(start)
            if inner is None or (inner and vr not in _SEQUENCE_VRS):
                if length <= self.budgets.value_bytes:
                    taken[tag] = data[pos:stop]
            elif inner:
                self.elements_left = left
                try:
                    taken[tag] = self._items(pos, stop, explicit and vr != b"UN", inner, depth + 1)[0]
                except _Short as lie:
                    raise CannotUnderstand(_cut(data, lie.args[0], self.big)) from None
                left = self.elements_left
            pos = stop
        self.elements_left = left
        return pos

    def _items(
        self, pos: int, end: int, explicit: bool, wanted: Wanted, depth: int, undefined_at: int | None = None
    ) -> tuple[list[Raw], int]:
        """The items from ``pos`` to the sequence delimiter or ``end`` (PS3.5 section 7.5)."""
        if depth > self.budgets.depth:
            raise BudgetExceeded(f"Sequences are nested deeper than {self.budgets.depth}.")
        data = self.data
        header = self.unpack[1]
        items: list[Raw] = []
        while pos < end:
            if pos + 8 > end:
                raise _Short(pos if undefined_at is None else undefined_at)
            self.elements_left -= 1
            if self.elements_left < 0:
                raise BudgetExceeded(f"The data set has more than {self.budgets.elements} elements.")
            group, element, length = header(data, pos)
            tag = group << 16 | element
            if tag == _SEQUENCE_DELIMITER:
                return items, pos + 8
            if tag != _ITEM:
                raise CannotUnderstand(f"No item where a sequence must have one, {_at(tag, pos)}.")
            pos += 8
            stop = end if length == _UNDEFINED else pos + length
            if stop > end:
                raise _Short(pos - 8 if undefined_at is None else undefined_at)
            if not wanted and length != _UNDEFINED:
                pos = stop
                continue
            item: Raw = {}
            try:
                pos = self.elements(pos, stop, explicit, wanted, item, depth, length == _UNDEFINED)
            except _Short as short:
                raise _Short(short.args[0] if undefined_at is None else undefined_at) from None
            items.append(item)
        if undefined_at is not None:
            raise _Short(undefined_at)
        return items, pos


_NOTHING: Wanted = {}


def _at(tag: int, pos: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {pos}"


def _is_explicit(data: bytes, pos: int, declared: bool) -> bool:
    """Whether the data set at ``pos`` has explicit VRs: some writers declare the wrong transfer syntax."""
    vr = data[pos + 4 : pos + 6]
    if declared:
        return not vr or b"AA" <= vr <= b"ZZ"
    return vr in _VRS


def scan(data: bytes, transfer_syntax: str, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS) -> Raw:
    """Take the wanted elements out of a data set.

    Parameters
    ----------
    data
        A data set without file meta information, whole or cut anywhere from Pixel Data on.
    transfer_syntax
        Its Transfer Syntax UID; an unknown one is read as Explicit VR Little Endian, as all encapsulated ones are.
    wanted
        The tags to take; see :data:`Wanted`.

    Raises
    ------
    CannotUnderstand
        The bytes are no data set, or end within an element before Pixel Data.
    BudgetExceeded
        A limit of ``budgets`` is passed.
    """
    if transfer_syntax in _DEFLATED:
        data = _inflate(data, budgets)
    explicit = _is_explicit(data, 0, transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN)
    walk = _Walk(data, transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets)
    taken: Raw = {}
    try:
        walk.elements(0, len(data), explicit, wanted, taken)
    except _Short as short:
        raise CannotUnderstand(_cut(data, short.args[0], walk.big)) from None
    return taken


def header_length(data: bytes, transfer_syntax: str, budgets: Budgets = DEFAULT_BUDGETS) -> int:
    """How many bytes of ``data`` stand before Pixel Data; all of them for a deflated data set, which hides it.

    Raises
    ------
    CannotUnderstand, BudgetExceeded
        As :func:`scan`.
    """
    if transfer_syntax in _DEFLATED:
        return len(data)
    explicit = _is_explicit(data, 0, transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN)
    walk = _Walk(data, transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets)
    try:
        return walk.elements(0, len(data), explicit, _NOTHING, {})
    except _Short as short:
        raise CannotUnderstand(_cut(data, short.args[0], walk.big)) from None


def _cut(data: bytes, pos: int, big: bool) -> str:
    if pos + 4 > len(data):
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


_FIRST_READ_BYTES = 16 * 1024
_META_TAGS: Wanted = {0x00020002: None, 0x00020003: None, 0x00020010: None}
_PREAMBLE_BYTES = 128


def read_file(file: BinaryIO, budgets: Budgets = DEFAULT_BUDGETS, wanted: Wanted | None = None) -> FileHeader:
    """Read a DICOM file up to Pixel Data, from the file's present position.

    Files without preamble or file meta information are read too; the first element tells their encoding.

    Parameters
    ----------
    wanted
        What to take on the way, so that :func:`scan` need not walk over the same elements once more.

    Raises
    ------
    NotDicom
        Neither a DICOM file nor a bare data set.
    NotAnInstance
        A DICOMDIR.
    CannotUnderstand, BudgetExceeded
        It begins like DICOM and goes wrong, or ends too early.
    """
    data = file.read(_FIRST_READ_BYTES)
    start = _PREAMBLE_BYTES + 4 if data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM" else 0
    meta, pos = _read_meta(data, start, budgets)
    transfer_syntax = meta.get(0x00020010, "") or _guess(data, pos, bool(start))
    if meta.get(0x00020002) == MEDIA_STORAGE_DIRECTORY or data[pos : pos + 2] in (b"\x04\x00", b"\x00\x04"):
        raise NotAnInstance
    data = data[pos:]
    if transfer_syntax in _DEFLATED:
        header = _read_within(file, data, budgets)
        taken = scan(header, transfer_syntax, wanted, budgets) if wanted else {}
    else:
        header, taken = _read_header(file, data, transfer_syntax, budgets, wanted or _NOTHING)
    return FileHeader(header, transfer_syntax, meta.get(0x00020002, ""), meta.get(0x00020003, ""), taken)


def _read_meta(data: bytes, start: int, budgets: Budgets) -> tuple[dict[int, str], int]:
    """File meta information, Explicit VR Little Endian (PS3.10 section 7.1), and where the data set begins."""
    end = start
    explicit = _is_explicit(data, start, True)
    while data[end : end + 2] == b"\x02\x00":
        if len(data) < end + 12:
            raise CannotUnderstand("The file ends within its file meta information.")
        if not explicit or data[end + 4 : end + 6] in _LONG_VRS:
            (length,) = struct.unpack_from("<L", data, end + (8 if explicit else 4))
            end += (12 if explicit else 8) + length
        else:
            (length,) = struct.unpack_from("<H", data, end + 6)
            end += 8 + length
    if end > len(data):
        raise CannotUnderstand("The file ends within its file meta information, or that is longer than 16 KiB.")
    raw: Raw = {}
    try:
        _Walk(data, False, budgets).elements(start, end, explicit, _META_TAGS, raw)
    except _Short as short:
        raise CannotUnderstand(_cut(data, short.args[0], False)) from None
    return {
        tag: value.decode("ascii", "replace").strip("\0 ") for tag, value in raw.items() if isinstance(value, bytes)
    }, end


def _guess(data: bytes, pos: int, has_preamble: bool) -> str:
    """The encoding of a data set that nobody declares, by its first element."""
    if len(data) < pos + 8:
        raise CannotUnderstand("The file has no data set.") if has_preamble else NotDicom
    little, big = struct.unpack_from("<H", data, pos)[0], struct.unpack_from(">H", data, pos)[0]
    explicit = data[pos + 4 : pos + 6] in _VRS
    # a data set begins with group 0008 (SOP Common); a DICOMDIR with group 0004; 0002 was passed already
    if little in (0x0004, 0x0008):
        if explicit:
            return EXPLICIT_VR_LITTLE_ENDIAN
        if struct.unpack_from("<L", data, pos + 4)[0] < _FIRST_READ_BYTES:
            return IMPLICIT_VR_LITTLE_ENDIAN
    if big in (0x0004, 0x0008) and explicit:
        return EXPLICIT_VR_BIG_ENDIAN
    if has_preamble or pos:
        return EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    raise NotDicom


def _read_header(
    file: BinaryIO, data: bytes, transfer_syntax: str, budgets: Budgets, wanted: Wanted
) -> tuple[bytes, Raw]:
    """Read on until Pixel Data or the end of the file, in growing pieces, never walking the same bytes twice."""
    explicit = _is_explicit(data, 0, transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN)
    walk = _Walk(data, transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets)
    pos = 0
    taken: Raw = {}
    while True:
        try:
            pos = walk.elements(pos, len(walk.data), explicit, wanted, taken)
            if pos < len(walk.data):
                return walk.data[:pos], taken
        except _Short as short:
            pos = short.args[0]
        more = file.read(max(_FIRST_READ_BYTES, len(walk.data)))
        if not more:
            if pos < len(walk.data):
                raise CannotUnderstand(_cut(walk.data, pos, walk.big))
            return walk.data, taken
        walk.data += more
        if len(walk.data) > budgets.header_bytes:
            raise BudgetExceeded(f"The header is longer than {budgets.header_bytes} bytes.")


def _read_within(file: BinaryIO, data: bytes, budgets: Budgets) -> bytes:
    """The rest of the file, if it fits the budget."""
    data += file.read(budgets.header_bytes + 1 - len(data))
    if len(data) > budgets.header_bytes:
        raise BudgetExceeded(f"The deflated data set is longer than {budgets.header_bytes} bytes.")
    return data
