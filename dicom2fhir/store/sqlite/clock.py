"""The wall clock, and whether somebody has set it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_TOLERANCE_S = 1.0
"""Threads read the clock and are then overtaken; a step as small as this delays nothing for longer than itself."""


class Reading(NamedTuple):
    """What the wall clock said at one moment."""

    now: float
    ahead_s: float
    """How far it was ahead of the steady clock."""


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

    def read(self) -> Reading:
        """The time, for :meth:`forget_steps`."""
        ahead_s = self._ahead_s()
        return Reading(self.now(), ahead_s)

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

    def forget_steps(self, before: Reading) -> None:
        """What depends on the clock has been put right for this reading; a step since then is still one."""
        self._latest, self._known_ahead_s = before

    def _ahead_s(self) -> float:
        return self._wall() - self._steady() if self._steady else 0.0
