"""How many examples Hypothesis makes of a test."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

from tests.left_out import in_ci


def load_profile(name: str | None) -> None:
    """Set what holds where a test says nothing else.

    Parameters
    ----------
    name
        ``desk`` or ``ci``; without one, as the machine is. At the desk each run searches elsewhere, and
        less. In CI a commit fails always or never. A failure prints what repeats it.
    """
    settings.register_profile("desk", max_examples=10, deadline=None, print_blob=True)
    settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True, derandomize=True)
    settings.load_profile(name or ("ci" if in_ci() else "desk"))


def examples(number: int, **more: Any) -> settings:
    """So many in CI, a tenth at the desk."""
    return settings(max_examples=number if in_ci() else max(number // 10, 5), **more)
