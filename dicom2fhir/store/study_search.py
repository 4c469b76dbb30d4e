"""The part of the contract of a store for those who look for studies: search, history, counts.

Search uses an index that is filled after studies were acknowledged (:meth:`StudySearch.update_index`). What has arrived
in the last seconds may be missing in it, or be found by its former values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from dicom2fhir.store.statuses import State, StudyStatus

KEPT_ATTEMPTS = 20
"""Attempts that are kept of the deliveries of one study to one destination."""
KEPT_COUNTS_S = 8 * 86_400
"""How long counts are kept, in seconds."""


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """Which studies are wanted: those that match every criterion that is not empty.

    Texts match a whole value, with spaces at the ends ignored. Case counts, except in ``patient_name``.

    Attributes
    ----------
    state
        Of the delivery to ``destination``, or to any destination in force.
    destination
        Without ``state``: studies that have a delivery to it.
    study_date
        As in DICOM: YYYYMMDD, or a range, which may be open at one end: ``20240101-20240131``, ``20240101-`` (PS3.4
        C.2.2.2.5).
    patient_name
        Each word must be a word of a Patient's Name.
    is_conflict
        Only studies that wait for a person to settle their patients.
    """

    state: State | None = None
    destination: str = ""
    modality: str = ""
    study_date: str = ""
    calling_ae_title: str = ""
    folder: str = ""
    study_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""
    patient_name: str = ""
    is_conflict: bool = False


class Position(NamedTuple):
    """The place of a study in the order of a search: by the time of its last change, newest first.

    ``date`` is empty unless studies are listed by Study Date.
    """

    last_at: float
    number: int
    date: str = ""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study with what the index has of it; without patient attributes.

    Attributes
    ----------
    study_date
        The earliest; empty if there is none.
    position
        For the next page.
    """

    status: StudyStatus
    study_date: str
    modalities: tuple[str, ...]
    accession_numbers: tuple[str, ...]
    calling_ae_titles: tuple[str, ...]
    folders: tuple[str, ...]
    is_conflict: bool
    position: Position


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series of a study."""

    uid: str
    modality: str
    description: str
    instances: int


@dataclass(frozen=True, slots=True)
class Sender:
    """An application entity that sent instances or procedure steps of a study, and when it first did so."""

    calling_ae_title: str
    first_at: float


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """A watched folder that instances of a study came from, and when the first did so."""

    folder: str
    first_at: float


class AttemptOutcome(StrEnum):
    """What became of an attempt to deliver a study."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    """The destination had it already."""
    FAILED = "failed"
    """It is tried again."""
    REFUSED = "refused"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt to deliver a study, or several in a row that ended in the same way.

    Attributes
    ----------
    at
        When the last of them ended.
    answer
        The words of the destination or of the bridge, as :attr:`dicom2fhir.store.statuses.DeliveryStatus.reason`; may
        contain patient data.
    times
        How many attempts this stands for.
    """

    destination: str
    at: float
    revision: int
    outcome: AttemptOutcome
    answer: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class StudyAttempt:
    """An attempt to deliver a study, with the study."""

    study_uid: str
    attempt: PastAttempt


@dataclass(frozen=True, slots=True)
class StudyDetails:
    """What a page about one study shows, beside its status.

    Attributes
    ----------
    series
        Those that have instances, in the order of arrival.
    senders, folders
        In the order of their first arrival.
    attempts
        The latest :data:`KEPT_ATTEMPTS` for each destination, newest first.
    """

    series: tuple[SeriesSummary, ...]
    senders: tuple[Sender, ...]
    folders: tuple[SourceFolder, ...]
    attempts: tuple[PastAttempt, ...]


@dataclass(frozen=True, slots=True)
class MinuteCounts:
    """Instances that were received and deliveries that wrote something, in the minute that begins at ``at``."""

    at: float
    received: int
    delivered: int


class StudySearch(Protocol):
    """Search for studies, the history of their deliveries, and counts over time."""

    def update_index(self) -> bool:
        """Bring a part of the index up to date; False if nothing more is to be done now.

        Studies are taken up at once when they are new, and else when they have not changed for 2 seconds, at the latest
        15 seconds after the last time. The daemon calls it every second.
        """

    def find_studies(self, wanted: StudyFilter, after: Position | None = None, limit: int = 50) -> Sequence[FoundStudy]:
        """The studies in the index that match, latest change first; those that come after a position.

        A range of dates without a criterion that fewer studies are likely to meet lists them by Study Date, latest
        first. The cost depends on ``limit`` and not on the number of studies, if there is one criterion.
        """

    def study_details(self, study_uid: str) -> StudyDetails | None:
        """Series, senders, folders and attempts of one study."""

    def last_sent(self, study_uid: str) -> Mapping[str, bytes]:
        """The base of the last delivery of a study to each destination in force that has one, by its name.

        It is :attr:`dicom2fhir.outcomes.Delivered.base`.
        """

    def recent_attempts(self, since: float, limit: int = 100) -> Sequence[StudyAttempt]:
        """The latest attempts to deliver any study since a time, newest first."""

    def counts(self, since: float) -> Sequence[MinuteCounts]:
        """The minutes from ``since`` on in which something was received or delivered, oldest first.

        They are kept for :data:`KEPT_COUNTS_S`. What other processes stored while no daemon ran counts when the next
        one starts.
        """
