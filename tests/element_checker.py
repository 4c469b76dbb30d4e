"""A checker of FHIR JSON built from element lists; for 3.2.0 and R6, which have no official validator, and for tests
that check many thousand resources.

It finds unknown and missing elements, lists that should be none and the other way round, empty values, values that are
none of their datatype, references to the wrong type of resource and references into the air. It knows no value sets
and, of the invariants, those of DomainResource and Extension. Where the lists are from says
``tests/data/make_elements.py``.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_DATA = Path(__file__).parent / "data"
_ELEMENTS: dict[str, dict[str, str]] = json.loads((_DATA / "elements.json").read_text())
_REFERENCES: dict[str, dict[str, str]] = json.loads((_DATA / "references.json").read_text())
_PRIMITIVES: dict[str, dict[str, str]] = json.loads((_DATA / "primitives.json").read_text())

VERSIONS = tuple(version for version in _ELEMENTS if version != "_source")

_INTEGERS = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
_EVERYWHERE = {"id": "0..1 string", "extension": "0..* Extension"}
"""Elements of every datatype and backbone element, which the lists leave out."""
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Of XML 1.0, and so of no FHIR string."""
_LONGEST = 2**20


class _Place(NamedTuple):
    """Where checking is under way: the FHIR version, and the types of the contained resources by id."""

    version: str
    contained: dict[str, str]


class _Element(NamedTuple):
    name: str
    required: bool
    many: bool
    types: tuple[str, ...]


@cache
def _children(version: str, parent: str) -> dict[str, _Element]:
    """Name -> element of a resource, a datatype or a backbone element."""
    known = _EVERYWHERE if "." in parent or f"{parent}.extension" not in _ELEMENTS[version] else {}
    found = {
        path.rpartition(".")[2]: value
        for path, value in _ELEMENTS[version].items()
        if path.rpartition(".")[0] == parent
    }
    children = {}
    for name, value in {**known, **found}.items():
        cardinality, types = value.split(" ")
        children[name] = _Element(name, cardinality[0] == "1", cardinality[-1] == "*", tuple(types.split("|")))
    return children


def check(resource: dict[str, Any], version: str) -> list[str]:
    """What is wrong with a resource, and with those that it contains; each finding begins with the element's path."""
    contained = {
        one["id"]: one["resourceType"]
        for one in resource.get("contained", [])
        if isinstance(one, dict) and one.keys() >= {"id", "resourceType"}
    }
    path = str(resource.get("resourceType"))
    return [*_resource(resource, path, _Place(version, contained)), *_references_within(resource, contained)]


def _resource(resource: dict[str, Any], path: str, place: _Place) -> Iterator[str]:
    type_ = resource.get("resourceType")
    if f"{type_}.contained" not in _ELEMENTS[place.version]:
        yield f"{path}: {type_} is no resource of {place.version} that the lists know"
        return
    yield from _node({k: v for k, v in resource.items() if k != "resourceType"}, path, str(type_), place)


def _node(node: Any, path: str, parent: str, place: _Place) -> Iterator[str]:
    """A resource, datatype or backbone element whose children the lists have under ``parent``."""
    if not isinstance(node, dict):
        yield f"{path}: is no object"
        return
    children = _children(place.version, parent)
    seen = set()
    for key, value in node.items():
        here = f"{path}.{key}"
        child, types = _find(children, key.removeprefix("_"))
        if child is None:
            yield f"{here}: unknown element"
            continue
        if child.name in seen and key[0] != "_" and child.name.endswith("[x]"):
            yield f"{here}: two values of one choice"
        seen.add(child.name)
        if isinstance(value, list) is not child.many:
            yield f"{here}: is {'a list' if isinstance(value, list) else 'no list'}"
        values = value if isinstance(value, list) else [value]
        if not values:
            yield f"{here}: is empty"
        for one in values:
            if key[0] == "_":
                if one is not None:
                    yield from _node(one, here, "Element", place)
            else:
                yield from _value(one, here, f"{parent}.{child.name}", types, place)
    for child in children.values():
        if child.required and child.name not in seen:
            yield f"{path}.{child.name}: is missing"
    if not node:
        yield f"{path}: is empty"


