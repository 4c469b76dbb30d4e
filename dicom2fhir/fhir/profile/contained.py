"""References within a resource, and the contained resources that they keep."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.model import Resource


def references(value: object) -> Iterator[str]:
    """Every literal reference within a resource."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def referred_to(study: Resource, contained: dict[str, Resource]) -> list[Resource]:
    """The contained resources that something still refers to (dom-3), those that they refer to among them."""
    found: set[str] = set()
    waiting = set(references(study))
    while waiting:
        reference = waiting.pop()
        if reference.startswith("#") and reference[1:] in contained and reference not in found:
            found.add(reference)
            waiting |= set(references(contained[reference[1:]]))
    return [resource for name, resource in contained.items() if f"#{name}" in found]
