"""The README's steps of "In production", as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
_INDENT = " " * 7


def steps() -> dict[int, list[str]]:
    """Number of each step -> its indented lines: what is typed, and what is written into the configuration."""
    section = README[README.index("**In production**") : README.index("### Changing the configuration")]
    found = re.split(r"^(\d)\. ", section, flags=re.MULTILINE)
    return {
        int(number): [line.removeprefix(_INDENT) for line in text.splitlines() if line.startswith(_INDENT)]
        for number, text in zip(found[1::2], found[2::2], strict=True)
    }
