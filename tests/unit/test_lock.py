"""``requirements-dev.lock`` serves ``pyproject.toml``; ``make lock`` makes it again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements-dev.lock").read_text()
PINS = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)}


@pytest.mark.parametrize("text", PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"])
def test_every_dependency_is_pinned_to_a_version_that_fits(text: str) -> None:
    requirement = Requirement(text)
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_every_pin_has_its_hashes_and_no_index_is_named() -> None:
    assert len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", LOCK, re.MULTILINE)) == len(PINS)
    assert "://" not in LOCK
