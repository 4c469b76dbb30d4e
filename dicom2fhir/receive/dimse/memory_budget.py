"""How much of data sets all associations may hold in memory together.

One association is bounded by its budgets, but a hundred that each send the longest header would not be.
"""

from __future__ import annotations

import threading

from dicom2fhir.errors import Transient

STEP_BYTES = 1024 * 1024
"""What an association holds without asking, so that usual headers never do; it asks for as much again each time."""


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

    def __init__(self, space: HeaderSpace) -> None:
        self._space = space
        self._taken = 0

    def hold(self, held_bytes: int) -> None:
        """Hold so many bytes from now on.

        Raises
        ------
        Transient
            There are not so many left; then nothing is held, so that others can go on.
        """
        beyond = -(-held_bytes // STEP_BYTES) * STEP_BYTES - STEP_BYTES if held_bytes > STEP_BYTES else 0
        if beyond > self._taken and not self._space.take(beyond - self._taken):
            self.let_go()
            raise Transient("The data sets of all associations together take too much memory.")
        if beyond < self._taken:
            self._space.give_back(self._taken - beyond)
        self._taken = beyond

    def let_go(self) -> None:
        """Hold nothing any more."""
        if self._taken:
            self._space.give_back(self._taken)
        self._taken = 0
