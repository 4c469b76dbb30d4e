"""Moves attributes of functional groups and similar sequences to the top level of the data set.

A CT Image has its acquisition parameters at the top level, an Enhanced CT Image in functional groups (PS3.3 C.7.6.16).
After this step each attribute has the same place in all IODs.
"""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.dicom.attributes import HELD, LEVELS
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS
from dicom2fhir.dicom.wanted import wanted
from dicom2fhir.model import Raw

_HOLDERS = tuple(HOLDERS.values())
_IS_HOLDER = frozenset(_HOLDERS)
_HOLDERS_ONLY = tuple(
    (keyword, tag)
    for keyword, tag in HOLDERS.items()
    if not any(tag == attribute.tag for attributes in LEVELS.values() for attribute in attributes)
)
_GROUPS = frozenset(FUNCTIONAL_GROUPS.values())
_HELD = frozenset(wanted(HELD))


def has_holders(raw: Raw) -> bool:
    """Whether there is anything to move; most single-frame data sets have nothing."""
    return not raw.keys().isdisjoint(_IS_HOLDER)


def flattened(raw: Raw) -> Raw:
    """The values of a data set, with those of its functional groups at the top level.

    The top level takes precedence over the shared groups, and these over the groups of the first frame.
    """
    held: Raw = {}
    for holder in _HOLDERS:
        if holder in raw:
            for tag, value in _values(raw[holder]):
                held.setdefault(tag, value)
    return {**held, **{tag: value for tag, value in raw.items() if not _is_empty(value)}} if held else raw


def unreadable(raw: Raw) -> Iterator[str]:
    """Keywords of damaged sequences among these, except those that are attributes: the decoder notes them."""
    for keyword, tag in _HOLDERS_ONLY:
        items = raw.get(tag)
        if not items:
            continue
        if isinstance(items, bytes):
            yield keyword
        else:
            groups = FUNCTIONAL_GROUPS.items()
            yield from (name for item in items for name, group in groups if isinstance(item.get(group), bytes))


def _values(items: bytes | list[Raw]) -> Iterator[tuple[int, bytes | list[Raw]]]:
    """The values of the items, then those of the groups in them."""
    for item in () if isinstance(items, bytes) else items:
        yield from ((tag, value) for tag, value in item.items() if tag in _HELD and not _is_empty(value))
        for tag, value in item.items():
            if tag in _GROUPS:
                yield from _values(value)


def _is_empty(value: bytes | list[Raw]) -> bool:
    return not value or (isinstance(value, bytes) and not value.strip(b" "))
