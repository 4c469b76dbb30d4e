"""What is to be delivered to a destination, and what became of it there."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom2fhir.model import Study


@dataclass(frozen=True, slots=True)
class Job:
    """A study to be delivered.

    Attributes
    ----------
    base
        Of the last :class:`Delivered`; empty the first time.
    again
        Query the destination even if nothing changed since then: the study may have been changed or deleted there.
    """

    study: Study
    base: bytes
    again: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination holds the revision.

    ``base`` is what was sent, for the merge of the next revision (opaque to the store).
    """

    base: bytes
    written: bool = True
    """False if the destination already held it and nothing was sent."""
    fingerprint: str = ""
    """Of :class:`dicom2fhir.mapped_resources.Mapped`."""
    answered: bool = True
    """False if no request was sent, so that the outcome says nothing about the destination."""
    unlinked: tuple[str, ...] = ()
    """Types of the resources that were looked up and not found there; they are referenced by identifier."""
    unclaimed: str = ""
    """Of :class:`dicom2fhir.mapped_resources.Mapped`."""
    refused: tuple[str, ...] = ()
    """The secondary resources that the destination did not accept, each with the reason: as :attr:`Retry.issues`."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The delivery must be tried again, after at least ``after_s`` seconds."""

    reason: str
    after_s: float = 0.0
    whole_destination: bool = False
    """True when the destination is at fault and not this study."""
    answered: bool = True
    """False when the bridge itself is at fault, so that this says nothing about the destination."""
    unclear: bool = False
    """With ``whole_destination``: True when this study may still be the cause."""
    issues: tuple[str, ...] = ()
    """The destination's messages. ``reason`` is logged, these are not: they may contain patient data."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The study cannot be delivered as it is; a person must look at it. ``issues`` are the destination's messages."""

    issues: tuple[str, ...] = field(default=())
    answered: bool = True
    """False when the bridge itself refuses, so that this says nothing about the destination."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """There is nothing to write yet; a later revision may have something."""

    reason: str


Outcome = Delivered | Retry | Refused | Withheld


@dataclass(frozen=True, slots=True)
class Exchange:
    """An HTTP request to a destination and its answer.

    Attributes
    ----------
    status
        None if no complete answer arrived.
    ended
        Seconds since the epoch.
    """

    method: str
    status: int | None
    ended: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver a study, which has ended.

    Attributes
    ----------
    outcome
        ``delivered``, ``refused``, ``withheld`` or ``retry``.
    ended
        Seconds since the epoch.
    exchanges
        In their order. The look-up of studies that are due together is one of the first of them.
    """

    study_uid: str
    outcome: str
    ended: float
    duration_s: float
    exchanges: tuple[Exchange, ...] = ()
