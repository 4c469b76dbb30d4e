"""Attributes that an IOD has within sequences, brought to where other IODs have them.

What a CT Image says of itself in the data set, an Enhanced CT Image says in functional groups (PS3.3 C.7.6.16).
Decoding, and all that comes after it, know one place for each attribute.
"""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.dicom.attributes import FUNCTIONAL_GROUPS, HELD, HOLDERS, wanted
from dicom2fhir.model import Raw

_HOLDERS = tuple(HOLDERS.values())
_GROUPS = frozenset(FUNCTIONAL_GROUPS.values())
_HELD = frozenset(wanted(HELD))


def flattened(raw: Raw) -> Raw:
    """The values of a data set with those of its functional groups among them.

    A value of the data set itself comes before one of a group, and one of all frames before one of the first frame.
    """
    held: Raw = {}
    for holder in _HOLDERS:
        if holder in raw:
            for tag, value in _values(raw[holder]):
                held.setdefault(tag, value)
    return {**held, **{tag: value for tag, value in raw.items() if not _is_empty(value)}} if held else raw


def _values(items: bytes | list[Raw]) -> Iterator[tuple[int, bytes | list[Raw]]]:
    """What the items hold themselves, and then in their groups."""
    for item in () if isinstance(items, bytes) else items:
        yield from ((tag, value) for tag, value in item.items() if tag in _HELD and not _is_empty(value))
        for tag, value in item.items():
            if tag in _GROUPS:
                yield from _values(value)


def _is_empty(value: bytes | list[Raw]) -> bool:
    return not value or (isinstance(value, bytes) and not value.strip(b" "))