def _find(children: dict[str, _Element], key: str) -> tuple[_Element | None, tuple[str, ...]]:
    """The element that a JSON name stands for, and its type: ``valueCode`` is ``value[x]`` of type code."""
    if key in children and not key.endswith("[x]"):
        return children[key], children[key].types
    for child in children.values():
        if child.name.endswith("[x]") and key.startswith(stem := child.name.removesuffix("[x]")):
            chosen = [type_ for type_ in child.types if stem + type_[0].upper() + type_[1:] == key]
            if chosen or child.types == ("*",):
                return child, tuple(chosen)
    return None, ()


def _value(value: Any, path: str, defined_at: str, types: tuple[str, ...], place: _Place) -> Iterator[str]:
    (type_,) = types or ("",)
    if type_ in ("BackboneElement", "Element"):
        yield from _node(value, path, defined_at, place)
    elif type_ == "Resource":
        if not isinstance(value, dict):
            yield f"{path}: is no resource"
        else:
            yield from _resource(value, path, place)
    elif type_[:1].isupper():
        if not _children(place.version, type_).keys() - _EVERYWHERE:
            yield f"{path}: the lists have no datatype {type_}"
            return
        yield from _node(value, path, type_, place)
        targets = _REFERENCES[place.version].get(defined_at)
        if type_ == "Reference" and targets and isinstance(value, dict):
            yield from _target(value, path, targets.split("|"), place)
        if type_ == "Extension" and isinstance(value, dict):
            has_value = any(key.startswith("value") for key in value)
            if has_value is ("extension" in value):
                yield f"{path}: ext-1: either a value or extensions"
    elif not _fits(value, type_, place):
        yield f"{path}: is no {type_ or 'known datatype'}"


def _fits(value: Any, type_: str, place: _Place) -> bool:
    """Whether a JSON value is one of a primitive datatype."""
    if type_ == "boolean":
        return isinstance(value, bool)
    if type_ in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool) and _INTEGERS[type_] <= value < 2**31
    if type_ == "decimal":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if type_ in ("xhtml", "base64Binary"):
        return isinstance(value, str) and bool(value)
    pattern = _PRIMITIVES[place.version].get(type_)
    if pattern is None or not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        return False
    if _NO_CHARACTERS.search(value) or re.fullmatch(pattern, value, re.ASCII) is None:
        return False
    if type_ == "dateTime" and "T" in value and re.search(r"(Z|[+-]\d\d:\d\d)$", value) is None:
        return False  # the expression of R5 lets it pass; its text does not
    return type_ not in ("date", "dateTime", "instant") or _in_calendar(value)


def _in_calendar(value: str) -> bool:
    day = re.match(r"(\d{4})-(\d\d)-(\d\d)", value)
    return day is None or (
        int(day[1]) > 0 and int(day[3]) in range(1, calendar.monthrange(int(day[1]), int(day[2]))[1] + 1)
    )


def _target(reference: dict[str, Any], path: str, targets: list[str], place: _Place) -> Iterator[str]:
    """A reference whose type can be told must point at one of ``targets``."""
    if "Resource" in targets:
        return
    literal = str(reference.get("reference", ""))
    named = literal.split("/")[-2] if re.search(r"[A-Z]\w+/[^/]+$", literal) else ""
    told = reference.get("type") or place.contained.get(literal.removeprefix("#"), named)
    if told and told not in targets:
        yield f"{path}: a reference to {told}; allowed are {', '.join(targets)}"
    if not reference.keys() & {"reference", "identifier", "display", "extension"}:
        yield f"{path}: a reference to nothing"


def _references_within(resource: dict[str, Any], contained: dict[str, str]) -> Iterator[str]:
    """dom-2 and dom-3, and local references that lead nowhere or to the wrong type."""
    used = set()
    for path, reference in _all_references(resource, str(resource.get("resourceType", ""))):
        literal = reference.get("reference")
        if isinstance(literal, str) and literal.startswith("#"):
            used.add(literal[1:])
            if literal[1:] not in contained:
                yield f"{path}: leads nowhere"
            elif reference.get("type", contained[literal[1:]]) != contained[literal[1:]]:
                yield f"{path}: leads to another type"
    for name in contained.keys() - used:
        yield f"contained.{name}: dom-3: nothing refers to it"
    for one in resource.get("contained", []):
        if isinstance(one, dict) and "contained" in one:
            yield "contained: dom-2: a contained resource contains another"


def _all_references(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if "reference" in value:
            yield path, value
        for key, inner in value.items():
            yield from _all_references(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _all_references(inner, path)
