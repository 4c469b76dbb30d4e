"""Paths within a resource: a path through a list leads to each of its items."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.model import Json, Resource


def holders(root: Resource, path: str) -> Iterator[tuple[Resource, str]]:
    """Each object that may have the last element of a path, and the name of that element."""
    way, _, name = path.rpartition(".")
    for holder in values_at(root, way) if way else [root]:
        if isinstance(holder, dict):
            yield holder, name


def values_at(root: Resource, path: str) -> list[Json]:
    """The values of the element at a path."""
    found: list[Json] = [root]
    for name in path.split("."):
        inner = [value[name] for value in found if isinstance(value, dict) and name in value]
        found = [one for value in inner for one in (value if isinstance(value, list) else [value])]
    return found
