"""What the web page uses of the store."""

from __future__ import annotations

from typing import Protocol

from dicom2fhir.ops.status import Readable


class WebStore(Readable, Protocol):
    """The part of a store that the page reads, and what it changes; called from several threads."""

    def pause(self, destination: str) -> bool:
        """As :meth:`dicom2fhir.store.base.Store.pause`."""

    def resume(self, destination: str) -> bool:
        """As :meth:`dicom2fhir.store.base.Store.resume`."""

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """As :meth:`dicom2fhir.store.base.Store.requeue`."""
