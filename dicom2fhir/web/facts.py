"""What the web page uses of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.model import Study
from dicom2fhir.ops.status import Readable
from dicom2fhir.store.study_search import StudySearch


class WebStore(Readable, StudySearch, Protocol):
    """The part of a store that the page reads, and what it changes; called from several threads."""

    def pause(self, destination: str) -> bool:
        """As :meth:`dicom2fhir.store.base.Store.pause`."""

    def resume(self, destination: str) -> bool:
        """As :meth:`dicom2fhir.store.base.Store.resume`."""

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """As :meth:`dicom2fhir.store.base.Store.requeue`."""

    def forget(self, study_uid: str) -> bool:
        """As :meth:`dicom2fhir.store.base.Store.forget`."""

    def study(self, study_uid: str) -> Study | None:
        """As :meth:`dicom2fhir.store.base.Store.study`."""

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        """As :meth:`dicom2fhir.store.base.Store.patients`."""

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        """As :meth:`dicom2fhir.store.base.Store.settle`."""

    def forget_rejections(self, until: float) -> int:
        """As :meth:`dicom2fhir.store.base.Store.forget_rejections`."""

    def acknowledge_damages(self) -> None:
        """As :meth:`dicom2fhir.store.sql.database.Database.acknowledge_damages`."""
