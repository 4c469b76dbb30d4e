"""A destination whose deliveries are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from dicom2fhir.deliver.destination import Destination
from dicom2fhir.outcomes import Job, Outcome


class Timed:
    """Passes everything on to a destination, and reports the duration of each delivery in seconds."""

    def __init__(self, destination: Destination, observe: Callable[[float], None]) -> None:
        self._destination = destination
        self._observe = observe

    @property
    def name(self) -> str:
        """The name of the destination."""
        return self._destination.name

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """As :meth:`~dicom2fhir.deliver.destination.Destination.deliver_all`."""
        outcomes = self._destination.deliver_all(jobs)
        while True:
            began = time.monotonic()
            try:
                outcome = next(outcomes)
            except StopIteration:
                return
            self._observe(time.monotonic() - began)
            yield outcome
