"""The differences between two states of a resource, one for each element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from dicom2fhir.model import Resource

_ABSENT: Any = None
_PLACEHOLDER = "urn:uuid:"


@dataclass(frozen=True, slots=True)
class Change:
    """An element that differs.

    Attributes
    ----------
    resource
        The type of the resource.
    path
        The element, such as ``series[1.2.3].description``; empty for a whole resource. Items that each have a ``uid``
        are named by it, others by their position.
    before, now
        The values; None if there is none.
    """

    resource: str
    path: str
    before: Any
    now: Any


Show = Callable[[Any], Any]
"""A resource as it is shown: of the same structure, but what is hidden is replaced as a whole."""


def changes(before: Resource, now: Resource, show: Show) -> Iterator[Change]:
    """The elements that differ.

    The real values are compared, and what is shown of them is returned: so a change of a hidden value is seen, but not
    the value.

    Parameters
    ----------
    before
        Empty if there was none.
    """
    if not before:
        yield Change(now["resourceType"], "", None, show(now))
        return
    for path, shown_before, shown_now in _differences("", (before, show(before)), (now, show(now))):
        yield Change(now["resourceType"], path, shown_before, shown_now)


_Shown = tuple[Any, Any]
"""A value, and what is shown of it."""


def _differences(path: str, before: _Shown, now: _Shown) -> Iterator[tuple[str, Any, Any]]:
    (one, shown_one), (other, shown_other) = before, now
    if one == other or _is_placeholder_of(one, other):
        return
    kinds = {type(each) for each in (one, shown_one, other, shown_other)}
    if kinds == {dict}:
        for key in dict.fromkeys((*one, *other)):
            yield from _differences(f"{path}.{key}".lstrip("."), _child(before, key), _child(now, key))
    elif kinds == {list}:
        for name, item, other_item in _items(before, now):
            yield from _differences(f"{path}[{name}]", item, other_item)
    else:
        yield path, shown_one, shown_other


def _is_placeholder_of(before: Any, now: Any) -> bool:
    """Whether a reference is to a resource whose id on the server was not kept."""
    return isinstance(now, str) and isinstance(before, str) and now.startswith(_PLACEHOLDER) and before.count("/") == 1


def _child(value: _Shown, key: str) -> _Shown:
    whole, shown = value
    return whole.get(key, _ABSENT), shown.get(key, _ABSENT)


def _items(before: _Shown, now: _Shown) -> Iterator[tuple[str, _Shown, _Shown]]:
    """Items of two lists that belong together."""
    one, other = list(zip(*before, strict=True)), list(zip(*now, strict=True))
    if (named := _by_uid(one)) is not None and (named_now := _by_uid(other)) is not None:
        for uid in dict.fromkeys((*named, *named_now)):
            yield uid, named.get(uid, (_ABSENT, _ABSENT)), named_now.get(uid, (_ABSENT, _ABSENT))
    elif len(one) == len(other):
        yield from ((str(number), *pair) for number, pair in enumerate(zip(one, other, strict=True)))
    else:
        yield from ((str(number), item, (_ABSENT, _ABSENT)) for number, item in _without(one, other))
        yield from ((str(number), (_ABSENT, _ABSENT), item) for number, item in _without(other, one))


def _by_uid(items: list[_Shown]) -> dict[str, _Shown] | None:
    """The items by their ``uid``; None unless each has another one."""
    named = {str(item["uid"]): (item, shown) for item, shown in items if isinstance(item, dict) and "uid" in item}
    return named if len(named) == len(items) else None


def _without(items: list[_Shown], others: list[_Shown]) -> Iterator[tuple[int, _Shown]]:
    """The items that are not among the others, with their positions."""
    left = Counter(_canonical(value) for value, _ in others)
    for number, item in enumerate(items):
        key = _canonical(item[0])
        if left[key]:
            left[key] -= 1
        else:
            yield number, item


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
