"""The elements of each type, their order and their types, in each FHIR version (``data/element_order.json``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

import orjson


class ElementDefinition(NamedTuple):
    """One element; ``is_attribute``: it is an attribute in XML."""

    position: int
    type: str
    is_attribute: bool

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


def _elements(listed: Mapping[str, str]) -> dict[str, ElementDefinition]:
    """The elements of a type, in the order of the table; ``value[x]`` becomes ``valueString`` and so on."""
    elements: dict[str, ElementDefinition] = {}
    for position, (name, types) in enumerate(listed.items()):
        for type_ in types.removeprefix("@").split("|"):
            full = name.replace("[x]", type_[0].upper() + type_[1:])
            elements[full] = ElementDefinition(position, type_, types.startswith("@"))
    return elements
