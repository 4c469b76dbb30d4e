"""A profile at work: what the mapping made of a study becomes what the profile asks for.

A profile acts on the finished resources and the study that they came from, so the rules of the mapping know nothing of
profiles. What a group (an extension of several parts, a resource, a table marked ``when_known``) asks for is written
when anything of it is known; what it lacks then is settled by :data:`dicom2fhir.fhir.profile.model.Missing`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.context import Context, Policy
from dicom2fhir.fhir.mapping.date_times import earliest
from dicom2fhir.fhir.profile.codes import known
from dicom2fhir.fhir.profile.contained import references, referred_to
from dicom2fhir.fhir.profile.model import (
    AddedResource,
    Code,
    ElementRule,
    ExtensionPart,
    FhirType,
    FirstValue,
    Missing,
    PatientProfile,
    Profile,
    ReferenceTo,
    TemplateObject,
    ValueSource,
)
from dicom2fhir.fhir.profile.values import Place
from dicom2fhir.fhir.version.datatypes import DICOM_UID
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.model import Entry, Mapped, Resource, Study, Write


def conform(
    profile: Profile, mapped: Mapped, study: Study, dialect: Dialect, policy: Policy, missing: Missing | None = None
) -> Mapped:
    """Make the resources of a study what the profile asks for.

    Parameters
    ----------
    mapped
        What :func:`~dicom2fhir.fhir.mapping.engine.map_study` made of ``study`` in this dialect.
    missing
        What to do when a required value is missing; None: what the profile says.

    Raises
    ------
    NotExpressible
        Something required is missing and ``missing`` is ``"refuse"``; the text names the elements.
    """
    context = Context(study, dialect, policy)
    context.notes = dict.fromkeys(mapped.notes)
    first, *others = mapped.entries
    run = _Run(profile, first.resource, context, missing or profile.missing)
    run.identifiers()
    run.orders()
    for rule in profile.element:
        for place, name in run.places(rule.path):
            run.element(rule, place, name, f"ImagingStudy.{rule.path}")
    run.starts()
    for extension in profile.extension:
        for place in run.level(extension.at):
            run.extend(extension, place)
    if profile.patient != PatientProfile():
        others = [run.patient(entry) if entry.resource["resourceType"] == "Patient" else entry for entry in others]
    if run.unmet and run.missing == "refuse":
        raise NotExpressible(f"Profile {profile.name} asks for what is missing: {', '.join(run.unmet)}.")
    imaging_study = run.finished(profile.versions[dialect.name])
    referred = set(references(imaging_study))
    kept = [entry for entry in others if entry.placeholder in referred]
    return Mapped((replace(first, resource=imaging_study), *kept), tuple(context.notes))


class _Absent(Exception):
    """A required value is missing, and what it belongs to is to be left out."""


class _Run:
    """One resource of a study on its way: the ImagingStudy, or the Patient."""

    def __init__(self, profile: Profile, resource: Resource, context: Context, missing: Missing) -> None:
        self.profile = profile
        self.missing = missing
        self.context = context
        self.root: Resource = copy.deepcopy(resource)
        context.contained = {inner["id"]: inner for inner in self.root.pop("contained", [])}
        self.unmet: dict[str, None] = {}

    # Places ----------------------------------------------------------------------------------------------------------

    def level(self, level: str) -> Iterator[Place]:
        """Each node of a level with its JSON; instances only where the mapping listed them."""
        made = self.profile.resource
        if level == "study":
            yield Place(self.context, self.root, self.root, made)
            return
        for series, json in zip(self.context.study.series, self.root.get("series", ()), strict=True):
            if level == "series":
                yield Place(self.context, self.root, json, made, series, json)
            else:
                for instance, inner in zip(series.instances, json.get("instance", ()), strict=False):
                    yield Place(self.context, self.root, inner, made, series, json, instance)

    def places(self, path: str) -> Iterator[tuple[Place, str]]:
        """Where a path leads to: the nodes, and the name of the element there."""
        for level, prefix in (("instance", "series.instance."), ("series", "series.")):
            if path.startswith(prefix):
                name = path.removeprefix(prefix)
                yield from ((place, name) for place in self.level(level))
                return
        yield from ((place, path) for place in self.level("study"))

    # Identifiers -----------------------------------------------------------------------------------------------------

    def identifiers(self) -> None:
        """Keep those that the profile allows, and say of which type they are."""
        rules = self.profile.identifiers
        kept = []
        for identifier in self.root.get("identifier", []):
            kind = _kind(identifier)
            if kind not in rules.allowed:
                self.context.note("info", "ImagingStudy.identifier", f"{kind}: not of profile {self.profile.name}")
                continue
            if coding := rules.coding.get(kind):
                _add_type(identifier, coding)
            kept.append(identifier)
        if kept:
            self.root["identifier"] = kept

    def orders(self) -> None:
        """Let one order have a type; see :class:`~dicom2fhir.fhir.profile.model.OrderRules`."""
        if self.profile.orders is None:
            return
        typed = False
        for reference in self.root.get("basedOn", []):
            identifier = reference["identifier"]
            if typed or not identifier.get("system"):
                identifier.pop("type", None)
                continue
            typed = True
            for coding in self.profile.orders.coding:
                _add_type(identifier, coding)

    # Elements --------------------------------------------------------------------------------------------------------

    def element(self, rule: ElementRule, place: Place, name: str, where: str) -> None:
        """Give one element of one node what the profile says of it."""
        target = place.json
        *way, name = name.split(".")
        for step in way:
            target = target.get(step) or {}
        try:
            if rule.from_:
                source = ValueSource.model_validate({"from": rule.from_, "type": rule.type})
                if found := place.value(source):
                    target[name] = found[0]
            if rule.value is not None:
                _put(target, name, self.fill(rule.value, place, where))
            if rule.default is not None and not target.get(name):
                _put(target, name, self.fill(rule.default, place, where))
            if rule.codes and name in target:
                _put(target, name, self.translated(rule.codes, rule.type, target[name], where))
        except _Absent as absent:
            target.pop(name, None)
            (self.unmet if rule.required else {}).setdefault(str(absent))
        if rule.words:
            for concept in target.get(name, []):
                _word(concept)
        if rule.types and name in target:
            self.of_types(rule, target, name, where)
        if rule.first_by:
            self.first_of_each(rule, target, name, where)
        if rule.at_most is not None and len(target.get(name, [])) > rule.at_most:
            self.context.note("warning", where, f"more than profile {self.profile.name} allows; the first stands")
            _put(target, name, target[name][: rule.at_most])
        if rule.required and target.get(name) in (None, [], {}, ""):
            missing = "omit" if self.missing == "sentinel" and not rule.placeholder else self.missing
            repeats = self.context.dialect.repeats(where.removeprefix("ImagingStudy."))
            try:
                stand_in = self.instead(where, rule.type, missing)
                _put(target, name, [stand_in] if repeats and stand_in is not None else stand_in)
            except _Absent as absent:
                self.unmet.setdefault(str(absent))

    def starts(self) -> None:
        """Let the study start with its first series, where the profile has other ideas of both."""
        placeholder = self.profile.sentinels.get("dateTime")
        series = (series.get("started") for series in self.root.get("series", []))
        if started := self.root.get("started"):
            self.root["started"] = earliest((started, *(one for one in series if one != placeholder)))

    def of_types(self, rule: ElementRule, target: Resource, name: str, where: str) -> None:
        """Keep the references to resources that the profile has there."""
        value = target[name]
        if not isinstance(value, list):
            if value.get("type") not in rule.types:
                self.unmet.setdefault(f"{where} of type {' or '.join(rule.types)}")
            return
        kept = [item for item in value if item.get("actor", item).get("type") in rule.types]
        if len(kept) < len(value):
            self.context.note("info", where, f"profile {self.profile.name} has {' or '.join(rule.types)} only")
            _put(target, name, kept)

    def first_of_each(self, rule: ElementRule, target: Resource, name: str, where: str) -> None:
        """Of a list, the first for each value of a member."""
        seen = []
        kept = []
        for item in target.get(name, []):
            if item.get(rule.first_by) not in seen:
                seen.append(item.get(rule.first_by))
                kept.append(item)
        if len(kept) < len(target.get(name, [])):
            self.context.note("warning", where, f"profile {self.profile.name} has one {rule.first_by} once; the first")
            target[name] = kept

    def translated(self, name: str, type_: FhirType, value: Any, where: str) -> Any:
        """The codes as the profile writes them, each once."""
        if isinstance(value, list):
            found = [code for inner in value if (code := self.translated(name, type_, inner, where)) is not None]
            return [code for position, code in enumerate(found) if code not in found[:position]]
        table = self.profile.codes[name]
        if found_code := known(table, value):
            return found_code
        self.context.note("warning", where, f"has a code that profile {self.profile.name} does not have")
        match table.otherwise:
            case Code():
                return table.otherwise.as_json()
            case "omit":
                return None
        return self.instead(where, type_, table.otherwise)

    # Extensions ------------------------------------------------------------------------------------------------------

    def extend(self, extension: ExtensionPart, place: Place) -> None:
        """Write one extension of one node."""
        try:
            found = self.extension(extension, place, _short(extension.url))
        except _Absent as absent:
            found = []
            if extension.required:
                self.unmet.setdefault(str(absent))
        if found:
            place.json.setdefault("extension", []).extend(found)

    def extension(self, part: ExtensionPart, place: Place, where: str) -> list[Resource]:
        """An extension as often as it has values; none where it does not apply or nothing is known."""
        if part.modalities and place.modality not in part.modalities:
            return []
        required = part.required or place.modality in part.required_for
        if part.part:
            if not required and not place.knows(part):
                return []
            try:
                inner = [
                    found
                    for one_part in part.part
                    for found in self.extension(one_part, place, f"{where}.{one_part.url}")
                ]
            except _Absent as absent:
                if required:
                    raise
                self.context.note("warning", where, f"left out: {absent} is missing")
                return []
            return [{"url": part.url, "extension": inner}] if inner else []
        if part.resource:
            referred = self.refer(ReferenceTo(resource=part.resource, required=required), place, where)
            return [{"url": part.url, "valueReference": referred}] if referred else []
        values = self.taken(part, place, where)
        if not values and required:
            stand_in = self.instead(where, part.type)
            values = [] if stand_in is None else [stand_in]
        key = f"value{part.type[0].upper()}{part.type[1:]}"
        return [{"url": part.url, key: value} for value in (values if part.many else values[:1])]

    def taken(self, wanted: ValueSource, place: Place, where: str) -> list[Any]:
        """What a profile asks for, its codes as the profile writes them."""
        found = place.value(wanted)
        return list(self.translated(wanted.codes, wanted.type, found, where)) if wanted.codes else found

    # Templates -------------------------------------------------------------------------------------------------------

    def fill(self, template: Any, place: Place, where: str) -> Any:
        """A template with its places filled; None where nothing is left of it."""
        match template:
            case ValueSource():
                found = self.taken(template, place, where)
                required = template.required or place.modality in template.required_for
                return found[0] if found else self.instead(where, template.type) if required else None
            case FirstValue():
                found = next((values for one in template.first if (values := self.taken(one, place, where))), [])
                return found[0] if found else self.instead(where, template.type) if template.required else None
            case ReferenceTo():
                return self.refer(template, place, where)
            case TemplateObject():
                return self.group(template, place, where)
            case list():
                filled = [one for inner in template if (one := self.fill(inner, place, where)) is not None]
                return filled or None
        return template

    def group(self, template: TemplateObject, place: Place, where: str) -> Resource | None:
        """A table; None when it has places for values and none has one."""
        if template.when_known and not place.knows(template):
            return None
        try:
            filled = {key: self.fill(inner, place, f"{where}.{key}") for key, inner in template.items()}
        except _Absent:
            if template.when_known:
                return None
            raise
        left = {key: value for key, value in filled.items() if value is not None}
        emptied = any(filled[key] is None for key in filled) and not any(
            _has_places(inner) and filled[key] is not None for key, inner in template.items()
        )
        return None if emptied or not left else left

    def refer(self, wanted: ReferenceTo, place: Place, where: str) -> Resource | None:
        """Contain the first resource of which anything is known, and answer with the reference to it."""
        known = [name for name in wanted.resource if place.knows_of(name)]
        if not known and not wanted.required:
            return None
        name = (known or list(wanted.resource))[0]
        made = self.profile.resource[name]
        try:
            content = self.fill(made.value, place, f"{where}({made.type})")
        except _Absent as absent:
            if wanted.required:
                raise
            self.context.note("warning", where, f"left out: {absent} is missing")
            return None
        return self.context.contain(_resource(made, content)) if content else None

    # The Patient ------------------------------------------------------------------------------------------------------

    def patient(self, entry: Entry) -> Entry:
        """The Patient as the profile wants it."""
        asked = self.profile.patient
        missing = "omit" if self.missing == "sentinel" and entry.write is Write.UPSERT else self.missing
        own = _Run(self.profile, entry.resource, self.context.for_other_resource(), missing)
        place = Place(own.context, self.root, own.root, self.profile.resource)
        for rule in asked.element:
            own.element(rule, place, rule.path, f"Patient.{rule.path}")
        for extension in asked.extension:
            own.extend(extension, place)
        if self.missing == "refuse":
            self.unmet |= own.unmet
        return replace(entry, resource=own.finished(asked.profile))

    # What is missing -------------------------------------------------------------------------------------------------

    def instead(self, where: str, type_: str, missing: Missing | None = None) -> Any:
        """What stands for a required value that is missing."""
        missing = missing or self.missing
        if missing == "refuse":
            self.unmet.setdefault(where)
            return None
        sentinel = self.profile.sentinels.get(type_)
        if missing == "omit" or sentinel is None:
            raise _Absent(where)
        self.context.note("warning", where, f"is missing; profile {self.profile.name} puts a placeholder there")
        return copy.deepcopy(sentinel)

    def finished(self, canonical: str) -> Resource:
        """The resource, with the claim to the profile when nothing required is missing."""
        root = self.root
        who = "the Patient" if root["resourceType"] == "Patient" else "the resource"
        for where in self.unmet:
            self.context.note("warning", where, f"is missing: {who} does not claim profile {self.profile.name}")
        head: Resource = {key: root.pop(key) for key in ("resourceType", "id", "meta") if key in root}
        if canonical and not self.unmet:
            head["meta"] = {"profile": [canonical]}
        contained = referred_to({**head, **root}, self.context.contained)
        return {**head, **({"contained": contained} if contained else {}), **root}


def _kind(identifier: Resource) -> str:
    if identifier.get("system") == DICOM_UID:
        return "uid"
    codings = identifier.get("type", {}).get("coding", [])
    return "accession" if any(coding.get("code") == "ACSN" for coding in codings) else "study-id"


def _add_type(identifier: Resource, coding: Code) -> None:
    type_ = identifier.setdefault("type", {})
    type_["coding"] = [*type_.get("coding", []), coding.as_json()]


def _word(concept: Resource) -> None:
    codings = concept.get("coding", [])
    if codings and "text" not in concept and not any("display" in coding for coding in codings):
        concept["text"] = codings[0]["code"]


def _put(target: Resource, name: str, value: Any) -> None:
    if value is None or value == []:
        target.pop(name, None)
    else:
        target[name] = value


def _resource(made: AddedResource, content: Resource) -> Resource:
    claim = {"meta": {"profile": [made.profile]}} if made.profile else {}
    return {"resourceType": made.type, **claim, **content}


def _short(url: str) -> str:
    return url.rpartition("/")[2]


def _has_places(template: Any) -> bool:
    match template:
        case ValueSource() | FirstValue() | ReferenceTo():
            return True
        case dict():
            return any(map(_has_places, template.values()))
        case list():
            return any(map(_has_places, template))
    return False
