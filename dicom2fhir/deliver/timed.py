"""A destination whose deliveries are observed: how long they take, and which requests they need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from dicom2fhir.deliver.destination import Destination
from dicom2fhir.outcomes import Attempt, Exchange, Job, Outcome


class Exchanges:
    """Collects the HTTP exchanges of each thread."""

    def __init__(self) -> None:
        self._here = threading.local()

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange of the calling thread, until it takes it."""
        self._kept().append(exchange)

    def take(self) -> tuple[Exchange, ...]:
        """What the calling thread has added since it took the last ones."""
        kept = self._kept()
        taken = tuple(kept)
        kept.clear()
        return taken

    def _kept(self) -> list[Exchange]:
        kept: list[Exchange] = self._here.__dict__.setdefault("kept", [])
        return kept


class Timed:
    """Passes everything on to a destination, and reports each delivery.

    Parameters
    ----------
    exchanges
        To which the destination's client adds its exchanges.
    """

    def __init__(
        self, destination: Destination, observe: Callable[[Attempt], None], exchanges: Exchanges | None = None
    ) -> None:
        self._destination = destination
        self._observe = observe
        self._exchanges = exchanges or Exchanges()

    @property
    def name(self) -> str:
        """The name of the destination."""
        return self._destination.name

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """As :meth:`~dicom2fhir.deliver.destination.Destination.deliver_all`."""
        outcomes = self._destination.deliver_all(jobs)
        for job in jobs:
            self._exchanges.take()  # of a delivery that ended with an exception
            began = time.monotonic()
            outcome = next(outcomes)
            ended, duration_s = time.time(), time.monotonic() - began
            name = type(outcome).__name__.lower()
            self._observe(Attempt(job.study.uid, name, ended, duration_s, self._exchanges.take()))
            yield outcome
