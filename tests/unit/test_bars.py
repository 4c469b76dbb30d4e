"""The files of the bars are found by the numbers that their marks give."""

from __future__ import annotations

import re
from pathlib import Path

BARS = Path(__file__).parents[1] / "acceptance"


def test_the_mark_of_a_bar_is_the_number_of_its_file() -> None:
    for path in BARS.glob("test_bar_*.py"):
        number = re.fullmatch(r"test_bar_(\d\d)_\w+", path.stem)
        assert number is not None, path.name
        assert set(re.findall(r"\bmark\.bar\((\d+)\)", path.read_text("utf-8"))) == {str(int(number[1]))}, path.name
