"""What deliveries go to, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dicom2fhir.model import Job, Outcome


class Destination(Protocol):
    """Where studies go."""

    @property
    def name(self) -> str:
        """As in the configuration, and in the store."""

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Bring the destination up to these revisions, each when its outcome is asked for.

        An exception ends the iterator, and says nothing about the studies that were not yet delivered.
        """


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """What became of the tries since the start."""

    written: int
    unchanged: int
    """Delivered without anything to send."""
    failed: int
    """To be tried again."""
    refused: int
    excluded: int
    """The destination is not meant for them."""
