"""``docs/conformance.md`` lists what there is now; tests/acceptance/test_validators.py looks whether it is so."""

from __future__ import annotations

from functools import cache

import pytest

from tests.conformance import PAGE, Output, known_warnings, outputs, page, rows
from tests.conformance import Result as Nothing
from tests.data.make_definitions import DEFINITIONS, definitions


@cache
def cells() -> dict[Output, list[str]]:
    return dict(rows())


@pytest.mark.parametrize("output", outputs(), ids=lambda output: f"{output.version}-{output.profile}".strip("-"))
def test_the_page_has_the_number_of_golden_cases(output: Output) -> None:
    start = f"| {' | '.join(cells()[output])} |"
    (line,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(start)]
    assert line.removeprefix(start).split(" | ")[0].strip() == "0", "errors"


def test_the_page_has_nothing_else() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(cells()) + 2
    assert lines[-len(known_warnings()) :] == page(Nothing()).splitlines()[-len(known_warnings()) :]


def test_the_definitions_are_those_of_the_table() -> None:
    written = {path: path.read_text("utf-8") for path in DEFINITIONS.rglob("*.json") if path.parent.name != "osiris"}
    assert written == definitions(), "run: python -m tests.data.make_definitions"


def test_each_version_and_each_profile_has_its_golden_cases() -> None:
    written = {output: int(row[2]) for output, row in cells().items()}
    assert [output for output, count in written.items() if count < 12] == []
