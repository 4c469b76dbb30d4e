"""The encoding of elements if neither the transfer syntax nor their VR determines it (PS3.5 section 7.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from dicom2fhir.dicom.data_elements import ITEM, ITEM_GROUP, LONG_VRS, SEQUENCE_DELIMITER, SHORT_VRS, UNDEFINED, VRS

Unpack = tuple[Callable[..., tuple[Any, ...]], ...]
LITTLE: Unpack = tuple(struct.Struct(f).unpack_from for f in ("<HH2sH", "<HHL", "<L"))
BIG: Unpack = tuple(struct.Struct(f).unpack_from for f in (">HH2sH", ">HHL", ">L"))
"""Group, element, VR and short length; group, element and length without VR; long length."""
FIRST_DATA_GROUP = 0x0004
"""Groups 0000 and 0002 belong to commands and file meta information (PS3.7 section 6.3.1, PS3.10 section 7.1). In a
data set they may have kept their own encoding."""
_LEADING_ELEMENTS = 100
"""Maximum number of elements of these groups to skip before the first element of the data set."""
_ENDLESS = 1 << 62
_LITTLE_ENDIAN_ITEM = b"\xfe\xff\x00\xe0"
_LEAST_OF_TEXT = 0x2020
"""The smallest length that two characters of text can be mistaken for; guards against reading text as an element."""


def own_encoding(data: bytes, pos: int, unpack: Unpack) -> tuple[bytes, int]:
    """VR (empty if there is none) and length of an element or item whose encoding may differ from that of the data set.

    For a VR with a 32-bit length, the length must be read after this. An unknown VR with such a length is returned as
    UN (PS3.5 section 7.1.2), one with a 16-bit length unchanged.
    """
    group, _, vr, length = unpack[0](data, pos)
    if group != ITEM_GROUP:
        if vr in VRS:
            return vr, length
        if _is_two_capitals(vr):
            return (vr, length) if length else (b"UN", length)
    return b"", unpack[1](data, pos)[2]


def value_at(data: bytes, pos: int, explicit: bool, unpack: Unpack) -> tuple[int, int] | None:
    """Where the value of an element begins, and its length; None if more bytes are needed to know it."""
    if not explicit:
        return pos + 8, unpack[1](data, pos)[2]
    _, _, vr, length = unpack[0](data, pos)
    if vr in SHORT_VRS:
        return pos + 8, length
    return (pos + 12, unpack[2](data, pos + 8)[0]) if pos + 12 <= len(data) else None


def encoding_in_un(data: bytes, pos: int, unpack: Unpack) -> tuple[None, Unpack]:
    """Encoding of items in UN: Implicit VR Little Endian (PS3.5 section 6.2.2, CP-246), or that of the data set."""
    return None, LITTLE if data.startswith(_LITTLE_ENDIAN_ITEM, pos) else unpack


def behind_sequence_delimiter(data: bytes, pos: int, until: int, unpack: Unpack) -> int | None:
    """The position after the next Sequence Delimitation Item between two positions; None if there is none."""
    delimiter = struct.pack("<HHL" if unpack is LITTLE else ">HHL", ITEM_GROUP, SEQUENCE_DELIMITER & 0xFFFF, 0)
    found = data.find(delimiter, pos, until)
    return found + len(delimiter) if found >= 0 else None


def data_set_start(data: bytes, pos: int, unpack: Unpack) -> int:
    """Position of the first element that belongs to the data set, from ``pos`` on: after command and meta elements.

    It may be after the end of ``data``; then more bytes are needed, but not those before it.
    """
    for _ in range(_LEADING_ELEMENTS):
        if pos + 8 > len(data):
            break
        group, _, vr, length = unpack[0](data, pos)
        if group >= FIRST_DATA_GROUP:
            break
        vr, length = own_encoding(data, pos, unpack)
        if vr in LONG_VRS:
            if pos + 12 > len(data):
                break
            (length,) = unpack[2](data, pos + 8)
        if length == UNDEFINED:
            break
        pos += (12 if vr in LONG_VRS else 8) + length
    return pos


def is_explicit(data: bytes, pos: int, declared: bool, is_final: bool, longest: int, unpack: Unpack) -> bool | None:
    """Whether a data set has explicit VRs: some writers declare the wrong transfer syntax.

    Parameters
    ----------
    pos
        Position of its first element, see :func:`data_set_start`.
    is_final, longest
        As for :func:`measure`.

    Returns
    -------
    bool | None
        None if more bytes are needed.
    """
    if pos + 8 > len(data):
        return declared if is_final else None
    group, _, vr, _ = unpack[0](data, pos)
    if group < FIRST_DATA_GROUP:
        if is_final or pos + 12 <= len(data):
            return declared
        return None
    if vr in VRS or not declared:
        return vr in VRS
    if _is_two_capitals(vr):
        return True
    # one blank VR does not mean that the data set is implicit
    measured = measure(data, pos, _ENDLESS, is_final, longest, unpack)
    if measured is None:
        return None
    following = sum(measured)
    if following + 6 > len(data) and not is_final and following < UNDEFINED:
        return False if measured[1] > longest else None  # a 32-bit length: the bytes in place of the VR are part of it
    return data[following + 4 : following + 6] in VRS


def measure(
    data: bytes, start: int, limit: int, is_final: bool, longest: int, unpack: Unpack
) -> tuple[int, int] | None:
    """Position and length of the value of an element with unknown VR.

    PS3.5 section 7.1.2 gives future VRs a 32-bit length. Files also have blank VRs with 16-bit lengths, and single
    Implicit VR elements among explicit ones. The shortest interpretation that is followed by another element is used.

    Parameters
    ----------
    limit
        End of the item or data set.
    is_final
        Whether the data set ends at the end of ``data``.
    longest
        Maximum length of a value for which this is tried.

    Returns
    -------
    tuple[int, int] | None
        None if more bytes are needed.
    """
    with_vr, without_vr, long = unpack
    end = min(limit, len(data))
    group, element, vr, short = with_vr(data, start)
    implicit = without_vr(data, start)[2]
    if not short and 0 < implicit < _LEAST_OF_TEXT:
        return start + 8, implicit  # the bytes in place of a VR are not text
    readings = [(start + 8, short), (start + 8, implicit)]
    if not short and start + 12 <= limit:
        if start + 12 <= end:
            readings.append((start + 12, long(data, start + 8)[0]))
        elif not is_final:
            return None
    for pos, length in sorted(readings, key=sum):
        stop = pos if length == UNDEFINED else pos + length
        if stop == limit:
            return pos, length
        if stop - pos > longest or stop + 8 > limit:
            continue
        if is_final and stop == len(data):
            return pos, length
        if stop + 8 <= end:
            if _follows(with_vr(data, stop), group << 16 | element, vr, length == UNDEFINED):
                return pos, length
        elif not is_final:
            return None
    return readings[0] if _is_two_capitals(vr) else readings[1]


def _follows(head: tuple[int, int, bytes, int], tag: int, vr: bytes, is_sequence: bool) -> bool:
    """Whether ``head`` may belong to the next element: tags ascend (PS3.5 section 7.1)."""
    group, element, next_vr, short = head
    following = group << 16 | element
    if is_sequence:
        return following in (ITEM, SEQUENCE_DELIMITER)
    if group == ITEM_GROUP:
        return following != ITEM
    is_short = (next_vr in SHORT_VRS or next_vr == vr) and short < _LEAST_OF_TEXT
    return following > tag and (is_short or (next_vr in LONG_VRS and not short))


def _is_two_capitals(vr: bytes) -> bool:
    """Whether it may be an unknown VR; a range comparison of the bytes would accept b"B\\0", which is a length."""
    return vr.isalpha() and vr.isupper()
