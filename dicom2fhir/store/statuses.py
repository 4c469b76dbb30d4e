"""The status of what is in a store: of deliveries, studies, destinations, refused inputs, and of the store itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicom2fhir.model import Code, Origin
from dicom2fhir.store.notices import StepStatus


class State(StrEnum):
    """The state of the delivery of a study to one destination."""

    WAITING = "waiting"
    """The quiet period has not passed, or the next attempt is due later."""
    SENDING = "sending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """A person must decide; a new instance or ``retry`` sends it again."""
    EXCLUDED = "excluded"
    """The selection of the destination excludes it (:mod:`dicom2fhir.store.selection`), or there is nothing to write
    yet; evaluated again when the study or the selection changes."""


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """One row for one study and destination; times are seconds since the epoch.

    ``due_at`` is set while the state is WAITING; while SENDING it is the end of the lease. ``reason`` says why the
    study waits, is refused or excluded; when DELIVERED, it lists the types of the resources that are referenced by
    identifier because they were not found at the destination.
    """

    destination: str
    state: State
    delivered_revision: int
    due_at: float
    attempts: int
    reason: str
    delivered_at: float
    unclaimed: str
    """Why the delivered revision does not claim the profile of the destination; empty if it claims it."""
    refused: str = ""
    """The secondary resources that the destination did not accept at the last success, each with the reason."""
    paused_at: float | None = None
    """As :attr:`DestinationStatus.paused_at`."""


@dataclass(frozen=True, slots=True)
class RejectionReason:
    """Why instances of a study are rejected.

    Attributes
    ----------
    code
        The title of the rejection note, of PS3.16 CID 7031.
    modifiers
        The meanings of its Document Title Modifiers.
    instances
        Number of instances that notes with this title and these modifiers name.
    """

    code: str
    modifiers: tuple[str, ...]
    instances: int

    @classmethod
    def of(cls, code: str, modifiers: Iterable[Code], instances: int) -> RejectionReason:
        """With the modifiers in words; one without a meaning by its value."""
        return cls(code, tuple(each.meaning or each.value for each in modifiers), instances)


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """One study as ``status`` shows it, without patient attributes."""

    study_uid: str
    revision: int
    series: int
    instances: int
    first_at: float
    last_at: float
    association_open: bool
    """Whether an association that sends it is still open."""
    deliveries: tuple[DeliveryStatus, ...]
    stated: int = 0
    """Number of instances, arrived or not, of which a notification (IAN) states the availability."""
    steps: tuple[StepStatus, ...] = ()
    """By UID."""
    missing: int = 0
    """Number of instances that ended procedure steps list and that have not arrived."""
    rejected: int = 0
    """Number of instances, arrived or not, that rejection notes in force name."""
    rejections: tuple[RejectionReason, ...] = ()
    """Why, by title and modifiers; an instance that several notes name counts for each reason."""
    asked_to_reject: int = 0
    """Number of rejection notes in it from origins that may not reject (:attr:`dicom2fhir.model.Origin.may_reject`)."""
    without_content: int | None = None
    """Number of documents whose content was to be embedded and was not taken: it is too large, or cannot be read. None
    in lists of studies: it is counted only for a study that is asked for, because every instance is looked at."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A study that waits for a destination or is being sent to it, and since when: the first change that is missing."""

    study: StudyStatus
    destination: str
    since: float


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """One destination in force, with the mapping fingerprints of its deliveries (see ``mapped_resources.Mapped``).

    Attributes
    ----------
    fingerprint
        The present one; empty if it is not known yet.
    others
        Other fingerprint -> the number of deliveries that were made with it and are otherwise up to date. An empty key
        means an unknown fingerprint.
    paused_at
        When :meth:`Store.pause` was called, in seconds since the epoch; None if it is not paused.
    """

    name: str
    fingerprint: str
    others: Mapping[str, int]
    paused_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Input that was not stored."""

    at: float
    origin: Origin
    reason: str
    kind: str = ""
    """As :attr:`dicom2fhir.errors.BridgeError.kind`; empty for rejections from before version 4 of the store."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the whole store.

    ``waiting`` to ``excluded`` count deliveries, one for each study and destination in force. ``oldest_undelivered_at``
    is the time of the oldest change that waits or is being sent. Refused studies do not count: they wait for a person,
    and would hide the others.
    """

    studies: int
    series: int
    instances: int
    waiting: int
    sending: int
    delivered: int
    refused: int
    excluded: int
    rejected: int
    """Instances that were refused on arrival."""
    rejected_by_kind: Mapping[str, int]
    """``rejected`` by :attr:`Rejection.kind`."""
    skipped: int
    """Files in watched folders that are not SOP instances."""
    outdated: int
    """Studies with instances that were read by another version of the program, which may have read less."""
    oldest_undelivered_at: float | None


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage to the store's file that a person must know about."""

    at: float
    reason: str
    aside: str
    """New path of the damaged file; empty if no file was renamed."""


@dataclass(frozen=True, slots=True)
class Room:
    """Free space on the disk of the store, and the watermark."""

    free_bytes: int
    min_free_bytes: int
    is_low: bool
    """No instances are accepted: free space was below the watermark, and is not clearly above it yet."""
