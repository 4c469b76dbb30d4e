"""The lock files serve ``pyproject.toml``; ``make lock`` makes them again."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
RUN, EXTRAS, DEV, DOCS, TOOLS = (
    (ROOT / f"requirements{name}.lock").read_text() for name in ("", "-extras", "-dev", "-docs", "-tools")
)

FOR_DAEMONS = [found for extra, found in PROJECT["project"]["optional-dependencies"].items() if extra != "dask"]
"""Dask has to have the version of its cluster."""


def pins(lock: str) -> dict[str, str]:
    """Package -> version."""
    found = re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        (RUN, PROJECT["project"]["dependencies"]),
        (EXTRAS, PROJECT["project"]["dependencies"] + [*chain(*FOR_DAEMONS)]),
        (DEV, PROJECT["project"]["dependencies"] + GROUPS["dev"]),
        (DOCS, GROUPS["docs"]),
        (TOOLS, GROUPS["tools"]),
    ],
    ids=["run", "extras", "dev", "docs", "tools"],
)
def test_every_dependency_is_pinned_to_a_version_that_fits(lock: str, requirements: list[str]) -> None:
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pins(lock)[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("lock", [RUN, EXTRAS, DEV, DOCS, TOOLS], ids=["run", "extras", "dev", "docs", "tools"])
def test_every_pin_has_its_hashes_and_no_index_is_named(lock: str) -> None:
    assert len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", lock, re.MULTILINE)) == len(pins(lock))
    assert "://" not in lock


def test_what_is_tested_is_what_is_released() -> None:
    """The bill of materials lists ``requirements.lock``; the tests run with ``requirements-dev.lock``."""
    assert pins(RUN).items() <= pins(EXTRAS).items() <= pins(DEV).items()
