"""The differences between two states of a resource, one for each element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from dicom2fhir.model import Json, Resource

_ABSENT: Json = None
_PLACEHOLDER = "urn:uuid:"


@dataclass(frozen=True, slots=True)
class ElementChange:
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
    before: Json
    now: Json


Show = Callable[[Resource], Resource]
"""A resource as it is shown: of the same structure, but what is hidden is replaced as a whole."""


def changes(before: Resource, now: Resource, show: Show) -> Iterator[ElementChange]:
    """The elements that differ.

    The real values are compared, and what is shown of them is returned: so a change of a hidden value is seen, but not
    the value.

    Parameters
    ----------
    before
        Empty if there was none.
    """
    if not before:
        yield ElementChange(now["resourceType"], "", None, show(now))
        return
    for path, shown_before, shown_now in _differences("", (before, show(before)), (now, show(now))):
        yield ElementChange(now["resourceType"], path, shown_before, shown_now)


_Shown = tuple[Json, Json]
"""A value, and what is shown of it."""


def _differences(path: str, before: _Shown, now: _Shown) -> Iterator[tuple[str, Json, Json]]:
    (one, shown_one), (other, shown_other) = before, now
    if one == other or _is_placeholder_of(one, other):
        return
    match one, shown_one, other, shown_other:
        case dict(), dict(), dict(), dict():
            for key in dict.fromkeys((*one, *other)):
                pair = (one.get(key, _ABSENT), shown_one.get(key, _ABSENT))
                other_pair = (other.get(key, _ABSENT), shown_other.get(key, _ABSENT))
                yield from _differences(f"{path}.{key}".lstrip("."), pair, other_pair)
        case list(), list(), list(), list():
            pairs, other_pairs = list(zip(one, shown_one, strict=True)), list(zip(other, shown_other, strict=True))
            for name, item, other_item in _items(pairs, other_pairs):
                yield from _differences(f"{path}[{name}]", item, other_item)
        case _:
            yield path, shown_one, shown_other


def _is_placeholder_of(before: Json, now: Json) -> bool:
    """Whether a reference is to a resource whose id on the server was not kept."""
    return isinstance(now, str) and isinstance(before, str) and now.startswith(_PLACEHOLDER) and before.count("/") == 1


def _items(one: list[_Shown], other: list[_Shown]) -> Iterator[tuple[str, _Shown, _Shown]]:
    """Items of two lists that belong together."""
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
    named: dict[str, _Shown] = {
        str(item["uid"]): (item, shown) for item, shown in items if isinstance(item, dict) and "uid" in item
    }
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


def _canonical(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
