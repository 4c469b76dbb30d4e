"""The elements of each type in each FHIR version (``data/element_order.json``): their order, types, which are lists."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

import orjson


class ElementDefinition(NamedTuple):
    """One element; ``is_attribute``: it is an attribute in XML; ``repeats``: it is a list."""

    position: int
    type: str
    is_attribute: bool
    repeats: bool

    @property
    def is_primitive(self) -> bool:
        """Whether it has a value and no elements of its own."""
        return self.type[0].islower()


Types = Mapping[str, Mapping[str, ElementDefinition]]
"""Resource, datatype or path of an element -> name of a child element, each name of ``value[x]`` -> definition."""


@cache
def types_of(version: str) -> Types:
    """The types of a FHIR version, by its name such as ``R4``."""
    table = orjson.loads(resources.files("dicom2fhir.fhir.version").joinpath("data/element_order.json").read_bytes())
    return {name: _elements(elements) for name, elements in table[version].items()}


def repeats(version: str, type_: str, path: str) -> bool:
    """Whether the element at a path of a type (``series.modality``) is a list; no if nothing is known of it."""
    element = None
    for name in path.split("."):
        element = types_of(version).get(type_, {}).get(name)
        if element is None:
            return False
        type_ = element.type
    return element is not None and element.repeats


def _elements(listed: Mapping[str, str]) -> dict[str, ElementDefinition]:
    """The elements of a type, in the order of the table; ``value[x]`` becomes ``valueString`` and so on."""
    elements: dict[str, ElementDefinition] = {}
    for position, (name, types) in enumerate(listed.items()):
        for type_ in types.strip("@*").split("|"):
            full = name.replace("[x]", type_[0].upper() + type_[1:])
            elements[full] = ElementDefinition(position, type_, types.startswith("@"), types.endswith("*"))
    return elements
