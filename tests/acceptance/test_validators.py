"""Every checker that there is finds no error in anything that delivery writes, and each warning is explained."""

from __future__ import annotations

import pytest

from tests.conformance import PAGE, Output, Result, check, generated, golden, known_warnings, page
from tests.servers.validator.validator import ValidatorProcess

pytestmark = pytest.mark.timeout(900)
"""The first of these tests waits for all checks, a minute on two cores that have nothing else to do."""


@pytest.fixture(scope="module")
def result(validator: ValidatorProcess) -> Result:
    return check([*golden(), *generated()], validator)


def test_there_is_no_error(result: Result) -> None:
    assert [f"{output}: {error}" for output, errors in result.errors.items() for error in errors] == []


def test_each_warning_is_explained(result: Result) -> None:
    assert result.unexplained == [], "remove the cause, or explain it in tests/data/known_warnings.toml"


def test_each_explained_warning_still_comes_up(result: Result) -> None:
    came_up = {(title, output) for output, titles in result.warnings.items() for title in titles}
    listed = {
        (known.title, Output(version, profile))
        for known in known_warnings()
        for version in known.versions
        for profile in known.profiles or ("",)
    }
    assert listed - came_up == set(), "take it out of tests/data/known_warnings.toml"


def test_the_page_says_so(result: Result) -> None:
    assert PAGE.read_text("utf-8") == page(result), "run `make conformance`"
