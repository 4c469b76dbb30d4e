"""One resource while a profile is applied to it: its elements, its extensions, and what it lacks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.profile.contained import referred_to
from dicom2fhir.fhir.profile.fill import Absent, Filler, put
from dicom2fhir.fhir.profile.lists import limited
from dicom2fhir.fhir.profile.model import ElementRule, Missing, Profile
from dicom2fhir.fhir.profile.paths import holders
from dicom2fhir.fhir.profile.template import ExtensionPart, ReferenceTo, ValueSource
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.fhir.version.elements import repeats
from dicom2fhir.model import Resource


class ResourceInProfile:
    """The ImagingStudy, or a resource that it refers to.

    Attributes
    ----------
    unmet
        Paths of what the profile requires and the resource does not have.
    """

    def __init__(self, profile: Profile, resource: Resource, context: MappingContext, missing: Missing) -> None:
        self.profile = profile
        self.context = context
        self.root: Resource = copy.deepcopy(resource)
        self.type: str = resource["resourceType"]
        self.prefix = "" if self.type == "ImagingStudy" else f"{self.type}."
        self.missing = missing
        self.unmet: dict[str, None] = {}
        self.filler = Filler(profile, context, missing, self.unmet)
        context.contained |= {inner["id"]: inner for inner in self.root.pop("contained", [])}

    def applies(self, rule: ElementRule) -> bool:
        """Whether a rule is for this FHIR version."""
        return not rule.versions or self.context.dialect.name in rule.versions

    def conform(self, elements: Sequence[ElementRule], extensions: Sequence[ExtensionPart], node: ProfiledNode) -> None:
        """Apply all rules to a resource that is one node."""
        rules = [rule for rule in elements if self.applies(rule)]
        for rule in rules:
            self.write(rule, node, rule.path)
        for extension in extensions:
            self.extend(extension, node)
        for rule in rules:
            self.limit(rule, node, rule.path)

    # Elements --------------------------------------------------------------------------------------------------------

    def write(self, rule: ElementRule, node: ProfiledNode, path: str) -> None:
        """Write what a rule says about the value of an element: its keys up to ``through``."""
        where = f"{self.type}.{rule.path}"
        for target, name in holders(node.json, path):
            try:
                self._write(rule, node, target, name, where)
            except Absent as absent:
                target.pop(name, None)
                if rule.required:
                    self.unmet.setdefault(str(absent))
            if rule.words:
                for concept in target.get(name, []):
                    _word(concept)
            for holder in _references(target.get(name)) if rule.through else ():
                self._lead_through(rule, node, holder, where)

    def _write(self, rule: ElementRule, node: ProfiledNode, target: Resource, name: str, where: str) -> None:
        if rule.from_:
            source = ValueSource.model_validate({"from": rule.from_, "type": rule.type})
            if found := node.value(source):
                target[name] = found[0]
        if rule.value is not None:
            put(target, name, self.filler.fill(rule.value, node, where))
        if rule.default is not None and not target.get(name):
            put(target, name, self.filler.fill(rule.default, node, where))
        if rule.add is not None:
            added = self.filler.fill(rule.add, node, where) or []
            present = target.get(name, [])
            put(target, name, [*present, *(item for item in added if item not in present)])
        if rule.codes and name in target:
            put(target, name, self.filler.translated(rule.codes, rule.type, target[name], node.modality, where))

    def _lead_through(self, rule: ElementRule, node: ProfiledNode, reference: Resource, where: str) -> None:
        """Let a reference lead to a resource of the profile, which refers to what it led to before."""
        if made := rule.through.get(reference.get("type", "")):
            between = ReferenceTo(resource=(made,), required=True)
            if found := self.filler.reference(between, replace(node, target=dict(reference)), where):
                reference.update(found)

    def limit(self, rule: ElementRule, node: ProfiledNode, path: str) -> None:
        """Apply what a rule allows and requires: its keys from ``types`` on."""
        where = f"{self.type}.{rule.path}"
        for target, name in holders(node.json, path):
            value = target.get(name)
            if isinstance(value, list):
                put(target, name, limited(rule, self.profile.name, value, where, self.context))
            elif rule.types and value is not None and value.get("type") not in rule.types:
                self.unmet.setdefault(f"{where} of type {' or '.join(rule.types)}")
            elif value in rule.excluded:
                self.unmet.setdefault(f"{where} other than {value}")
            if rule.required and not any(_is_there(target, one) for one in (name, *rule.or_)):
                self._stand_in(rule, target, name, where)

    def _stand_in(self, rule: ElementRule, target: Resource, name: str, where: str) -> None:
        missing = "omit" if self.missing == "sentinel" and not rule.placeholder else self.missing
        is_list = repeats(self.context.dialect.name, self.type, rule.path)
        try:
            placeholder = self.filler.instead(where, rule.type, missing)
        except Absent as absent:
            if not any(path.startswith(where) for path in self.unmet):
                self.unmet.setdefault(str(absent))
        else:
            put(target, name, [placeholder] if is_list and placeholder is not None else placeholder)

    # Extensions ------------------------------------------------------------------------------------------------------

    def extend(self, extension: ExtensionPart, node: ProfiledNode) -> None:
        """Write one extension of one node."""
        url = self.profile.canonical(extension.url, self.context.dialect.name)
        try:
            found = self.filler.extension(extension, node, f"{self.prefix}{url.rpartition('/')[2]}", url)
        except Absent as absent:
            found = []
            if extension.required:
                self.unmet.setdefault(str(absent))
        if found:
            node.json.setdefault("extension", []).extend(found)

    # The outcome -----------------------------------------------------------------------------------------------------

    def finished(self, canonical: str) -> Resource:
        """The resource with what is contained in it; it claims the profile if it lacks nothing."""
        root = self.root
        head: Resource = {key: root.pop(key) for key in ("resourceType", "id", "meta") if key in root}
        if canonical and not self.unmet:
            head["meta"] = {"profile": [*head.get("meta", {}).get("profile", []), canonical]}
        return {**head, **root}


def with_contained(resource: Resource, context: MappingContext) -> Resource:
    """A resource that is not contained, with those contained resources that something refers to."""
    inner = referred_to(resource, context.contained)
    head = {key: value for key, value in resource.items() if key in ("resourceType", "id", "meta")}
    return {**head, **({"contained": inner} if inner else {}), **resource}


def _references(value: object) -> list[Resource]:
    items = value if isinstance(value, list) else [value]
    return [item.get("actor", item) for item in items if isinstance(item, dict)]


def _is_there(target: Resource, name: str) -> bool:
    return target.get(name) not in (None, [], {}, "") or f"_{name}" in target


def _word(concept: Resource) -> None:
    codings = concept.get("coding", [])
    if codings and "text" not in concept and not any("display" in coding for coding in codings):
        concept["text"] = codings[0]["code"]
