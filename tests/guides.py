"""The guides' own definitions of profiles: StructureDefinitions, ValueSets and CodeSystems of their authors.

Their licences differ, so they do not come with the project. They are used in place, from the folder that the
environment variable ``GUIDE_DEFINITIONS`` names, by default ``../shared/spec/definitions`` beside the project;
``tests/data/guides.toml`` names the folders in it that each profile needs. Without them the compact definitions of
``tests/data/definitions`` judge alone.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

from tests.servers.validator.validator import COMPACT_DEFINITIONS

FOLDER = Path(
    os.environ.get("GUIDE_DEFINITIONS") or Path(__file__).parents[2] / "shared" / "spec" / "definitions"
).resolve()
NOT_FOUND = f"guides' own definitions not found at {FOLDER}: only the compact ones are used"
GUIDES = Path(__file__).with_name("data") / "guides.toml"
_BESIDE_A_GUIDE = ("cross-version", "sliced-by", "radiation-dose-summary")
"""The compact definitions of what a guide relies on and does not define itself, and of what a study has beside it."""


def are_there() -> bool:
    """Whether the folder exists."""
    return FOLDER.is_dir()


@cache
def definitions(version: str, profile: str) -> tuple[Path, ...]:
    """The folders that judge a profile in place of the compact definitions; none if its guide's are not available."""
    names = tomllib.loads(GUIDES.read_text("utf-8")).get(version, {}).get(profile, ())
    if not names or not are_there():
        return ()
    compact = (COMPACT_DEFINITIONS / version / name for name in _BESIDE_A_GUIDE)
    return (*(FOLDER / name for name in names), *(folder for folder in compact if folder.is_dir()))
