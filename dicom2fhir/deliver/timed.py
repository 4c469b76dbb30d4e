"""A destination whose deliveries are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from dicom2fhir.deliver.destination import Destination
from dicom2fhir.outcomes import Job, Outcome


class Timed:
    """Passes everything on to a destination, and reports each delivery.

    Parameters
    ----------
    observe
        Called with the Study Instance UID, the outcome (``delivered``, ``refused``, ``withheld``, ``retry``), and the
        duration in seconds.
    """

    def __init__(self, destination: Destination, observe: Callable[[str, str, float], None]) -> None:
        self._destination = destination
        self._observe = observe

    @property
    def name(self) -> str:
        """The name of the destination."""
        return self._destination.name

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """As :meth:`~dicom2fhir.deliver.destination.Destination.deliver_all`."""
        outcomes = self._destination.deliver_all(jobs)
        for job in jobs:
            began = time.monotonic()
            outcome = next(outcomes)
            self._observe(job.study.uid, type(outcome).__name__.lower(), time.monotonic() - began)
            yield outcome
