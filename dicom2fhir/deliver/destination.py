"""The interface of a destination, and counts of deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dicom2fhir.outcomes import Job, Outcome


class Destination(Protocol):
    """Receives studies."""

    @property
    def name(self) -> str:
        """The name in the configuration and in the store."""

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Deliver these revisions, each when the iterator is advanced to its outcome.

        An exception ends the iterator; it does not concern the studies that were not yet delivered.
        """


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Outcomes of deliveries since the start."""

    written: int
    unchanged: int
    """Delivered, but there was nothing to send."""
    failed: int
    """Will be retried."""
    refused: int
    excluded: int
    """Not selected for the destination."""
