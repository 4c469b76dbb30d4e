"""What a backfill holds: studies of which it may still have files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom2fhir.model import Origin

if TYPE_CHECKING:
    from dicom2fhir.store.base import Store

WINDOW_FILES = 10_000
"""A study is released when this many files in a row did not belong to it. With more, whole archives would wait; with
fewer, studies whose files are in many folders would be sent twice."""


class Holds:
    """Names of the associations that hold studies: two in turn, so that a study is held beyond the window it came in.

    The names derive from the paths, so that a run that resumes a killed one also releases what that one held.
    """

    def __init__(self, store: Store | None, roots: Sequence[str], may_reject: bool) -> None:
        self._store = store
        self._may_reject = may_reject
        self._name = hashlib.sha256(os.fsencode("\0".join(roots))).hexdigest()[:12]
        self._window = 0
        self._left = WINDOW_FILES
        self._pending = self._of_the_window_before = 0

    def origin(self) -> Origin:
        """The origin of the files of a task that begins."""
        self._pending += 1
        return Origin("file", association=self._association(self._window), may_reject=self._may_reject)

    def settled(self, files: int) -> None:
        """Record that the oldest task has ended.

        A name is released and used again when a whole window has ended after the last task that had it.
        """
        self._pending -= 1
        if self._of_the_window_before:
            self._of_the_window_before -= 1
            return
        self._left -= files
        if self._left <= 0:
            self._window = 1 - self._window
            self._left = WINDOW_FILES
            self._of_the_window_before = self._pending
            self._end(self._window)

    def release(self) -> None:
        """Release all studies."""
        for window in (0, 1):
            self._end(window)

    def _association(self, window: int) -> str:
        return f"backfill-{self._name}-{window}"

    def _end(self, window: int) -> None:
        if self._store:
            self._store.association_ended(self._association(window))
