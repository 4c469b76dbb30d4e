"""A reader of FHIR XML that knows no schema: what stands where, the same for XML and for JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from dicom2fhir.fhir.version import xml

FHIR = "{http://hl7.org/fhir}"
_XHTML = "{http://www.w3.org/1999/xhtml}"
TABLE: dict[str, dict[str, dict[str, str]]] = json.loads(
    Path(xml.__file__).with_name("data").joinpath("element_order.json").read_text().replace('*"', '"')
)
"""FHIR version -> type -> its elements in the order of the schema, and their types; XML needs no mark of lists."""


def values_of_xml(root: ElementTree.Element) -> dict[str, str]:
    """Path -> value, e.g. ``Patient/name[0]/given[1]``."""
    return dict(_of_element(root, _tag(root)))


def _tag(element: ElementTree.Element) -> str:
    assert element.tag.startswith((FHIR, _XHTML)), element.tag
    return element.tag.partition("}")[2]


def _of_element(element: ElementTree.Element, path: str) -> Iterator[tuple[str, str]]:
    if element.tag == f"{_XHTML}div":
        yield path, "".join(element.itertext())
        return
    for name, value in element.attrib.items():
        yield (path if name == "value" else f"{path}/{name}[0]"), value
    seen: Counter[str] = Counter()
    for child in element:
        tag = _tag(child)
        yield from _of_element(child, f"{path}/{tag}[{seen[tag]}]" if tag[0].islower() else f"{path}/{tag}")
        seen[tag] += 1


def values_of_json(resource: dict[str, Any]) -> dict[str, str]:
    """The same of JSON."""
    return dict(_of_object(resource, ""))


def _of_object(content: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if "resourceType" in content:
        path = f"{path}/{content['resourceType']}".removeprefix("/")
    for key, values in content.items():
        name = key.removeprefix("_")
        if name == "resourceType":
            continue
        for number, value in enumerate(values if isinstance(values, list) else [values]):
            where = f"{path}/{name}[{number}]"
            if isinstance(value, dict):
                yield from _of_object(value, where)
            elif name == "div":
                yield where, "".join(ElementTree.fromstring(value).itertext())
            elif isinstance(value, str):
                yield where, value
            elif isinstance(value, float):
                yield where, format(Decimal(repr(value)), "f")
            elif value is not None:
                yield where, json.dumps(value)


def check_order(element: ElementTree.Element, type_: str, version: str) -> None:
    """The children stand in the order of the table, each as often as it likes but together."""
    positions = []
    for child in element:
        tag = child.tag.removeprefix(FHIR)
        position, kind = _place(version, type_, tag)
        positions.append(position)
        if kind == ["Resource"]:
            check_order(child[0], child[0].tag.removeprefix(FHIR), version)
        elif len(kind) == 1 and kind[0][0].isupper():
            check_order(child, kind[0], version)
    assert positions == sorted(positions), (type_, [child.tag for child in element])


@cache
def _place(version: str, type_: str, tag: str) -> tuple[int, list[str]]:
    """Where an element stands in a type of the table, and its types."""
    return next(
        (position, kind.split("|"))
        for position, (name, kind) in enumerate(TABLE[version][type_].items())
        if name == tag or (name.endswith("[x]") and tag.startswith(name[:-3]))
    )
