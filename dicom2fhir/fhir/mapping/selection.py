"""What a key object selection document selects, as values: instances of series, with the frames of each."""

from __future__ import annotations

from dataclasses import dataclass

from dicom2fhir.fhir.mapping.document_nodes import Document
from dicom2fhir.model import Instance, Series


@dataclass(frozen=True, slots=True)
class SelectedInstance:
    """A selected instance.

    Attributes
    ----------
    frames
        The selected ones; empty: all of it.
    held
        The instance, if it is in the study of the document.
    """

    uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    frames: tuple[int, ...] = ()
    held: Instance | None = None


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """A series with selected instances.

    Attributes
    ----------
    document
        SOP Instance UID of the document that selects them.
    held
        The series, if it is in the study of the document.
    """

    uid: str
    study_uid: str
    document: str
    instances: tuple[SelectedInstance, ...]
    held: Series | None = None


@dataclass(frozen=True, slots=True)
class SelectedStudy:
    """A study with selected series."""

    uid: str
    series: tuple[SelectedSeries, ...]


@dataclass(frozen=True, slots=True)
class KeyObjects(Document):
    """A key object selection document."""

    studies: tuple[SelectedStudy, ...]
