"""Every checker looks at what the bridge writes; :mod:`tests.conformance` makes a page of what they find."""

from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dicom2fhir.fhir.version import validate
from tests import element_checker, guides
from tests.conformance_cases import Case, Output
from tests.servers.validator.validator import VERSIONS as OFFICIAL
from tests.servers.validator.validator import Finding, Findings, Question, Validator, together

KNOWN_WARNINGS = Path(__file__).parent / "data" / "known_warnings.toml"

MODELS = ("STU3", "R4", "R4B", "R5")
"""Versions that fhir.resources has models of; those of R4B are used for R4."""


def checks(output: Output) -> tuple[str, ...]:
    """The checkers that there are for an output."""
    return (
        *(["official validator"] if output.version in OFFICIAL else []),
        *(["profile definitions"] if output.version in OFFICIAL and output.profile else []),
        *(["fhir.resources"] if output.version in MODELS else []),
        "element lists",
    )


@dataclass(frozen=True, slots=True)
class KnownWarning:
    """An entry of ``known_warnings.toml``."""

    title: str
    message: str
    reason: str
    location: str = ""
    id: str = ""
    guides: bool = False
    versions: Sequence[str] = OFFICIAL
    profiles: Sequence[str] | None = None

    def matches(self, output: Output, finding: Finding) -> bool:
        """Whether this explains a warning."""
        return (
            output.version in self.versions
            and (self.profiles is None or output.profile in self.profiles)
            and self.id in ("", finding.id)
            and re.search(self.location, re.sub(r"\[\d+\]", "", finding.location)) is not None
            and re.search(self.message, finding.message) is not None
        )


@dataclass(slots=True)
class Result:
    """What the checkers found; all is well when nothing is in ``errors``, ``unexplained`` and ``refuted``."""

    errors: dict[Output, list[str]] = field(default_factory=lambda: defaultdict(list))
    unexplained: list[str] = field(default_factory=list)
    warnings: dict[Output, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Titles of the known warnings that came up, but for those of the guides' own definitions."""
    guides_warnings: set[str] = field(default_factory=set)
    """Titles of those of the guides' own definitions."""
    refuted: dict[Output, dict[str, tuple[str, ...]]] = field(default_factory=lambda: defaultdict(dict))
    """Studies that claim a profile and do not conform by its guide's own definitions, and why."""


@cache
def known_warnings() -> tuple[KnownWarning, ...]:
    """The warnings that stay."""
    return tuple(KnownWarning(**entry) for entry in tomllib.loads(KNOWN_WARNINGS.read_text("utf-8"))["warning"])


def check(cases: Iterable[Case], by_profile: Iterable[Case], validator: Validator) -> Result:
    """Let every checker look at every resource, at equal ones once.

    The official validator looks at the resources of a study together, and twice where a profile is claimed: with the
    compact definitions, and with the guides' own where they are there.

    Parameters
    ----------
    cases
        What every checker looks at.
    by_profile
        More studies; only the guides' own definitions judge them, those that claim a profile.
    """
    result = Result()
    compact = _different(cases)
    official = [(same, False) for same in compact if same[0].output.version in OFFICIAL]
    claiming = [case for same in compact for case in same if case.claims]
    claiming += [case for case in by_profile if case.claims]
    official += [(same, True) for same in _different(case for case in claiming if is_judged_by_guides(case.output))]
    questions = [_question(same[0], by_guides) for same, by_guides in official]
    with ThreadPoolExecutor(1) as beside:  # the validator is a process of its own
        answered = beside.submit(validator.check_all, questions)
        _check_each((case for case, *_ in compact), result)
        answers = answered.result()
    for (same, by_guides), findings in zip(official, answers, strict=True):
        if by_guides:
            _refute(same, findings, result)
        else:
            result.errors[same[0].output] += [f"{same[0].where}: {error}" for error in findings.errors]
        came_up = result.guides_warnings if by_guides else result.warnings[same[0].output]
        came_up |= _explained(same[0], findings, result.unexplained)
    return result


def is_judged_by_guides(output: Output) -> bool:
    """Whether the guide's own definitions judge the profile."""
    return bool(guides.definitions(output.version, output.profile))


def _different(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases with resources, equal ones of an output together."""
    groups: dict[tuple[Output, str], list[Case]] = defaultdict(list)
    for case in cases:
        if case.resources:
            groups[case.output, json.dumps(case.resources)].append(case)
    return list(groups.values())


def _check_each(cases: Iterable[Case], result: Result) -> None:
    """Ask the checkers that look at one resource."""
    seen: set[tuple[Output, str]] = set()
    for case in cases:
        for resource in case.resources:
            if (key := (case.output, json.dumps(resource))) in seen:
                continue
            seen.add(key)
            found = element_checker.check(resource, case.output.version)
            if case.output.version in MODELS:
                found += [f"{note.where} {note.text}" for note in validate.check(resource, case.output.version)]
            result.errors[case.output] += [f"{case.where}: {finding}" for finding in found]


def _question(case: Case, by_guides: bool) -> Question:
    definitions = guides.definitions(case.output.version, case.output.profile) if by_guides else None
    return Question(case.output.version, together(case.resources), definitions=definitions)


def _refute(same: list[Case], findings: Findings, result: Result) -> None:
    """Note the errors that the guides' own definitions find; an unknown profile is one."""
    if findings.errors:
        errors = tuple(map(str, findings.errors))
        result.refuted[same[0].output] |= dict.fromkeys((case.where for case in same), errors)


def _explained(case: Case, findings: Findings, unexplained: list[str]) -> set[str]:
    """Titles of the known warnings among the findings; the other warnings are added to ``unexplained``."""
    found = set()
    for warning in findings.warnings:
        titles = {known.title for known in known_warnings() if known.matches(case.output, warning)}
        found |= titles
        if not titles:
            unexplained.append(f"{case.output} {case.where}: {warning}")
    return found
