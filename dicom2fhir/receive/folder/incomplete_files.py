"""Files that may not be complete yet, and how long each has not changed."""

from __future__ import annotations

from collections.abc import Callable

from dicom2fhir.receive.folder.files import Found

_MOST = 200_000
"""About 20 MB. Further files are read again at every look through the folder until there is room."""


class LeftAlone:
    """Remembers since when files have looked as they do.

    Parameters
    ----------
    seconds
        For so long they are left alone.
    clock
        Seconds that never go backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[int, float] = {}

    def is_over(self, since: float) -> bool:
        """Whether what has not changed since then is left alone no longer."""
        return self._clock() - since >= self._seconds

    def add(self, file: Found, since: float) -> None:
        """Leave a file alone that has looked as it does since then."""
        if len(self._since) < _MOST:
            self._since[hash(file)] = since

    def holds(self, file: Found) -> bool:
        """Whether it is not yet time to look at the file."""
        since = self._since.get(hash(file))
        return since is not None and not self.is_over(since)

    def take(self, file: Found) -> float | None:
        """Since when a file has looked as it does, if it was left alone; it is forgotten."""
        return self._since.pop(hash(file), None)

    def forget_gone(self, looked_at: float) -> None:
        """Forget what a look through the folder that began then would have found, had it not changed or gone."""
        self._since = {file: since for file, since in self._since.items() if since + self._seconds > looked_at}
