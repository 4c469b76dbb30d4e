"""The memory that everybody who sends data sets may use together.

Budgets limit one association, but not a hundred that each send the longest header.
"""

from __future__ import annotations

import threading

from dicom2fhir.errors import Transient

STEP_BYTES = 1024 * 1024
"""A sender holds this much without a reservation, enough for usual headers; more is reserved in such steps."""


class HeaderSpace:
    """Bytes that all senders together may hold, without the first :data:`STEP_BYTES` of each."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Reserve so many bytes; False if fewer are left."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def resize(self, by: int) -> None:
        """Raise or lower the limit; bytes reserved beyond a lower limit are not available again once returned."""
        with self._lock:
            self._left += by

    def give_back(self, count: int) -> None:
        """Return reserved bytes."""
        with self._lock:
            self._left += count


class Share:
    """The bytes that one sender holds, for one message at a time."""

    def __init__(self, space: HeaderSpace) -> None:
        self._space = space
        self._taken = 0

    def hold(self, held_bytes: int) -> None:
        """Set the number of bytes held.

        Raises
        ------
        Transient
            Fewer are left; then all held bytes are released, so that others can go on.
        """
        beyond = -(-held_bytes // STEP_BYTES) * STEP_BYTES - STEP_BYTES if held_bytes > STEP_BYTES else 0
        if beyond > self._taken and not self._space.take(beyond - self._taken):
            self.let_go()
            raise Transient("The data sets of all senders together take too much memory.")
        if beyond < self._taken:
            self._space.give_back(self._taken - beyond)
        self._taken = beyond

    def let_go(self) -> None:
        """Release all held bytes."""
        if self._taken:
            self._space.give_back(self._taken)
        self._taken = 0
