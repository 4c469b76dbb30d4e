"""The documents of a study that rules are applied to, and what radiation dose reports say, as values."""

from __future__ import annotations

from dataclasses import dataclass

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
