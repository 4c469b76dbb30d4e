"""``docs/conformance.md`` lists what there is now; tests/acceptance/test_validators.py looks whether it is so."""

from __future__ import annotations

import tomllib
from functools import cache

import pytest

from tests.conformance import PAGE, accepted_warnings, rows
from tests.conformance_cases import Output, outputs, profile_of, profiled_outputs
from tests.data.make_definitions import DEFINITIONS, definitions
from tests.guides import GUIDES


@cache
def cells() -> dict[Output, list[str]]:
    return dict(rows())


@pytest.mark.parametrize("output", outputs(), ids=lambda output: f"{output.version}-{output.profile}".strip("-"))
def test_the_page_has_the_number_of_golden_cases(output: Output) -> None:
    start = f"| {' | '.join(cells()[output])} |"
    (line,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(start)]
    assert line.removeprefix(start).split(" | ")[0].strip() == "0", "errors"


def test_the_page_has_nothing_else() -> None:
    golden, _, profiles = PAGE.read_text("utf-8").partition("## Profiles")
    assert len([line for line in golden.splitlines() if line.startswith("| ")]) == len(cells()) + 2
    assert profiles.splitlines()[-len(accepted_warnings()) :] == accepted_warnings()


def test_the_definitions_are_those_of_the_table() -> None:
    written = {path: path.read_text("utf-8") for path in DEFINITIONS.rglob("*.json") if path.parent.name != "osiris"}
    assert written == definitions(), "run: python -m tests.data.make_definitions"


def test_each_version_and_each_profile_has_its_golden_cases() -> None:
    written = {output: int(row[2]) for output, row in cells().items()}
    assert [output for output, count in written.items() if count < 12] == []


@pytest.mark.parametrize("output", profiled_outputs(), ids=str)
def test_a_profile_whose_guide_has_definitions_is_judged_by_them(output: Output) -> None:
    profile = profile_of(output)
    assert profile is not None
    listed = tomllib.loads(GUIDES.read_text("utf-8")).get(output.version, {})
    assert (output.profile in listed) == (profile.unverified != "facts"), "see tests/data/guides.toml"
