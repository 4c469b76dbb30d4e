"""Everything that delivery writes, looked at by every checker there is for its version; ``docs/conformance.md`` is made
of it: ``python -m tests.conformance``, or ``make conformance``.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile import load
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.version import validate
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Entry, Resource, Study, Write
from testdata.make_cases import CASES_DIRECTORY, studies_of
from testdata.make_dicom import CASES, encoded
from tests import element_checker
from tests.invariants import to_be_written
from tests.servers.validator.validator import VERSIONS as OFFICIAL
from tests.servers.validator.validator import Finding, Question, ValidatorProcess

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
KNOWN_WARNINGS = Path(__file__).parent / "data" / "known_warnings.toml"

MODELS = ("STU3", "R4", "R4B", "R5")
"""Versions that fhir.resources has models of; those of R4B are used for R4."""
SAME_FILES = {"R4B": "R4"}
"""Dialect -> dialect whose golden files are its own too; ``tests/unit/test_golden.py`` holds that they are equal."""

_EVERY_TYPE = frozenset({"Practitioner", "Organization", "Location", "Device"})
POLICIES = (
    MappingOptions(dicomweb_url="https://pacs.example/dicom-web", key_objects="always"),
    MappingOptions(
        patient=Write.ENSURE,
        linked=frozenset({"order", "encounter"}),
        referenced=_EVERY_TYPE,
        dicomweb_url="https://pacs.example/dicom-web",
    ),
)
"""Everything contained, and everything that can be a resource of its own."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is checked together: a FHIR version, or a profile in one."""

    version: str
    profile: str = ""

    @property
    def checks(self) -> tuple[str, ...]:
        """The checkers that there are for it."""
        return (
            *(["official validator"] if self.version in OFFICIAL else []),
            *(["profile definitions"] if self.version in OFFICIAL and self.profile else []),
            *(["fhir.resources"] if self.version in MODELS else []),
            "element lists",
        )


@dataclass(frozen=True, slots=True)
class Case:
    """Resources of one study, and where they are from; none when the bridge refuses to write it so."""

    output: Output
    where: str
    resources: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class KnownWarning:
    """An entry of ``known_warnings.toml``."""

    title: str
    message: str
    reason: str
    location: str = ""
    versions: Sequence[str] = OFFICIAL
    profiles: Sequence[str] | None = None

    def matches(self, output: Output, finding: Finding) -> bool:
        """Whether this explains a warning."""
        return (
            output.version in self.versions
            and (self.profiles is None or output.profile in self.profiles)
            and re.search(self.location, re.sub(r"\[\d+\]", "", finding.location)) is not None
            and re.search(self.message, finding.message) is not None
        )


