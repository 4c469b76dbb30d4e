"""Calls at a point in time unless they are cancelled before: the time limits of HTTP exchanges.

One thread makes all calls: a ``threading.Timer`` for each starts and ends a thread, which took a tenth of the processor
time of a delivery.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DEFAULT_TIMEOUT_S = 30.0
"""For one exchange with a server, from connecting to the last byte of the answer."""


class Deadlines:
    """Pending calls. The thread runs while there are any, and at most until the earliest of the last ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._wakes_at: float | None = None
        """When the thread wakes next, on ``time.monotonic``; None while there is no thread."""

    @contextmanager
    def limit(self, when: float, call: Callable[[], None]) -> Iterator[None]:
        """Call ``call`` if the block is still running at ``when`` (``time.monotonic``); never after the block.

        ``call`` runs in another thread and must neither wait nor raise.
        """
        number = next(self._numbers)
        with self._changed:
            if self._wakes_at is None:
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
                self._wakes_at = when  # only now: if the thread cannot be started, the next call tries again
            elif when < self._wakes_at:
                self._changed.notify()
            self._calls[number] = (when, call)
        try:
            yield
        finally:
            with self._changed:
                self._calls.pop(number, None)

    def _run(self) -> None:
        with self._changed:
            while self._calls:
                now = time.monotonic()
                due = [(when, number) for number, (when, _) in self._calls.items() if when <= now]
                for _, number in sorted(due):
                    self._calls.pop(number)[1]()
                if self._calls:
                    self._wakes_at = min(when for when, _ in self._calls.values())
                    self._changed.wait(max(self._wakes_at - time.monotonic(), 0.0))
            self._wakes_at = None
