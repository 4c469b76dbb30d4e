"""When to retry: the pause after a number of failures, and the circuit breaker of a destination."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

_MOST_PROBED = 4**5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to retry, and when to give up.

    Pauses grow, with full jitter, up to a limit. A destination that is down is retried forever, and so is a study that
    fails, unless the destination accepts others meanwhile.

    Parameters
    ----------
    first_s, factor, cap_s
        The maximum pause after the first failure, its growth factor with each further failure, and its limit.
    give_up_after_s
        How long a study may fail while its destination accepts others.
    """

    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    give_up_after_s: float = 86_400.0

    @property
    def most_at_once_s(self) -> float:
        """The most that one try counts towards ``give_up_after_s``.

        So several tries are needed, each after a success of other studies: a single long gap may have been an outage
        that affected no other study.
        """
        return self.give_up_after_s / 3

    def pause_s(self, failures: int, at_least_s: float, random: float) -> float:
        """The pause after a number of failures (from 1).

        Parameters
        ----------
        at_least_s
            The pause that the server asked for (``Retry-After``); the jitter is added to it.
        random
            From 0 to 1.
        """
        exponent = min(max(failures, 1) - 1, 64)
        return at_least_s + random * min(self.cap_s, self.first_s * self.factor**exponent)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a destination; times are on the circuit's clock."""

    state: Literal["untried", "up", "down", "paused"]
    """``untried`` until it has answered or failed; ``paused`` if it asked for the pause."""
    since: float
    until: float
    """The time of the next try, not earlier; only valid while it is down or paused."""
    reason: str


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to use a destination once."""

    is_probe: bool
    failures: int = 0
    """Number of consecutive failures before it."""

    @property
    def choice(self) -> int:
        """Among how many of the studies that are due longest a probe chooses, by chance.

        It grows with each failure, so that a run of studies at fault is skipped soon. By chance, because the study that
        was tried last is due again with the next probe: a number that is fixed could choose it each time.
        """
        return min(4 ** (self.failures - 1), _MOST_PROBED) if self.failures else 1


class Circuit:
    """Whether a destination may be used: without limit, or - while it is down - by one probe at a time, with pauses.

    Parameters
    ----------
    clock
        Monotonic seconds.
    random
        Returns numbers from 0 to 1.
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
        """The state of the destination."""
        return self._standing

    def wait_s(self) -> float:
        """Seconds until the next probe; 0 while the destination is up."""
        with self._lock:
            return max(self._standing.until - self._clock(), 0.0) if self._failures else 0.0

    def up_s(self) -> float:
        """Seconds since the destination was last down, or since the start; 0 while it is down."""
        with self._lock:
            return 0.0 if self._failures else self._clock() - self._standing.since

    def enter(self) -> Permit | None:
        """Request use of the destination; a Permit must be returned with ``leave``, ``answered`` or ``failed``."""
        with self._lock:
            if not self._failures:
                return Permit(is_probe=False)
            if self._probing or self._clock() < self._standing.until:
                return None
            self._probing = True
            return Permit(is_probe=True, failures=self._failures)

    def hurry(self) -> None:
        """End the pause: the next probe is allowed now."""
        with self._lock:
            self._standing = replace(self._standing, until=self._clock())

    def leave(self, permit: Permit) -> None:
        """Return a permit that was not used, or whose result does not concern the destination."""
        with self._lock:
            self._probing = self._probing and not permit.is_probe

    def answered(self, permit: Permit) -> bool:
        """Record that the destination works; True if it was down before."""
        with self._lock:
            was_down = self._failures > 0
            if self._standing.state != "up":
                self._standing = Standing("up", self._clock(), 0.0, "")
            self._failures = 0
            self._probing = self._probing and not permit.is_probe
            return was_down

    def failed(self, permit: Permit, reason: str, at_least_s: float) -> bool:
        """Record that the destination is down; True if it was up before."""
        with self._lock:
            was_up = self._failures == 0
            if was_up or permit.is_probe:  # deliveries that had started before it went down are not counted again
                self._failures += 1
                now = self._clock()
                until = now + self._policy.pause_s(self._failures, at_least_s, self._random())
                since = now if was_up else self._standing.since
                self._standing = Standing("paused" if at_least_s else "down", since, until, reason)
            self._probing = self._probing and not permit.is_probe
            return was_up
