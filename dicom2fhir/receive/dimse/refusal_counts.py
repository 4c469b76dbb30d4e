"""What the receiver has refused since it started, counted by kind, for the state of the daemon."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Refusals:
    """Counts by kind; any thread may count. Peers cannot create new kinds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, kind: str) -> None:
        """Add one to the count of a kind."""
        with self._lock:
            self._counts[kind] += 1

    def counts(self) -> Mapping[str, int]:
        """Kind -> number."""
        with self._lock:
            return dict(self._counts)
