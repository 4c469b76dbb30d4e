"""Applies a profile: what the mapping made of a study becomes what the profile asks for.

A profile acts on the finished resources and the study that they came from, so the rules of the mapping know nothing of
profiles.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.context import MappingContext, MappingOptions
from dicom2fhir.fhir.mapping.date_times import earliest
from dicom2fhir.fhir.profile.contained import references, referred_to
from dicom2fhir.fhir.profile.fill import Absent, Filler
from dicom2fhir.fhir.profile.model import Code, ElementRule, Missing, PatientProfile, Profile
from dicom2fhir.fhir.profile.template import ExtensionPart, ValueSource
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.fhir.version.datatypes import DICOM_UID
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.model import Entry, Json, Mapped, Resource, Study, Write


def conform(
    profile: Profile,
    mapped: Mapped,
    study: Study,
    dialect: Dialect,
    options: MappingOptions,
    missing: Missing | None = None,
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
    context = MappingContext(study, dialect, options)
    context.notes = dict.fromkeys(mapped.notes)
    first, *others = mapped.entries
    imaging_study = _ResourceInProfile(profile, first.resource, context, missing or profile.missing)
    imaging_study.identifiers()
    imaging_study.orders()
    for rule in profile.element:
        for node, name in imaging_study.nodes_at(rule.path):
            imaging_study.element(rule, node, name, f"ImagingStudy.{rule.path}")
    imaging_study.starts()
    for extension in profile.extension:
        for node in imaging_study.level(extension.at):
            imaging_study.extend(extension, node)
    if profile.patient != PatientProfile():
        others = [
            imaging_study.patient(entry) if entry.resource["resourceType"] == "Patient" else entry for entry in others
        ]
    if imaging_study.unmet and imaging_study.missing == "refuse":
        absent = ", ".join(imaging_study.unmet)
        raise NotExpressible(f"Values that profile {profile.name} requires are missing: {absent}.")
    finished = imaging_study.finished(profile.versions[dialect.name])
    referred = set(references(finished))
    kept = [entry for entry in others if entry.placeholder in referred]
    return Mapped((replace(first, resource=finished), *kept), tuple(context.notes))


class _ResourceInProfile:
    """The ImagingStudy, or its Patient, while a profile is applied to it."""

    def __init__(self, profile: Profile, resource: Resource, context: MappingContext, missing: Missing) -> None:
        self.profile = profile
        self.context = context
        self.root: Resource = copy.deepcopy(resource)
        context.contained = {inner["id"]: inner for inner in self.root.pop("contained", [])}
        self.missing = missing
        self.unmet: dict[str, None] = {}
        self.filler = Filler(profile, context, missing, self.unmet)

    # Nodes -----------------------------------------------------------------------------------------------------------

    def level(self, level: str) -> Iterator[ProfiledNode]:
        """Each node of a level with its JSON; instances only where the mapping listed them."""
        profile = self.profile
        if level == "study":
            yield ProfiledNode(self.context, self.root, self.root, profile)
            return
        for series, json in zip(self.context.study.series, self.root.get("series", ()), strict=True):
            if level == "series":
                yield ProfiledNode(self.context, self.root, json, profile, series, json)
            else:
                for instance, inner in zip(series.instances, json.get("instance", ()), strict=False):
                    yield ProfiledNode(self.context, self.root, inner, profile, series, json, instance)

    def nodes_at(self, path: str) -> Iterator[tuple[ProfiledNode, str]]:
        """The nodes at a path, and the name of the element in them."""
        for level, prefix in (("instance", "series.instance."), ("series", "series.")):
            if path.startswith(prefix):
                name = path.removeprefix(prefix)
                yield from ((node, name) for node in self.level(level))
                return
        yield from ((node, path) for node in self.level("study"))

    # Identifiers -----------------------------------------------------------------------------------------------------

    def identifiers(self) -> None:
        """Keep those that the profile allows, and add to their types."""
        rules = self.profile.identifiers
        kept = []
        for identifier in self.root.get("identifier", []):
            kind = _kind(identifier)
            if kind not in rules.allowed:
                self.context.note("info", "ImagingStudy.identifier", f"{kind}: not part of profile {self.profile.name}")
                continue
            if coding := rules.coding.get(kind):
                _add_type(identifier, coding)
            kept.append(identifier)
        if kept:
            self.root["identifier"] = kept

    def orders(self) -> None:
        """Keep the type of one order; see :class:`~dicom2fhir.fhir.profile.model.OrderRules`."""
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

    def element(self, rule: ElementRule, node: ProfiledNode, name: str, where: str) -> None:
        """Apply the rule for an element to one node."""
        target = node.json
        *way, name = name.split(".")
        for step in way:
            target = target.get(step) or {}
        try:
            if rule.from_:
                source = ValueSource.model_validate({"from": rule.from_, "type": rule.type})
                if found := node.value(source):
                    target[name] = found[0]
            if rule.value is not None:
                _put(target, name, self.filler.fill(rule.value, node, where))
            if rule.default is not None and not target.get(name):
                _put(target, name, self.filler.fill(rule.default, node, where))
            if rule.codes and name in target:
                _put(target, name, self.filler.translated(rule.codes, rule.type, target[name], node.modality, where))
        except Absent as absent:
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
            self.context.note("warning", where, f"more than profile {self.profile.name} allows; only the first is kept")
            _put(target, name, target[name][: rule.at_most])
        if rule.required and target.get(name) in (None, [], {}, ""):
            missing = "omit" if self.missing == "sentinel" and not rule.placeholder else self.missing
            repeats = self.context.dialect.repeats(where.removeprefix("ImagingStudy."))
            try:
                stand_in = self.filler.instead(where, rule.type, missing)
                _put(target, name, [stand_in] if repeats and stand_in is not None else stand_in)
            except Absent as absent:
                self.unmet.setdefault(str(absent))

    def starts(self) -> None:
        """Start the study with its first series: the profile may have changed either."""
        placeholder = self.profile.sentinels.get("dateTime")
        series = (series.get("started") for series in self.root.get("series", []))
        if started := self.root.get("started"):
            self.root["started"] = earliest((started, *(one for one in series if one != placeholder)))

    def of_types(self, rule: ElementRule, target: Resource, name: str, where: str) -> None:
        """Keep the references to resources of the types that the profile allows."""
        value = target[name]
        if not isinstance(value, list):
            if value.get("type") not in rule.types:
                self.unmet.setdefault(f"{where} of type {' or '.join(rule.types)}")
            return
        kept = [item for item in value if item.get("actor", item).get("type") in rule.types]
        if len(kept) < len(value):
            self.context.note("info", where, f"profile {self.profile.name} allows only {' or '.join(rule.types)}")
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
            self.context.note(
                "warning",
                where,
                f"profile {self.profile.name} allows each {rule.first_by} once; only the first is kept",
            )
            target[name] = kept

    # Extensions ------------------------------------------------------------------------------------------------------

    def extend(self, extension: ExtensionPart, node: ProfiledNode) -> None:
        """Write one extension of one node."""
        try:
            found = self.filler.extension(extension, node, _short(extension.url))
        except Absent as absent:
            found = []
            if extension.required:
                self.unmet.setdefault(str(absent))
        if found:
            node.json.setdefault("extension", []).extend(found)

    # The Patient ------------------------------------------------------------------------------------------------------

    def patient(self, entry: Entry) -> Entry:
        """The Patient with the profile applied."""
        asked = self.profile.patient
        missing = "omit" if self.missing == "sentinel" and entry.write is Write.UPSERT else self.missing
        own = _ResourceInProfile(self.profile, entry.resource, self.context.for_other_resource(), missing)
        node = ProfiledNode(own.context, self.root, own.root, self.profile)
        for rule in asked.element:
            own.element(rule, node, rule.path, f"Patient.{rule.path}")
        for extension in asked.extension:
            own.extend(extension, node)
        if self.missing == "refuse":
            self.unmet |= own.unmet
        return replace(entry, resource=own.finished(asked.profile))

    # The outcome -----------------------------------------------------------------------------------------------------

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


def _put(target: Resource, name: str, value: Json) -> None:
    if value is None or value == []:
        target.pop(name, None)
    else:
        target[name] = value


def _short(url: str) -> str:
    return url.rpartition("/")[2]
