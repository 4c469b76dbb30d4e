"""Deliveries that are recorded together: one commit of the store for several studies of one worker.

A commit waits for the disk, and no request is sent meanwhile. A study that was delivered and not yet recorded when the
process ends is delivered again, which changes nothing at the destination.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from dicom2fhir.store.base import Success

_RECORD_WITHIN_S = 0.5
"""A success is recorded at once if the last one was longer ago: until then ``status`` shows the study as being sent."""


class Successes:
    """What a worker has delivered and not yet recorded; the rest is recorded at the end of the context.

    Parameters
    ----------
    record
        Records successes in one commit.
    clock
        Monotonic seconds.
    """

    def __init__(self, record: Callable[[Sequence[Success]], None], clock: Callable[[], float]) -> None:
        self._record = record
        self._clock = clock
        self._recorded_at = clock()
        self._waiting: list[Success] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.record()

    def add(self, success: Success) -> None:
        """Record it, now or soon."""
        self._waiting.append(success)
        if self._clock() - self._recorded_at >= _RECORD_WITHIN_S:
            self.record()

    def record(self) -> None:
        """Record what is not yet recorded."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._record(waiting)
        self._recorded_at = self._clock()
