"""Whether a profile speaks of elements that its FHIR versions have: what is misspelt would be written all the same."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import get_args

from dicom2fhir.fhir.profile.model import ElementRule, Profile, RelatedRules
from dicom2fhir.fhir.profile.template import (
    ExtensionPart,
    FhirType,
    FirstValue,
    ReferenceTo,
    TemplateObject,
    ValueSource,
    Version,
    sources_in,
)
from dicom2fhir.fhir.version.elements import types_of

_CLOSE = 0.8
"""So alike must a type that is not in the table be to one that is, to be a misspelling: not every type is there."""


def faults(profile: Profile) -> list[str]:
    """What is wrong with the names of elements, each mistake with the versions that it is one in."""
    found: dict[str, list[str]] = {}
    for version in profile.versions:
        for fault in dict.fromkeys(_Check(version).profile(profile)):
            found.setdefault(fault, []).append(version)
    return [fault.replace("\0", " and ".join(versions)) for fault, versions in found.items()]


_SIMILAR: Mapping[str, str] = {
    **dict.fromkeys(("id", "markdown"), "string"),
    **dict.fromkeys(("unsignedInt", "positiveInt"), "integer"),
    **dict.fromkeys(("uri", "canonical", "oid"), "url"),
}
"""Datatype -> the one of profile files that has its form."""


def _datatype(rule: ElementRule, where: str, type_: str, sentinels: Collection[str]) -> Iterator[str]:
    """Whether what a rule writes has the datatype of its element."""
    if rule.type == type_:
        return
    is_written = bool(rule.codes or rule.from_)
    has_placeholder = rule.required and rule.placeholder and rule.type in sentinels
    if not is_written and not has_placeholder:
        return
    if type_ in get_args(FhirType):
        yield f'{where}: type must be "{type_}", the datatype of the element in FHIR \0'
    elif type_ == "CodeableReference" and rule.codes:
        yield f'{where}: the element is a CodeableReference in FHIR \0; its codes are in "{rule.path}.concept"'
    elif has_placeholder:
        yield f"{where}: no {rule.type} can be a placeholder of a {type_} in FHIR \0; set placeholder = false"


class _Check:
    """The checks in one version, whose name stands as NUL in what they say."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._types = types_of(version)
        self._resources = [name for name in self._types if "." not in name]

    def profile(self, profile: Profile) -> Iterator[str]:
        for rule in profile.element:
            yield from self._rule(rule, f"element {rule.path}", "ImagingStudy", profile.sentinels)
        for type_, rules in profile.related.items():
            yield from self._related(type_, rules, profile.sentinels)
        for extension in profile.extensions:
            yield from self._extension(extension, f"extension {extension.url}")
        for name, made in profile.resource.items():
            yield from self._names((made.type,), f"resource.{name}.type")
            yield from self._template(made.value, f"resource.{name}", made.type)
        for type_, value in profile.sentinels.items():
            yield from self._template(value, f"sentinels.{type_}", type_)

    def _related(self, type_: str, rules: RelatedRules, sentinels: Collection[str]) -> Iterator[str]:
        yield from self._names((type_,), f"related.{type_}")
        for path in rules.at:
            yield from self._walk(f"related.{type_}.at", "ImagingStudy", path)[0]
        for path in rules.where:
            yield from self._walk(f"related.{type_}.where", type_, path)[0]
        for rule in rules.element:
            yield from self._rule(rule, f"related.{type_}.element {rule.path}", type_, sentinels)

    def _rule(self, rule: ElementRule, where: str, root: str, sentinels: Collection[str]) -> Iterator[str]:
        if rule.versions and self._version not in rule.versions:
            return
        wrong, type_ = self._walk(where, root, rule.path)
        yield from wrong
        if type_:
            yield from _datatype(rule, where, _SIMILAR.get(type_, type_), sentinels)
        yield from self._names(rule.types, f"{where}.types")
        for source in rule.from_:
            yield from self._source(source, where)
        if rule.first_by and type_:
            yield from self._walk(f"{where}.first_by", type_, rule.first_by)[0]
        for template in (rule.value, rule.default, rule.add):
            yield from self._template(template, where, type_)

    def _template(self, template: object, where: str, type_: str) -> Iterator[str]:
        match template:
            case ValueSource() | FirstValue():
                yield from self._sources(template, where)
            case ReferenceTo():
                return
            case TemplateObject() | dict():
                for key, inner in template.items():
                    wrong, inner_type = self._walk(where, type_, key.removeprefix("_"))
                    yield from wrong
                    yield from self._template(inner, f"{where} {key}", inner_type)
            case list():
                for inner in template:
                    yield from self._template(inner, where, type_)

    def _extension(self, part: ExtensionPart, where: str) -> Iterator[str]:
        yield from self._sources(part, where)
        yield from self._template(part.value, where, part.type)
        for inner in part.part:
            yield from self._extension(inner, f"{where}.{inner.url}")

    def _sources(self, template: object, where: str) -> Iterator[str]:
        for source in sources_in(template):
            yield from self._source(source, where)

    def _source(self, source: str, where: str) -> Iterator[str]:
        if source.startswith("@") and source != "@target":
            yield from self._walk(f"{where} from {source}", "ImagingStudy", source[1:])[0]

    def _walk(self, where: str, type_: str, path: str) -> tuple[list[str], str]:
        """What is wrong on the way, and the type at its end; empty where nothing is known of it."""
        for name in path.split("."):
            elements = self._types.get(type_)
            if elements is None:
                return [], ""
            if name not in elements:
                return [f'{where}: {type_} has no element "{name}" in FHIR \0{_hint(name, elements, 0.6)}'], ""
            type_ = elements[name].type
        return [], type_

    def _names(self, names: Collection[str], where: str) -> Iterator[str]:
        for name in names:
            if name not in self._types and (hint := _hint(name, self._resources, _CLOSE)):
                yield f'{where}: "{name}" is not a resource of FHIR \0{hint}'


def _hint(name: str, known: Collection[str], cutoff: float) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f'; did you mean "{near[0]}"?' if near else ""
