"""Converts values with a wrong VR to the form of the VR of their attribute (PS3.5 table 6.2-1)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from dicom2fhir.dicom.substitutes import NO_VALUE
from dicom2fhir.model import Raw

_NUMBERS: Mapping[bytes, str] = {
    b"US": "H",
    b"SS": "h",
    b"UL": "I",
    b"SL": "i",
    b"UV": "Q",
    b"SV": "q",
    b"FL": "f",
    b"FD": "d",
}
"""VRs of binary numbers -> format character of :mod:`struct`."""
_AS_THEY_STAND = frozenset({b"", b"UN", b"OB", b"OW"})
"""VRs of values whose original VR was lost."""


def recoded(value: bytes, vr: bytes, expected: bytes, big: bool) -> bytes | list[Raw]:
    """Convert numbers to text, text to numbers, and numbers to another size.

    Returns
    -------
    bytes | list[Raw]
        :data:`~dicom2fhir.dicom.substitutes.NO_VALUE` if the value is invalid for the expected VR.
    """
    own, other = _NUMBERS.get(vr), _NUMBERS.get(expected)
    if own == other or vr in _AS_THEY_STAND or not value:
        return value
    order = ">" if big else "<"
    try:
        numbers: Sequence[float]
        if own:
            numbers = struct.unpack(f"{order}{len(value) // struct.calcsize(own)}{own}", value)
        else:
            numbers = [_number(text) for text in value.strip(b"\0 ").split(b"\\")]
        if not other:
            return "\\".join(map(str, numbers)).encode()
        return struct.pack(f"{order}{len(numbers)}{other}", *(n if other in "fd" else _whole(n) for n in numbers))
    except (struct.error, ValueError, OverflowError):
        return NO_VALUE


def _number(text: bytes) -> float:
    """A number; integers stay integers, so that they are not rounded."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _whole(number: float) -> int:
    """The number as an integer; ValueError if it is not one."""
    if number != int(number):
        raise ValueError
    return int(number)
