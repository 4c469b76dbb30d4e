"""The threads that look after a store."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dicom2fhir.ops.forgetter import Forgetter
from dicom2fhir.ops.index_keeper import IndexKeeper
from dicom2fhir.ops.repeating import Repeating
from dicom2fhir.ops.sealer import Sealer
from dicom2fhir.ops.store_checker import StoreChecker


@dataclass(frozen=True, slots=True)
class StoreKeepers:
    """They start and stop together."""

    index_keeper: IndexKeeper
    forgetter: Forgetter
    sealer: Sealer
    checker: StoreChecker

    @property
    def _threads(self) -> tuple[Repeating, ...]:
        return self.index_keeper, self.forgetter, self.sealer, self.checker

    def start(self) -> None:
        """Start the threads; once only."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the calls that run; does nothing if the threads were not started."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.stop(max(deadline - time.monotonic(), 0.0))
