"""What the receiver turned away since it started, counted by kind, for those who ask how the daemon is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Refusals:
    """Counts by kind; any thread may count. The kinds are few, whatever peers send."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, kind: str) -> None:
        """One more of a kind."""
        with self._lock:
            self._counts[kind] += 1

    def counts(self) -> Mapping[str, int]:
        """Kind -> number."""
        with self._lock:
            return dict(self._counts)
