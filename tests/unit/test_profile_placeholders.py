"""What a profile writes for missing values never takes the place of a value that the header has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile.apply import conform
from dicom2fhir.fhir.profile.model import Profile, ProfileCode
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.wiring.options import profile, profile_names
from testdata.make_cases import CASES, study_and_options
from tests.profile_helpers import conformed, study
from tests.profile_helpers import profile as own_profile

PROFILES = [(name, version) for name in profile_names() for version in profile(name).versions]
NOT_COMPARED = {"resourceType", "id", "meta", "contained", "series", "instance"}
"""Members of a node that are nodes themselves, or no value of the header."""


@cache
def plain_result(version: str, case: str) -> tuple[Study, MappingOptions, Mapped]:
    """A study, the policy, and what comes of it without a profile: with a Patient that is written."""
    made, policy = study_and_options(case)
    policy = replace(policy, dicomweb_url="https://pacs.example/dicom-web", patient=Write.ENSURE)
    return made, policy, map_study(made, DIALECTS[version], policy)


def both(chosen: Profile, version: str, case: str) -> tuple[Mapped, Mapped]:
    """What a study becomes without the profile, and with it, with placeholders."""
    made, policy, plain = plain_result(version, case)
    return plain, conform(chosen, plain, made, DIALECTS[version], policy, "sentinel")


def nodes(result: Mapped) -> Iterator[tuple[str, str, Resource]]:
    """The ImagingStudy, its series and instances, and the separate resources: path, identity, JSON."""
    for resource in (entry.resource for entry in result.entries):
        is_study = resource["resourceType"] == "ImagingStudy"
        yield "" if is_study else f"{resource['resourceType']}.", resource["id"], resource
        for series in resource.get("series", []):
            yield "series.", series["uid"], series
            yield from (("series.instance.", series["uid"] + one["uid"], one) for one in series.get("instance", []))


def elements(result: Mapped) -> Iterator[tuple[str, str, object]]:
    """Each element of each node: path, identity, value."""
    for path, identity, node in nodes(result):
        yield from ((f"{path}{name}", identity, value) for name, value in node.items() if name not in NOT_COMPARED)


def leaves(value: Any) -> Iterator[object]:
    """The values within a value, without ids and references."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner) if name not in ("id", "reference") else ()
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def has(value: object, part: object) -> bool:
    """Whether a value is, or has within it, another one."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == part or any(has(one, part) for one in inner)


def replaced(chosen: Profile, plain: Mapped, result: Mapped) -> Iterator[str]:
    """Elements of the mapping in whose place there is a placeholder, unless it is the code for all other codes."""
    written = {(path, identity): value for path, identity, value in elements(result)}
    others = [table.otherwise.as_json() for table in chosen.codes.values() if isinstance(table.otherwise, ProfileCode)]
    for path, identity, value in elements(plain):
        found = written.get((path, identity))
        head, _, name = path.rpartition(".")
        beside = written.get((f"{head}._{name}" if head else f"_{name}", identity))
        is_placeholder = any(has([found, beside], one) and not has(value, one) for one in chosen.sentinels.values())
        is_gone = bool({*leaves(value)} - {*leaves(found)})
        if is_placeholder and is_gone and not any(has(found, code) for code in others):
            yield path


def lost(chosen: Profile, plain: Mapped, result: Mapped) -> Iterator[str]:
    """Elements of the mapping with a value that is nowhere in the result, about which no note says anything.

    A rule of the profile that sets an element, or its codes, is documented, and so is what it does not keep.
    """
    said = {note.where.removeprefix("ImagingStudy.") for note in {*result.notes} - {*plain.notes}}
    said |= {rule.path for rule in chosen.element if rule.from_ or rule.value is not None or rule.codes}
    kept = {value for entry in result.entries for value in leaves(entry.resource)}
    present = {identity for _, identity, _ in nodes(result)}
    for path, identity, value in elements(plain):
        # a resource that nothing refers to any more is left out; what referred to it is compared
        if identity in present and not any(where.startswith(path) for where in said) and {*leaves(value)} - kept:
            yield path


@pytest.mark.parametrize(("name", "version"), PROFILES)
def test_the_values_of_the_header_are_still_there(name: str, version: str) -> None:
    chosen = profile(name)
    found: dict[str, set[str]] = {}
    for case in CASES:
        try:
            plain, result = both(chosen, version, case)
        except NotExpressible:
            continue
        for what, where in (("replaced", replaced), ("lost", lost)):
            found.setdefault(what, set()).update(f"{case}: {element}" for element in where(chosen, plain, result))
    assert found == {"replaced": set(), "lost": set()}


def test_the_comparison_finds_a_placeholder_in_the_place_of_a_value_and_a_value_that_is_gone(tmp_path: Path) -> None:
    rule = '[[element]]\npath = "series.description"\nvalue = { from = "KVP", required = true }\n'
    chosen = own_profile(tmp_path, f'[sentinels]\nstring = "?"\n{rule}')
    made = study({"SeriesDescription": "1 mm"}, StudyDescription="Thorax")
    plain, result = conformed(own_profile(tmp_path, ""), made), conformed(chosen, made, "sentinel")
    assert list(replaced(chosen, plain, result)) == ["series.description"]
    (first, *others) = result.entries
    without = {name: value for name, value in first.resource.items() if name != "description"}
    silent = replace(result, entries=(replace(first, resource=without), *others), notes=())
    assert list(lost(chosen, plain, silent)) == ["description"]
