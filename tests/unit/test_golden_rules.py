"""Each rule of the mapping and of the profiles shows in a golden case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import map_study
from dicom2fhir.fhir.mapping.rules import RULES
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.version.dialect import Dialect
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Resource
from dicom2fhir.wiring.options import profile, profile_names
from testdata.make_cases import CASES, VERSIONS, mapped, mapped_by, study_and_options, variants, version_of


@pytest.mark.parametrize("version", VERSIONS)
def test_each_rule_of_the_mapping_writes_its_element_in_a_golden_case(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, written = Dialect.put, set()

    def remember(dialect: Dialect, target: Resource, concept: str, meaning: Any) -> Any:
        if (value := put(dialect, target, concept, meaning)) is not None:
            written.add(concept)
        return value

    monkeypatch.setattr(Dialect, "put", remember)
    dialect = DIALECTS[version]
    for case in CASES:
        study, options = study_and_options(case)
        with suppress(NotExpressible):
            map_study(study, dialect, options)
    rules = {rule.concept for table in RULES.values() for rule in table if rule.concept in dialect.elements}
    assert rules - written == set()


WITHOUT_EFFECT = {"mii-bildgebung": ["modality"]}
"""Up to R4B the mapping writes codes of CID 29 there, which are all in CID 33, the table of that rule."""
PROFILES = [(name, version) for name in profile_names() for version in profile(name).versions]


@pytest.mark.parametrize(("name", "version"), PROFILES)
def test_without_a_rule_of_a_profile_a_golden_case_is_another(name: str, version: str) -> None:
    cases = [
        (case, variant)
        for case in CASES
        for variant in variants(case)
        if variant.partition(".")[0] == name and version_of(variant) == version
    ]
    bare = []
    for rule, without in without_each_rule(profile(name), version):
        for number, (case, variant) in enumerate(cases):
            if result(case, variant, without) != result(case, variant):
                cases.insert(0, cases.pop(number))  # a case with many values shows the next rule, too
                break
        else:
            bare.append(rule)
    assert bare == WITHOUT_EFFECT.get(name, [])


def result(case: str, variant: str, chosen: Profile | None = None) -> Any:
    try:
        made = mapped(case, variant) if chosen is None else mapped_by(chosen, case, variant)
        return made.entries, made.unclaimed
    except NotExpressible as error:
        return str(error)


def without_each_rule(whole: Any, version: str) -> Iterator[tuple[str, Any]]:
    """The name of each rule in a table of a profile for a version, and the table without it.

    A rule that does nothing but demand an element that each study has, by another rule or as it is, changes no output.
    """
    for key in ("element", "extension", "part"):
        rules = getattr(whole, key, ())
        for number, rule in enumerate(rules):
            if rule.versions and version not in rule.versions:
                continue
            name = getattr(rule, "path", "") or rule.url
            if rule.model_dump(exclude_defaults=True).keys() - {"path", "type", "required", "versions"}:
                yield name, whole.model_copy(update={key: (*rules[:number], *rules[number + 1 :])})
            for inner, without in without_each_rule(rule, version):
                changed = (*rules[:number], without, *rules[number + 1 :])
                yield f"{name} {inner}", whole.model_copy(update={key: changed})
    for type_, rules in getattr(whole, "related", {}).items():
        for inner, without in without_each_rule(rules, version):
            yield f"{type_} {inner}", whole.model_copy(update={"related": {**whole.related, type_: without}})
