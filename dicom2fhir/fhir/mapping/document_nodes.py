"""The documents of a study that rules are applied to, and what radiation dose reports say, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom2fhir.fhir.version.datatypes import Concept
from dicom2fhir.model import Attrs, Resource


@dataclass(frozen=True, slots=True)
class DoseValue:
    """One value of a report; exactly one of ``quantity``, ``code`` and ``absent`` is set.

    Attributes
    ----------
    uid
        SOP Instance UID of the report.
    name
        What it is the value of. Its text says to which plane or breast it belongs.
    quantity
        A Quantity with its unit.
    absent
        Why there is no number, as a code of data-absent-reason.
    """

    uid: str
    name: Concept
    quantity: Resource | None = None
    code: Concept | None = None
    absent: Concept | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a study.

    Attributes
    ----------
    uid
        Its SOP Instance UID.
    attrs
        Its attributes, and those of its series.
    """

    uid: str
    attrs: Attrs


@dataclass(frozen=True, slots=True)
class DoseReport(Document):
    """A radiation dose report."""

    values: tuple[DoseValue, ...]


@dataclass(frozen=True, slots=True)
class EncapsulatedDocument(Document):
    """An encapsulated document.

    Attributes
    ----------
    is_replaced
        Whether another document of the study names it as its predecessor.
    """

    is_replaced: bool


@dataclass(frozen=True, slots=True)
class Site:
    """Where something was found: the structure, its side and other modifiers."""

    structure: Concept
    lateralities: tuple[Concept, ...] = ()
    modifiers: tuple[Concept, ...] = ()


@dataclass(frozen=True, slots=True)
class Stated:
    """What a content item states of itself and of the items in it; empty if it does not.

    Attributes
    ----------
    uid
        Observation UID.
    moment
        Observation DateTime.
    tracking_uid, tracking_text
        By what a lesion is found again in other reports.
    algorithm, device
        What observed, as attributes of equipment.
    observers
        Names of persons.
    """

    uid: str = ""
    moment: str = ""
    tracking_uid: str = ""
    tracking_text: str = ""
    site: Site | None = None
    method: Concept | None = None
    algorithm: Attrs = field(default_factory=dict)
    device: Attrs = field(default_factory=dict)
    observers: tuple[str, ...] = ()
    normality: tuple[Concept, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured(Document):
    """A group of measurements, one measurement, or one evaluation; at most one of the values is set.

    Attributes
    ----------
    identity
        The parts of its id.
    name
        What was observed.
    category
        What kind of observation it is.
    stated
        By its content item, then by those that it is in, up to the root: an inner one has priority.
    quantity
        A Quantity with its unit.
    absent
        Why there is no number, as a code of data-absent-reason.
    normal_range
        As an item of ``Observation.referenceRange``.
    members
        The ids of the observations in a group.
    images
        The ids of the ImagingSelections that it was made from.
    """

    identity: tuple[str, ...]
    name: Concept
    stated: tuple[Stated, ...]
    category: Concept | None = None
    quantity: Resource | None = None
    code: Concept | None = None
    absent: Concept | None = None
    normal_range: Resource | None = None
    members: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
