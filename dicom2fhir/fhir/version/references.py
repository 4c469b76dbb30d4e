"""The references within a resource."""

from __future__ import annotations

from collections.abc import Iterator


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
