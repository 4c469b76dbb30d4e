"""Resources of R5 in R4 and R4B: a Basic with an extension for each element.

As HL7's package of cross-version extensions has it (hl7.fhir.uv.xver-r5.r4 0.1.0): elements that Basic has, too, keep
their place; a modifier element becomes a modifier extension; the URL of an extension is made from the path of its
element, and that of an extension within it is only the name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom2fhir.fhir.version.elements import ElementDefinition, Types, types_of
from dicom2fhir.model import Resource

_DEFINITIONS = "http://hl7.org/fhir/5.0/StructureDefinition"
_TYPES = "http://hl7.org/fhir/fhir-types"
_KEPT = ("resourceType", "id", "meta", "contained", "identifier", "subject")
"""Elements that Basic has with the same meaning."""
_MODIFIERS = ("status",)


def extension_url(path: str) -> str:
    """The URL of the extension for an element of R5."""
    return f"{_DEFINITIONS}/extension-{path}"


def as_basic(resource: Resource) -> Resource:
    """A resource of R5, in the datatypes of R4, as a Basic that claims the cross-version profile."""
    type_ = resource["resourceType"]
    types = types_of("R5")
    extensions: dict[str, list[Resource]] = {"extension": [], "modifierExtension": []}
    for name, value in resource.items():
        if name not in _KEPT:
            place = "modifierExtension" if name in _MODIFIERS else "extension"
            url = extension_url(f"{type_}.{name}")
            extensions[place] += _extensions(url, types[type_][name], value, types)
    basic: Resource = {
        "resourceType": "Basic",
        "id": resource["id"],
        "meta": {"profile": [f"{_DEFINITIONS}/profile-{type_}"]},
    }
    if "contained" in resource:
        basic["contained"] = resource["contained"]
    basic |= {place: found for place, found in extensions.items() if found}
    if "identifier" in resource:
        basic["identifier"] = resource["identifier"]
    basic["code"] = {"coding": [{"system": _TYPES, "code": type_}]}
    if "subject" in resource:
        basic["subject"] = resource["subject"]
    return basic


def _extensions(url: str, definition: ElementDefinition, value: Any, types: Types) -> Iterator[Resource]:
    """The extensions for the values of one element."""
    for one in value if isinstance(value, list) else [value]:
        if definition.type in types and "." in definition.type:  # it has elements of its own
            inner = types[definition.type]
            parts = [part for name, item in one.items() for part in _extensions(name, inner[name], item, types)]
            yield {"url": url, "extension": parts}
        else:
            yield {"url": url, f"value{definition.type[0].upper()}{definition.type[1:]}": one}
