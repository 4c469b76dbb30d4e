"""Fewer cases for judges that take long: those that together have everything that the others have, too."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

from dicom2fhir.model import Resource

T = TypeVar("T")
Path = tuple[str, ...]


def covering(cases: Iterable[T], parts: Callable[[T], Iterable[Hashable]]) -> list[T]:
    """The cases, in their order, that have a part that none before them has."""
    seen: set[Hashable] = set()
    kept = []
    for case in cases:
        new = set(parts(case)) - seen
        if new:
            kept.append(case)
            seen |= new
    return kept


def neighbours(resource: Resource) -> Iterator[Hashable]:
    """Which elements follow one another, where, whether they repeat, and the JSON type of each value.

    What is written of a resource in XML depends on nothing else.
    """
    return _neighbours(resource, (resource["resourceType"],))


def _neighbours(value: Any, path: Path) -> Iterator[Hashable]:
    if isinstance(value, dict):
        yield from ((path, *pair) for pair in pairwise(("", *value, "")))
        for name, each in value.items():
            yield from _neighbours(each, (*path, name))
    elif isinstance(value, list):
        yield path, len(value) > 1
        for each in value:
            yield from _neighbours(each, path)
    else:
        yield path, type(value)


def codes(resource: Resource) -> Iterator[Hashable]:
    """The elements, within which extensions, and each code with its system."""
    return _codes(resource, (resource["resourceType"],))


def _codes(value: Any, path: Path) -> Iterator[Hashable]:
    if isinstance(value, dict):
        yield path, *(value[name] for name in ("system", "code") if isinstance(value.get(name), str))
        path = (*path, str(value.get("url", "")))
        for name, each in value.items():
            yield from _codes(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            yield from _codes(each, path)
    else:
        yield path
