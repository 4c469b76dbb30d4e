"""Creations whose outcome is not settled: they may have replaced what another client created at the same time.

They are kept for as long as the process runs, because a delivery that fails is repeated by another one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dicom2fhir.model import Resource

_MOST = 1_000
"""More are in doubt only if so many transactions in a row are not answered; then the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A resource that we sent as new.

    Attributes
    ----------
    version
        Its ``meta.versionId`` on the server; empty if the server did not return it.
    is_answered
        Whether the server reported success; else it may not be there.
    """

    resource: Resource
    version: str
    is_answered: bool


class Unsettled:
    """Creations by the identity of their resource; thread-safe."""

    def __init__(self) -> None:
        self._creations: dict[str, Creation] = {}
        self._lock = threading.Lock()

    def get(self, identity: str) -> Creation | None:
        """The creation of a resource, if its outcome is not settled."""
        return self._creations.get(identity)

    def add(self, identity: str, creation: Creation) -> None:
        """Record a creation; the newest counts."""
        with self._lock:
            self._creations.pop(identity, None)
            self._creations[identity] = creation
            if len(self._creations) > _MOST:
                del self._creations[next(iter(self._creations))]

    def remove(self, identity: str) -> None:
        """Record that the outcome of a creation is settled."""
        with self._lock:
            self._creations.pop(identity, None)
