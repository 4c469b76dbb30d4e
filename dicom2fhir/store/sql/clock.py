"""The wall clock, and whether it was set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_TOLERANCE_S = 1.0
"""Threads may report their readings out of order. A smaller step delays nothing for longer than itself."""


class Reading(NamedTuple):
    """A reading of the wall clock."""

    now: float
    ahead_s: float
    """How far it was ahead of the steady clock."""


class Clock:
    """Gives the time in seconds since the epoch, and detects when the clock was set.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    steady
        Monotonic seconds. Without it a step forward cannot be distinguished from elapsed time.
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
        """How far the clock was set forward, or (negative) at least how far back, since :meth:`forget_steps`; or 0."""
        back_s = self._wall() - self._latest
        if back_s < -_TOLERANCE_S:
            return back_s
        ahead_s = self._ahead_s()
        forward_s = ahead_s - self._known_ahead_s
        if forward_s > _TOLERANCE_S:
            return forward_s
        self._known_ahead_s = ahead_s  # slewing changes it a little each time
        return 0.0

    def forget_steps(self, before: Reading) -> None:
        """Forget the steps before this reading, because due times were corrected for it; later steps are reported."""
        self._latest, self._known_ahead_s = before

    def _ahead_s(self) -> float:
        return self._wall() - self._steady() if self._steady else 0.0
