"""The resources that a study refers to: the profile is applied to them, and the study is judged by what they lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dicom2fhir.fhir.profile.fill import put
from dicom2fhir.fhir.profile.model import RelatedRules
from dicom2fhir.fhir.profile.paths import values_at
from dicom2fhir.fhir.profile.resource import ResourceInProfile, with_contained
from dicom2fhir.fhir.profile.study import LEVELS, StudyInProfile
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.fhir.version.references import references
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Resource


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """A reference.

    Attributes
    ----------
    target
        The literal reference; empty if it is by identifier or display only.
    path
        From the ImagingStudy; empty for a reference in another resource.
    node
        The study, series or instance that refers to the target, by itself or through other resources.
    reference
        The Reference itself; empty for one in another resource.
    holder, name, item
        The innermost list around the reference is ``holder[name]``, and the reference is in its ``item``; without a
        list the holder is None.
    """

    target: str
    path: str
    node: ProfiledNode
    reference: Resource
    holder: Resource | None = None
    name: str = ""
    item: object = None


class RelatedResources:
    """The resources of a study that are contained in it or written with it."""

    def __init__(self, study: StudyInProfile, entries: Iterable[Entry]) -> None:
        self._study = study
        self._entries = {entry.placeholder: entry for entry in entries}
        self._lacking: dict[str, dict[str, None]] = {}
        """Reference to a resource that the profile was applied to -> what it lacks."""

    def conform(self) -> None:
        """Apply the profile to each, and remove references to those that lack something from the lists of the study."""
        if not self._study.profile.related:
            return
        for one in self._reachable():
            self._apply(one)
        for one in list(self._occurrences()):
            if lacking := self._lacks(one):
                self._let_go(one, lacking)

    def _let_go(self, one: _Occurrence, lacking: Iterable[str]) -> None:
        """Remove a reference to a resource that lacks something, where the study may be without it."""
        resource, context = self._resource(one.target), self._study.context
        where = f"ImagingStudy.{one.path}"
        why = f"profile {self._study.profile.name} requires {', '.join(lacking)}"
        if resource and self._study.profile.related[resource["resourceType"]].named and "display" in one.reference:
            del one.reference["reference"]
            context.note("info", where, f"written by its display alone: {why}")
        elif one.holder is not None:
            put(one.holder, one.name, [item for item in one.holder[one.name] if item is not one.item])
            context.note("warning", where, f"left out: {why}")

    def unmet(self) -> dict[str, None]:
        """What the profile requires of the resources that the study refers to, and they do not have.

        What these resources claim is left out if a resource that they refer to lacks something.
        """
        if not self._study.profile.related:
            return {}
        for target in {one.target for one in self._reachable()}:
            if (resource := self._resource(target)) and any(map(self._lacks, self._within(resource))):
                resource.pop("meta", None)
        return {path: None for one in self._reachable() for path in self._lacks(one)}

    def referred_to(self, study: Resource) -> tuple[Entry, ...]:
        """The separate resources to which the finished study refers."""
        found = set(references(study))
        return tuple(entry for placeholder, entry in self._entries.items() if placeholder in found)

    # References ------------------------------------------------------------------------------------------------------

    def _reachable(self) -> Iterator[_Occurrence]:
        """Each reference in the study, and each in the resources to which these lead."""
        return self._with_inner(list(self._occurrences()))

    def _within(self, resource: Resource) -> Iterator[_Occurrence]:
        """Each reference in a resource that the study refers to, and each in the resources to which these lead."""
        (node,) = self._study.level("study")
        return self._with_inner([_Occurrence(target, "", node, {}) for target in references(resource)])

    def _with_inner(self, waiting: list[_Occurrence]) -> Iterator[_Occurrence]:
        seen = set()
        for one in waiting:
            yield one
            if one.target not in seen:
                seen.add(one.target)
                inner = references(self._resource(one.target) or {})
                waiting += [_Occurrence(target, "", one.node, {}) for target in inner]

    def _occurrences(self) -> Iterator[_Occurrence]:
        for level, (prefix, below) in LEVELS.items():
            for node in self._study.level(level):
                own = {name: value for name, value in node.json.items() if name != below}
                yield from _references_in(own, prefix, node, node.json)

    def _resource(self, target: str) -> Resource | None:
        if target.startswith("#"):
            return self._study.context.contained.get(target[1:])
        entry = self._entries.get(target)
        return entry.resource if entry else None

    # The profile -----------------------------------------------------------------------------------------------------

    def _rules(self, one: _Occurrence, resource: Resource | None) -> RelatedRules | None:
        """The requirements for the target of a reference."""
        type_ = resource["resourceType"] if resource else str(one.reference.get("type"))
        rules = self._study.profile.related.get(type_)
        if rules is None or not rules.at:
            return rules
        return rules if any(f"{one.path}.".startswith(f"{at}.") for at in rules.at) else None

    def _apply(self, one: _Occurrence) -> None:
        resource = self._resource(one.target)
        rules = self._rules(one, resource)
        if resource is None or rules is None or one.target in self._lacking or not self._is_meant(rules, resource):
            return
        study, entry = self._study, self._entries.get(one.target)
        context = study.context.for_other_resource() if entry else study.context
        is_updated = entry is not None and entry.write is Write.UPSERT
        missing = "omit" if is_updated and study.missing == "sentinel" else study.missing
        own = ResourceInProfile(study.profile, resource, context, missing)
        node = replace(one.node, context=context, json=own.root, instance=None)
        own.conform(rules.element, rules.extension, node)
        self._lacking[one.target] = own.unmet
        finished = own.finished(study.profile.canonical(rules.profile, context.dialect.name))
        if entry:
            self._entries[one.target] = replace(entry, resource=with_contained(finished, context))
        else:
            context.contained[one.target[1:]] = finished

    def _lacks(self, one: _Occurrence) -> dict[str, None]:
        """What is required of the target of a reference, and is missing."""
        resource = self._resource(one.target)
        rules = self._rules(one, resource)
        if rules is None:
            return {}
        if one.target in self._lacking:
            return self._lacking[one.target]
        if not rules.at or not rules.where:
            return {}
        wanted = " and ".join(f"{path} {value}" for path, value in rules.where.items())
        return {f"{resource['resourceType'] if resource else one.reference['type']} with {wanted}": None}

    def _is_meant(self, rules: RelatedRules, resource: Resource) -> bool:
        options = self._study.context.options
        wanted = {
            path: options.of(value[1:]) if value.startswith("$") else value for path, value in rules.where.items()
        }
        return all(value in values_at(resource, path) for path, value in wanted.items())


def _references_in(
    value: Resource, path: str, node: ProfiledNode, json: Resource, around: tuple[Resource, str, object] | None = None
) -> Iterator[_Occurrence]:
    """The references in an object; ``around``: the innermost list, by its holder and name, and the item in it."""
    target = value.get("reference", "")
    if isinstance(target, str) and (target or "type" in value):
        yield _Occurrence(target, path.rstrip("."), node, value, *(around or ()))
    for name, inner in value.items():
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                innermost = (json, name, item) if isinstance(inner, list) else around
                yield from _references_in(item, f"{path}{name}.", node, item, innermost)