@dataclass(slots=True)
class Result:
    """What the checkers found; all is well when there are no ``errors`` and nothing is ``unexplained``."""

    errors: dict[Output, list[str]] = field(default_factory=lambda: defaultdict(list))
    unexplained: list[str] = field(default_factory=list)
    warnings: dict[Output, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Titles of the known warnings that came up."""


@cache
def known_warnings() -> tuple[KnownWarning, ...]:
    """The warnings that stay."""
    return tuple(KnownWarning(**entry) for entry in tomllib.loads(KNOWN_WARNINGS.read_text("utf-8"))["warning"])


@cache
def golden() -> tuple[Case, ...]:
    """Every golden case, as it stands in its files."""
    cases = []
    for path in sorted(CASES_DIRECTORY.glob("*/expected.*.json")):
        written = json.loads(path.read_text("utf-8"))
        resources = with_orders_inside(written) if isinstance(written, list) else ()
        name = path.name.removeprefix("expected.").removesuffix(".json")
        for output in _outputs(name):
            cases.append(Case(output, f"{path.parent.name}/{path.name}", resources))
    return tuple(cases)


def with_orders_inside(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """The resources as they are written: a DiagnosticOrder stands inside the study or is somebody else's, as other
    orders and encounters always are."""
    each = to_be_written(resources)
    orders = [Entry(one, Write.LINK, inside=one["id"]) for one in each if one["resourceType"] == "DiagnosticOrder"]
    inside = {order.placeholder: bundle.unlinked(order) for order in orders}
    return tuple(bundle.refer(one, inside, orders) for one in each if one["resourceType"] != "DiagnosticOrder")


def _outputs(name: str) -> list[Output]:
    """What a golden file shows by its name: a dialect, a profile, or ``PROFILE.VERSION``."""
    if name in DIALECTS:
        return [Output(name), *(Output(other) for other, same in SAME_FILES.items() if same == name)]
    profile_name, _, version = name.partition(".")
    return [Output(version or "R4", profile_name)]


def outputs() -> list[Output]:
    """Every version, and every profile in each of its versions."""
    return [
        *(Output(name) for name in DIALECTS),
        *(Output(version, name) for name in load.names() for version in tomllib.loads(profile_text(name))["versions"]),
    ]


def profile_text(name: str) -> str:
    """The file of a profile that comes along."""
    return (Path(load.__file__).parent / "profiles" / f"{name}.toml").read_text("utf-8")


@cache
def _generated_studies() -> tuple[tuple[str, Study], ...]:
    return tuple(
        (name, study)
        for name, case in CASES.items()
        if case.outcome == "accepted"
        for study in studies_of(encoded(name))
    )


def generated() -> Iterator[Case]:
    """Every study of ``testdata/make_dicom.py`` in every version, written in both ways."""
    for version, dialect in DIALECTS.items():
        for name, study in _generated_studies():
            for policy in POLICIES:
                try:
                    entries = map_study(study, dialect, policy).everything
                except NotExpressible:
                    continue
                yield Case(Output(version), name, with_orders_inside([entry.resource for entry in entries]))


def check(cases: Iterable[Case], validator: ValidatorProcess) -> Result:
    """Let every checker look at every resource, at equal ones once."""
    result = Result()
    asked: dict[tuple[Output, str], str] = {}
    for case in cases:
        for resource in case.resources:
            asked.setdefault((case.output, json.dumps(resource)), case.where)
    for (output, text), where in asked.items():
        resource = json.loads(text)
        found = element_checker.check(resource, output.version)
        if output.version in MODELS:
            found += [f"{note.where} {note.text}" for note in validate.check(resource, output.version)]
        result.errors[output] += [f"{where}: {finding}" for finding in found]
    official = [(output, text) for output, text in asked if output.version in OFFICIAL]
    answers = validator.check_all(Question(output.version, json.loads(text)) for output, text in official)
    for (output, text), findings in zip(official, answers, strict=True):
        where = asked[output, text]
        result.errors[output] += [f"{where}: {error}" for error in findings.errors]
        for warning in findings.warnings:
            titles = {known.title for known in known_warnings() if known.matches(output, warning)}
            result.warnings[output] |= titles
            if not titles:
                result.unexplained.append(f"{output} {where}: {warning}")
    return result


def rows() -> Iterator[tuple[Output, list[str]]]:
    """The cells of the page's table that the golden cases fill."""
    written = [case for case in golden() if case.resources]
    count = Counter(case.output for case in written)
    refused = Counter(case.output for case in golden() if not case.resources)
    claims = Counter(case.output for case in written if "profile" in case.resources[0].get("meta", {}))
    for output in outputs():
        cells = [
            f"{output.version} ({DIALECTS[output.version].fhir_version})",
            output.profile or "-",
            str(count[output]),
            str(claims[output]) if output.profile else "-",
            str(refused[output]),
            ", ".join(output.checks),
        ]
        yield output, cells


def page(result: Result) -> str:
    """``docs/conformance.md``."""
    numbers = {known.title: number for number, known in enumerate(known_warnings(), 1)}
    lines = [
        "# Conformance of the output",
        "",
        f"""Generated by `make conformance`, which runs the checks. Golden cases are the folders of `testdata/cases`. \
In addition, the {len(_generated_studies())} studies of `testdata/make_dicom.py` go through the same checks in every \
version, with everything contained in the ImagingStudy and with everything in separate resources.""",
        "",
        "| FHIR version | Profile | Golden cases | Claim the profile | Refused | Checks | Errors | Warnings |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for output, cells in rows():
        titles = sorted(result.warnings[output], key=numbers.__getitem__)
        warnings = ", ".join(str(numbers[title]) for title in titles)
        cells += [str(len(result.errors[output])), warnings or ("none" if output.version in OFFICIAL else "-")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        """* *Claim the profile*: the ImagingStudy names it in `meta.profile`, because no value that it requires is \
missing.""",
        """* *Refused*: the study cannot be written in this version and profile, or not before its first instance \
arrives; the golden case contains the reason.""",
        "* *Official validator*: HL7's InstanceValidator in HAPI FHIR 8.8.1, with the definitions of that version.",
        """* *Profile definitions*: the same validator, with StructureDefinitions written for the tests from what is \
known of the profile (`tests/data/definitions`); those of its authors contain more. Resources that claim the profile \
are validated against them.""",
        "* *fhir.resources*: its models of STU3, R4B (for R4 too) and R5.",
        """* *Element lists*: elements, cardinalities, datatypes and targets of references \
(`tests/element_checker.py`). For 3.2.0 and R6 there is no other check; R6 is checked against the elements of \
6.0.0-ballot3.""",
        "* *Warnings*: the numbers of the warnings below that occur.",
        "",
        "## Accepted warnings",
        "",
    ]
    lines += [f"{number}. **{known.title}**: {known.reason}" for number, known in enumerate(known_warnings(), 1)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the checks and write the page."""
    validator = ValidatorProcess()
    try:
        result = check([*golden(), *generated()], validator)
    finally:
        validator.close()
    errors = [f"{output} {error}" for output, found in result.errors.items() for error in found]
    print(*errors, *result.unexplained, sep="\n")
    PAGE.write_text(page(result), "utf-8")
    print(f"wrote {PAGE}: {len(errors)} errors, {len(result.unexplained)} warnings that are not explained")
    sys.exit(bool(errors or result.unexplained))


if __name__ == "__main__":
    main()
