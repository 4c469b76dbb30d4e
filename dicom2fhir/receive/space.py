"""How much of data sets all associations may hold in memory together.

One association is bounded by its budgets, but a hundred that each send the longest header would not be.
"""

from __future__ import annotations

import threading

STEP_BYTES = 1024 * 1024
"""What an association holds without asking; it asks for as much again each time, so usual headers never do."""


class HeaderSpace:
    """Bytes that all associations may hold together, besides the first :data:`STEP_BYTES` of each."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether there is so much left, which is then the caller's."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def resize(self, by: int) -> None:
        """Hold so many bytes more from now on, or less: what is taken beyond that is not given again."""
        with self._lock:
            self._left += by

    def give_back(self, count: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._left += count


class Share:
    """What one association holds of the space, for one message after the other."""

    __slots__ = ("_held", "_space", "_taken", "is_spent")

    def __init__(self, space: HeaderSpace) -> None:
        self._space = space
        self._held = self._taken = 0
        self.is_spent = False
        """Whether there was not enough for the present message."""

    def hold(self, count: int) -> bool:
        """Whether so many bytes more may be held; if not, nothing may be, so that others can go on."""
        self._held += count
        while self._held > STEP_BYTES + self._taken:
            if not self._space.take(STEP_BYTES):
                self.let_go()
                self.is_spent = True
                return False
            self._taken += STEP_BYTES
        return True

    def let_go(self) -> None:
        """Hold nothing any more."""
        if self._taken:
            self._space.give_back(self._taken)
        self._held = self._taken = 0
        self.is_spent = False
