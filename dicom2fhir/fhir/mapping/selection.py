"""What a key object selection document selects, as values: instances of series, with the frames of each."""

from __future__ import annotations

from dataclasses import dataclass

from dicom2fhir.fhir.mapping.document_nodes import Document
from dicom2fhir.fhir.version.datatypes import Concept
from dicom2fhir.model import Instance, Series

_UNKNOWN = Concept()


@dataclass(frozen=True, slots=True)
class Region:
    """A region of an image, or in space; ``kind`` is a code of FHIR, the coordinates are as in DICOM."""

    kind: str
    coordinates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SelectedInstance:
    """A selected instance.

    Attributes
    ----------
    frames
        The selected ones; empty: all of it.
    held
        The instance, if it is in the study of the document.
    segments
        The selected ones of a segmentation; empty: all of them, or it has none.
    regions
        Those of an image that are selected; empty: all of it.
    """

    uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    frames: tuple[int, ...] = ()
    held: Instance | None = None
    segments: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()


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
class MeasuredImages(SelectedSeries):
    """What a measurement was made from: instances of one series, or regions in space.

    Attributes
    ----------
    identity
        The parts of its id.
    purpose
        What it is for the measurement.
    frame_of_reference
        Of ``regions``; then there is no series.
    """

    identity: tuple[str, ...] = ()
    purpose: Concept = _UNKNOWN
    frame_of_reference: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectedStudy:
    """A study with selected series."""

    uid: str
    series: tuple[SelectedSeries, ...]


@dataclass(frozen=True, slots=True)
class KeyObjects(Document):
    """A key object selection document."""

    studies: tuple[SelectedStudy, ...]
