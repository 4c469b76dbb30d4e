"""An audit that could not be made never looks like one that found nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.audit import verdict

CLEAN = {"name": "one", "version": "1", "vulns": []}
FLAWED = {"name": "two", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "three", "skip_reason": "Dependency not found on PyPI and could not be audited: three (3)"}


def audited(*dependencies: dict[str, Any]) -> tuple[int, list[str]]:
    return verdict(int(FLAWED in dependencies), json.dumps({"dependencies": dependencies}), "")


def test_nothing_is_known() -> None:
    assert audited(CLEAN) == (0, ["audited 1 of 1 packages: 0 known vulnerabilities"])


def test_what_is_known_fails() -> None:
    status, said = audited(CLEAN, FLAWED, SKIPPED)
    assert status == 1
    assert said[0] == "two 2: PYSEC-1, fixed in 3"
    assert said[1] == "audited 2 of 3 packages: 1 known vulnerabilities"
    assert said[2].startswith("NOT AUDITED")


def test_packages_without_data_are_told() -> None:
    """pip-audit ends with 0 and "no known vulnerabilities" then."""
    assert audited(SKIPPED, SKIPPED) == (0, ["NOT AUDITED: no vulnerability data for 2 of 2 packages"])


@pytest.mark.parametrize(
    "error", ["requests.exceptions.ProxyError: x", "requests.exceptions.ConnectionError: x", "requests.ReadTimeout: x"]
)
def test_data_that_cannot_be_reached_is_told(error: str) -> None:
    status, (said,) = verdict(1, "", f"Traceback\n{error}\n")
    assert status == 0
    assert said == f"NOT AUDITED: the vulnerability data cannot be reached: {error}"


@pytest.mark.parametrize("stdout", ["", "{}", '{"dependencies": []}', "[]"])
def test_another_end_fails(stdout: str) -> None:
    status, said = verdict(1, stdout, "ERROR: requirements-dev.lock has duplicate requirements\n")
    assert status == 1
    assert said[0].startswith("the audit failed")
