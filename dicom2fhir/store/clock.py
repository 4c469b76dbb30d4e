"""The wall clock, and whether somebody has set it."""

from __future__ import annotations

import math
from collections.abc import Callable

_TOLERANCE_S = 1.0
"""Threads read the clock and are then overtaken; a step as small as this delays nothing for longer than itself."""


class Clock:
    """Tells the time in seconds since the epoch, and notices a step of it.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    steady
        Seconds that only go forward, whatever the wall clock does. Without it a step forward cannot be told from time
        that passes.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._steady = steady
        self._latest = -math.inf
        self._known_ahead_s = self._ahead_s()

    def now(self) -> float:
        """Seconds since the epoch."""
        now = self._wall()
        self._latest = max(self._latest, now)
        return now

    def step_s(self) -> float:
        """How far the clock was set forward, or (negative) at least was set back, and that is not forgotten; else 0."""
        back_s = self._wall() - self._latest
        if back_s < -_TOLERANCE_S:
            return back_s
        ahead_s = self._ahead_s()
        forward_s = ahead_s - self._known_ahead_s
        if forward_s > _TOLERANCE_S:
            return forward_s
        self._known_ahead_s = ahead_s  # a clock that is slewed gains a little each time
        return 0.0

    def forget_steps(self, now: float) -> None:
        """What depends on the clock has been put right, by the time ``now``."""
        self._latest = now
        self._known_ahead_s = self._ahead_s()

    def _ahead_s(self) -> float:
        return self._wall() - self._steady() if self._steady else 0.0
