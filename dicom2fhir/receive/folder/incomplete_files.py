"""Files that may not be complete yet, and since when each has not changed."""

from __future__ import annotations

from collections.abc import Callable

from dicom2fhir.receive.folder.files import Found

_MOST = 200_000
"""About 20 MB. Further files are read again at every scan of the folder until there is room."""


class LeftAlone:
    """Remembers since when files have not changed.

    Parameters
    ----------
    seconds
        How long an unchanged file is left alone.
    clock
        A monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[int, float] = {}

    def is_over(self, since: float) -> bool:
        """Whether a file that has not changed since then is no longer left alone."""
        return self._clock() - since >= self._seconds

    def add(self, file: Found, since: float) -> None:
        """Leave a file alone that has not changed since then."""
        if len(self._since) < _MOST:
            self._since[hash(file)] = since

    def holds(self, file: Found) -> bool:
        """Whether the file is still left alone."""
        since = self._since.get(hash(file))
        return since is not None and not self.is_over(since)

    def take(self, file: Found) -> float | None:
        """Since when a file has not changed, if it was left alone; removes it."""
        return self._since.pop(hash(file), None)

    def forget_gone(self, looked_at: float) -> None:
        """Remove files that a scan which began then would have found if they had not changed or gone."""
        self._since = {file: since for file, since in self._since.items() if since + self._seconds > looked_at}
