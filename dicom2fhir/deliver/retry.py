"""When to try again: a pause as a value of the number of failures, and the pause of a destination that is down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

_MOST_PASSED_OVER = 4**5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again, and when no more.

    Pauses grow, with full jitter, up to a limit. A destination that is down is tried without end, and so is a study
    that fails, unless the destination accepts others meanwhile.

    Parameters
    ----------
    first_s, factor, cap_s
        The longest pause after the first failure, its growth with each further one, and its limit.
    give_up_after_s
        How long a study may fail while its destination accepts others.
    """

    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    give_up_after_s: float = 86_400.0

    @property
    def most_at_once_s(self) -> float:
        """What is counted towards ``give_up_after_s`` for one try.

        Several tries decide, each after a success of others: a single long gap may have been an outage that nobody else
        met.
        """
        return self.give_up_after_s / 3

    def pause_s(self, failures: int, at_least_s: float, random: float) -> float:
        """The pause after a number of failures (from 1).

        Parameters
        ----------
        at_least_s
            What the other side asked for (``Retry-After``); the jitter comes on top of it.
        random
            From 0 to 1.
        """
        exponent = min(max(failures, 1) - 1, 64)
        return at_least_s + random * min(self.cap_s, self.first_s * self.factor**exponent)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a destination stands; times are on the circuit's clock."""

    state: Literal["untried", "up", "down", "paused"]
    """``untried`` until it has answered or failed; ``paused`` while it asked to be left alone."""
    since: float
    until: float
    """The next try is not earlier; means something while it is down or paused."""
    reason: str


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to use a destination once."""

    is_probe: bool
    failures: int = 0
    """That came before it in a row."""

    @property
    def passed_over(self) -> int:
        """How many studies a probe leaves out.

        More with each failure, so that a run of studies at fault is soon passed.
        """
        return min(4 ** (self.failures - 1), _MOST_PASSED_OVER) - 1 if self.failures else 0


class Circuit:
    """Whether a destination may be used: freely, or - while it is down - by one probe at a time, with pauses.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    random
        Gives numbers from 0 to 1.
    """

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._failures = 0
        self._probing = False
        self._standing = Standing("untried", clock(), 0.0, "")

    @property
    def reason(self) -> str:
        """Why the destination is down; empty while it is up."""
        return self._standing.reason

    @property
    def standing(self) -> Standing:
        """How the destination stands."""
        return self._standing

    def wait_s(self) -> float:
        """Seconds until the next probe; 0 while the destination is up."""
        with self._lock:
            return max(self._standing.until - self._clock(), 0.0) if self._failures else 0.0

    def up_s(self) -> float:
        """Seconds since the destination was down last, or since the beginning; 0 while it is down."""
        with self._lock:
            return 0.0 if self._failures else self._clock() - self._standing.since

    def enter(self) -> Permit | None:
        """Ask to use the destination; a Permit must be given back by one of the other methods."""
        with self._lock:
            if not self._failures:
                return Permit(is_probe=False)
            if self._probing or self._clock() < self._standing.until:
                return None
            self._probing = True
            return Permit(is_probe=True, failures=self._failures)

    def hurry(self) -> None:
        """End the pause: the next probe may be now."""
        with self._lock:
            self._standing = replace(self._standing, until=self._clock())

    def leave(self, permit: Permit) -> None:
        """The permit was not used, or says nothing about the destination."""
        with self._lock:
            self._probing = self._probing and not permit.is_probe

    def answered(self, permit: Permit) -> bool:
        """The destination works; True when it was down before."""
        with self._lock:
            was_down = self._failures > 0
            if self._standing.state != "up":
                self._standing = Standing("up", self._clock(), 0.0, "")
            self._failures = 0
            self._probing = self._probing and not permit.is_probe
            return was_down

    def failed(self, permit: Permit, reason: str, at_least_s: float) -> bool:
        """The destination is down; True when it was up before."""
        with self._lock:
            was_up = self._failures == 0
            if was_up or permit.is_probe:  # what was under way when it went down says nothing new
                self._failures += 1
                now = self._clock()
                until = now + self._policy.pause_s(self._failures, at_least_s, self._random())
                since = now if was_up else self._standing.since
                self._standing = Standing("paused" if at_least_s else "down", since, until, reason)
            self._probing = self._probing and not permit.is_probe
            return was_up
