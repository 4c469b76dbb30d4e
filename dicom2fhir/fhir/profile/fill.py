"""Templates and extensions of a profile, filled in from a study.

What a group (an extension of several parts, a resource, an object marked ``when_known``) asks for is written when the
data set says anything of it; what it lacks then is settled by :data:`dicom2fhir.fhir.profile.model.Missing`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.profile.codes import known, known_concept, known_identifier, with_text
from dicom2fhir.fhir.profile.model import AddedResource, Missing, Profile, ProfileCode
from dicom2fhir.fhir.profile.template import (
    ExtensionPart,
    FhirType,
    FirstValue,
    ReferenceTo,
    TemplateObject,
    ValueSource,
)
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.model import Resource


class Absent(Exception):
    """A required value is missing, and what it belongs to is to be left out."""


class OnlyExtensions(dict[str, Any]):
    """A placeholder of a primitive datatype that is no value, but says why there is none."""


def put(target: Resource, name: str, value: Any) -> None:
    """Set an element, or remove it; what is said of a primitive without value stands beside it (``_birthDate``)."""
    first = value[0] if isinstance(value, list) and value else value
    beside = f"_{name}"
    key, other = (beside, name) if isinstance(first, OnlyExtensions) else (name, beside)
    target.pop(other, None)
    if value is None or value == []:
        target.pop(key, None)
    else:
        target[key] = value


class Filler:
    """Fills in what a profile asks of one resource.

    Parameters
    ----------
    missing
        What to do when a required value is missing.
    unmet
        Takes the paths of what is required and missing.
    """

    def __init__(self, profile: Profile, context: MappingContext, missing: Missing, unmet: dict[str, None]) -> None:
        self.profile = profile
        self.context = context
        self.missing = missing
        self.unmet = unmet

    def extension(self, part: ExtensionPart, node: ProfiledNode, where: str, url: str) -> list[Resource]:
        """An extension as often as it has values; none where it does not apply or nothing is known."""
        if not self._applies(part, node):
            return []
        required = part.required or node.modality in part.required_for
        if part.part:
            if not required and not node.knows(part):
                return []
            try:
                inner = [
                    found
                    for one_part in part.part
                    for found in self.extension(one_part, node, f"{where}.{one_part.url}", one_part.url)
                ]
            except Absent as absent:
                if required:
                    raise
                self.context.note("warning", where, f"left out: {absent} is missing")
                return []
            return [{"url": url, "extension": inner}] if inner else []
        if part.resource:
            referred = self.reference(ReferenceTo(resource=part.resource, required=required), node, where)
            return [{"url": url, "valueReference": referred}] if referred else []
        values = self._values(part, node, where)
        if not values and required:
            stand_in = self.instead(where, part.type)
            values = [] if stand_in is None else [stand_in]
        return [_extension(url, part.type, value) for value in (values if part.many else values[:1])]

    def _applies(self, part: ExtensionPart, node: ProfiledNode) -> bool:
        is_of_version = not part.versions or self.context.dialect.name in part.versions
        return is_of_version and (not part.modalities or node.modality in part.modalities)

    def _values(self, wanted: ValueSource, node: ProfiledNode, where: str) -> Sequence[object]:
        """What a profile asks for, its codes as the profile writes them."""
        if isinstance(wanted, ExtensionPart) and wanted.value is not None:
            fixed = self.fill(wanted.value, node, where)
            return [] if fixed is None else [fixed]
        found = node.value(wanted)
        if not wanted.codes:
            return found
        return list(self.translated(wanted.codes, wanted.type, found, node.modality, where))

    # Templates -------------------------------------------------------------------------------------------------------

    def fill(self, template: object, node: ProfiledNode, where: str) -> Any:
        """A template with its values filled in; None when nothing is left of it."""
        match template:
            case ValueSource():
                found = self._values(template, node, where)
                required = template.required or node.modality in template.required_for
                return found[0] if found else self.instead(where, template.type) if required else None
            case FirstValue():
                found = next((values for one in template.first if (values := self._values(one, node, where))), [])
                return found[0] if found else self.instead(where, template.type) if template.required else None
            case ReferenceTo():
                return self.reference(template, node, where)
            case TemplateObject():
                return self._object(template, node, where)
            case list():
                return [one for inner in template for one in self._items(inner, node, where)] or None
        return template

    def _items(self, template: object, node: ProfiledNode, where: str) -> Sequence[object]:
        """What one item of a list becomes: none, one, or one for each value."""
        if isinstance(template, ValueSource) and template.many and (found := self._values(template, node, where)):
            return found
        filled = self.fill(template, node, where)
        return [] if filled is None else [filled]

    def _object(self, template: TemplateObject, node: ProfiledNode, where: str) -> Resource | None:
        """An object; None when it has places for values and none has one."""
        if template.when_known and not node.knows(template):
            return None
        try:
            filled = {key: self.fill(inner, node, f"{where}.{key}") for key, inner in template.items()}
        except Absent:
            if template.when_known:
                return None
            raise
        left: Resource = {}
        for key, value in filled.items():
            put(left, key, value)
        emptied = any(filled[key] is None for key in filled) and not any(
            _has_places(inner) and filled[key] is not None for key, inner in template.items()
        )
        return None if emptied or not left else left

    def reference(self, wanted: ReferenceTo, node: ProfiledNode, where: str) -> Resource | None:
        """Contain the first resource of which anything is known, and return the reference to it."""
        known = [name for name in wanted.resource if node.knows_of(name)]
        if not known and not wanted.required:
            return None
        name = (known or list(wanted.resource))[0]
        made = self.profile.resource[name]
        try:
            content = self.fill(made.value, node, f"{where}({made.type})")
        except Absent as absent:
            if wanted.required:
                raise
            self.context.note("warning", where, f"left out: {absent} is missing")
            return None
        return self.context.contain(self._resource(made, content)) if content else None

    def _resource(self, made: AddedResource, content: Resource) -> Resource:
        claimed = self.profile.canonical(made.profile, self.context.dialect.name)
        claim = {"meta": {"profile": [claimed]}} if claimed else {}
        return {"resourceType": made.type, **claim, **content}

    def translated(self, name: str, type_: FhirType, value: Any, modality: str, where: str) -> Any:
        """The codes as the profile writes them, each once."""
        if isinstance(value, list):
            translated = (self.translated(name, type_, inner, modality, where) for inner in value)
            found = [code for code in translated if code is not None]
            return [code for position, code in enumerate(found) if code not in found[:position]]
        table = self.profile.codes[name]
        if table.otherwise == "text":
            worded = with_text(table, value, modality)
            if len(worded.get("coding", [])) < len(value.get("coding", [])):
                said = f"has a code that profile {self.profile.name} does not allow; it is written as text"
                self.context.note("info", where, said)
            return worded
        if code := _KNOWN.get(type_, known)(table, value, modality):
            return code
        if table.otherwise == "keep":
            return value
        self.context.note("warning", where, f"has a code that profile {self.profile.name} does not allow")
        match table.otherwise:
            case ProfileCode():
                other = table.otherwise.as_json()
                return {"coding": [other]} if type_ == "CodeableConcept" else other
            case "omit":
                return None
        return self.instead(where, type_, table.otherwise)

    def instead(self, where: str, type_: str, missing: Missing | None = None) -> Any:
        """What stands for a required value that is missing."""
        missing = missing or self.missing
        if missing == "refuse":
            self.unmet.setdefault(where)
            return None
        sentinel = self.profile.sentinels.get(type_)
        if missing == "omit" or sentinel is None:
            raise Absent(where)
        self.context.note("warning", where, f"is missing; the placeholder of profile {self.profile.name} is written")
        if isinstance(sentinel, dict) and type_[0].islower():
            return OnlyExtensions(sentinel)
        return copy.deepcopy(sentinel)


_KNOWN = {"CodeableConcept": known_concept, "Identifier": known_identifier}
"""Datatype -> what finds its code in a table, other than :func:`~dicom2fhir.fhir.profile.codes.known`."""


def _extension(url: str, type_: str, value: object) -> Resource:
    extension: Resource = {"url": url}
    put(extension, f"value{type_[0].upper()}{type_[1:]}", value)
    return extension


def _has_places(template: object) -> bool:
    match template:
        case ValueSource() | FirstValue() | ReferenceTo():
            return True
        case dict():
            return any(map(_has_places, template.values()))
        case list():
            return any(map(_has_places, template))
    return False
