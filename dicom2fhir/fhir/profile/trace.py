"""What a profile did to a study, for ``explain``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom2fhir.fhir.mapping.rule import Rule, Trace
from dicom2fhir.fhir.profile.description import sources_of
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.profile.template import is_attribute, sources_in
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Resource, Study


def trace_profile(profile: Profile, mapped: Mapped, study: Study, version: str) -> list[Trace]:
    """Each element and extension that the profile speaks of, as it came out (of the first series and instance)."""
    return list(_traces(profile, mapped.entries[0].resource, study, version))


def _traces(profile: Profile, resource: Resource, study: Study, version: str) -> Iterator[Trace]:
    given = {keyword for keyword, value in {**study.patient, **study.attrs}.items() if value}
    for series in study.series[:1]:
        given |= set(series.attrs) | {keyword for instance in series.instances[:1] for keyword in instance.attrs}
    for element in profile.element:
        if element.versions and version not in element.versions:
            continue
        keywords = _keywords(*sources_of(element))
        level, name = _split(element.path)
        concept = f"{level}.{name}" if level else name.partition(".")[0]
        yield _trace(profile, concept, name, keywords, given, _at(resource, element.path))
    for extension in profile.extension:
        prefix = {"study": "", "series": "series.", "instance": "series.instance."}[extension.at]
        held = _at(resource, f"{prefix}extension") or []
        value = [found for found in held if found["url"] == profile.canonical(extension.url, version)] or None
        concept = "extension" if extension.at == "study" else f"{extension.at}.extension"
        name = f"extension({extension.url.rpartition('/')[2]})"
        yield _trace(profile, concept, name, _keywords(*sources_in(extension)), given, value)


def _split(path: str) -> tuple[str, str]:
    """Level (empty for the study) and element."""
    if path.startswith("series.instance."):
        return "instance", path.removeprefix("series.instance.")
    return ("series", path.removeprefix("series.")) if path.startswith("series.") else ("", path)


def _keywords(*sources: str) -> tuple[str, ...]:
    names = (name.partition("/")[0] for source in filter(is_attribute, sources) for name in source.split("+"))
    return tuple(dict.fromkeys(names))


def _trace(
    profile: Profile, concept: str, element: str, keywords: tuple[str, ...], given: set[str], value: object
) -> Trace:
    rule = Rule(concept, keywords, lambda source: None, f"as required by profile {profile.name}")
    return Trace(rule, element, tuple(keyword for keyword in keywords if keyword in given), value)


def _at(resource: Resource, path: str) -> Any:
    node: object = resource
    for step in path.split("."):
        if isinstance(node, list):
            node = node[0] if node else None
        node = node.get(step) if isinstance(node, dict) else None
    return node
