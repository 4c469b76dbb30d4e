"""How long the latest attempts to deliver took."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from statistics import median

_LATEST = 50
"""Attempts of a destination that count."""


class Latencies:
    """Durations by destination; any thread may add one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LATEST))

    def add(self, destination: str, duration_s: float) -> None:
        """Record an attempt."""
        with self._lock:
            self._latest[destination].append(duration_s)

    def median_s(self, destination: str) -> float | None:
        """The median, to the millisecond; None before the first attempt."""
        with self._lock:
            latest = [*self._latest[destination]]
        return round(median(latest), 3) if latest else None
