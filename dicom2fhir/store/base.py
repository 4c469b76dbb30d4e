"""What every store promises, and the values in which it answers.

Everything is keyed by study and no transaction spans two of them; a call that changes something returns when the change
is on disk; a study has one writer per destination at a time, by lease. Revisions decide, never clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.model import FileMark as FileMark
from dicom2fhir.model import InstanceRecord, Origin, Study

DEFAULT_QUIET_PERIOD_S = 30.0
DEFAULT_MAX_WAIT_S = 900.0
DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024


class Change(StrEnum):
    """What :meth:`Store.add_many` did."""

    NEW = "new"
    CHANGED = "changed"
    """The same instance (series and SOP Instance UID) with other attributes: the last stands, as a correction."""
    UNCHANGED = "unchanged"


class State(StrEnum):
    """Where a study stands towards one destination."""

    WAITING = "waiting"
    """Its quiet time has not passed, or a try is due later."""
    SENDING = "sending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """A person has to look; a new instance or ``retry`` sends it again."""
    EXCLUDED = "excluded"
    """The destination does not want it (:mod:`dicom2fhir.store.selection`); decided anew when one of them changes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one study to one destination until the lease ends."""

    study_uid: str
    destination: str
    owner: str
    revision: int
    """Of the study at the time of the claim; the study read afterwards may be newer."""
    attempts: int
    """Failed tries since the last success."""
    base: bytes
    """What :class:`dicom2fhir.model.Delivered` gave last time; empty before the first delivery."""
    again: bool = False
    """The destination has this revision and somebody wants it sent again (:meth:`Store.requeue`)."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The failed tries of a study since its last success, as far as its destination accepted others meanwhile.

    Attributes
    ----------
    for_s
        How long that was in all. A destination that accepts nobody adds nothing, however long it is away.
    others_accepted
        Whether the destination has accepted another study since the first of the tries.
    at, accepted
        What ``for_s`` counts on from: a moment, and how many deliveries the destination had accepted then.
    """

    for_s: float
    others_accepted: bool
    at: float
    accepted: int


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """One row for one study and destination; times are seconds since the epoch.

    ``due_at`` means something while the state is WAITING, and when SENDING: the end of the lease. ``reason`` says why
    it waits, is refused or left out; when DELIVERED, the types of the resources that are referred to by identifier
    because they were not found there.
    """

    destination: str
    state: State
    delivered_revision: int
    due_at: float
    attempts: int
    reason: str
    delivered_at: float


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """One study as ``status`` shows it: no patient attributes."""

    study_uid: str
    revision: int
    series: int
    instances: int
    first_at: float
    last_at: float
    association_open: bool
    """Whether somebody who sends it has not finished."""
    deliveries: tuple[DeliveryStatus, ...]


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """What the deliveries of one destination in force were made with: see :class:`dicom2fhir.model.Mapped`.

    Attributes
    ----------
    fingerprint
        The present one; empty where nobody has said it.
    others
        Any other one -> the number of deliveries that were made with it and are up to date but for that; empty text:
        not known.
    """

    name: str
    fingerprint: str
    others: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that came in and was not kept."""

    at: float
    origin: Origin
    reason: str
    kind: str = ""
    """As :attr:`dicom2fhir.errors.BridgeError.kind`; empty for what was refused before version 4 of the store."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the whole store.

    ``waiting`` to ``excluded`` count deliveries, one for each study and destination in force. ``oldest_undelivered_at``
    is the oldest change that waits or is being sent (a refused study waits for a person, and must not hide the others).
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
    """Instances that were refused when they came in."""
    rejected_by_kind: Mapping[str, int]
    """The same by :attr:`Rejection.kind`."""
    skipped: int
    """Files in watched folders that are not SOP instances."""
    outdated: int
    """Studies of which another version of the program read something, one that may have read less."""
    oldest_undelivered_at: float | None


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that happened to the store's file, of which a person has to know."""

    at: float
    reason: str
    aside: str
    """Where the damaged file went; empty where nothing was set aside."""


class Ledger(Protocol):
    """Which files of watched folders are done with."""

    def file_mark(self, path: str) -> FileMark | None:
        """What is known of ``path``."""

    def mark_file(self, mark: FileMark) -> None:
        """Remember what became of a file; durable when it returns."""


class Store(Ledger, Protocol):
    """The durable memory of the bridge. Every call may raise :class:`dicom2fhir.errors.StoreUnavailable`."""

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        """Keep an instance; it is on disk when this returns.

        A new or changed one raises the study's revision by one and makes it due at every destination at
        ``min(now + quiet period, first undelivered change + longest wait)``; others change nothing. While
        ``origin.association`` is open the study is not due before the longest wait has passed.
        """

    def add_many(
        self,
        records: Sequence[InstanceRecord],
        origin: Origin,
        marks: Sequence[FileMark] = (),
        rejections: Sequence[Rejection] = (),
    ) -> Sequence[Change]:
        """Keep instances, and what else is known of the files that they came in; all or nothing is on disk.

        Each counts as with :meth:`add`, in their order. Records that share mappings cost less. While this runs nobody
        else can write: some hundred records at a time are enough.
        """

    def association_ended(self, association: str) -> None:
        """No more instances will come over this association.

        Where that cannot be written now, it is before the next :meth:`claim` that succeeds.
        """

    def file_marks(self, paths: Iterable[str]) -> Mapping[str, FileMark]:
        """What is known of those among ``paths`` that anything is known of, in one snapshot."""

    def reject(self, rejection: Rejection) -> None:
        """Remember what was refused, for ``status``."""

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """The latest refusals, newest first."""

    def set_destinations(self, names: Iterable[str]) -> None:
        """Name the destinations in force; a new one gets every study that is kept, one left out gets nothing more."""

    def set_mapping_fingerprint(self, destination: str, fingerprint: str) -> None:
        """Say what deliveries to a destination in force are made with from now on."""

    def claim(self, destination: str, owner: str, lease_s: float, passed_over: int = 0) -> Claim | None:
        """The study that has been due longest and that nobody holds, or None.

        So many are ``passed_over``, or fewer where there are no more.
        """

    def claim_more(self, claimed: Claim, lease_s: float, most: int, workers: int) -> list[Claim]:
        """Other studies that are due at the same destination, for the owner of ``claimed``.

        At most ``most``, and no more than are left to each of the other ``workers``.
        """

    def release(self, claims: Collection[Claim]) -> None:
        """Give claims back without a try: the studies are due as they were before."""

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Call it no more; one that was not subscribed is none to be called."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after a commit that may have brought the next due time nearer.

        It runs in the thread that committed, and must be quick and not raise, e.g. :meth:`threading.Event.set`. What
        another process does (``retry``) does not call it: look again every few seconds all the same.
        """

    def next_due_at(self, destination: str) -> float | None:
        """When the next study will be due (seconds since the epoch); None when nothing waits."""

    def study(self, study_uid: str) -> Study | None:
        """The study as it is now, read in one snapshot."""

    def stated(self, study_uid: str) -> Mapping[str, Sequence[str]]:
        """What destinations choose by -> every value that an instance of the study states, or who sent it
        (:data:`dicom2fhir.store.selection.KEYS`)."""

    def delivered(
        self,
        claim: Claim,
        revision: int,
        base: bytes,
        fingerprint: str = "",
        unlinked: str = "",
        accepted: bool = False,
    ) -> None:
        """``revision``, made by the mapping ``fingerprint``, is at the destination; a newer study stays waiting.

        It becomes the destination's fingerprint: a server may speak another FHIR version than it did.
        ``unlinked`` names what was not found there to refer to, for :meth:`relink`. ``accepted``: the destination
        changed something for it, so that it works (:class:`Failing`).
        """

    def failing(self, claim: Claim, most_s: float) -> Failing:
        """How a study stands that has just failed, this try among the others.

        Parameters
        ----------
        most_s
            The most that is counted for the time since the try before: there may have been an outage.
        """

    def retry(
        self, claim: Claim, after_s: float, reason: str, count: bool = True, failing: Failing | None = None
    ) -> None:
        """Give the claim back and be due again after ``after_s``; ``count`` makes it a failed try.

        ``failing`` is remembered, where the study may be at fault.
        """

    def refuse(self, claim: Claim, revision: int, reason: str) -> None:
        """Stop sending ``revision``; a newer one is sent again."""

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        """The patients whom a study's instances name; their order stays when others come. Empty: no such study."""

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        """Settle by their keys which patients are right; the study is due now, as a new revision.

        It is for good: later instances of the same patients change nothing, and those of another one are a conflict
        again. An empty mapping takes back what was settled.
        """

    def forget(self, study_uid: str) -> bool:
        """Delete all that is kept of a study, and nothing at any destination; False when there is no such study.

        Marks of files stay: the ledger does not know what was in them.

        Raises
        ------
        StudyBusy
            It is being sent now; nothing was deleted.
        """

    def exclude(self, claim: Claim, reason: str, selection: str) -> None:
        """The destination is not meant for the study; decided anew when the study, its senders or the selection change.

        ``selection`` is the one that this rests on. What was delivered of the study before is still at the destination.
        """

    def set_selection(self, destination: str, selection: str) -> None:
        """Say what a destination in force takes from now on; with another text than before, decide exclusions anew."""

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """Make refused and waiting deliveries due now, with ``all_states`` also delivered and excluded ones; how many.

        Where no study is named it may take several commits. A success, a refusal and this begin :class:`Failing` anew.
        """

    def relink(
        self,
        destination: str,
        study_uid: str | None = None,
        since: float = 0.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Make deliveries due now, again, that refer to something by identifier for want of it there; how many.

        Parameters
        ----------
        study_uid
            This study only. Where none is named it may take several commits.
        since
            Studies only that changed since this time (seconds since the epoch).
        on_progress
            Told how many studies were looked at, and how many there are.
        """

    def requeued(self, destination: str) -> int:
        """How often :meth:`requeue` was called for a destination, by any process."""

    def study_status(self, study_uid: str) -> StudyStatus | None:
        """Where one study stands."""

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        """The studies changed last, newest first."""

    def outdated_studies(self, limit: int = 100) -> Sequence[StudyStatus]:
        """The studies that :attr:`Stats.outdated` counts."""

    def stats(self) -> Stats:
        """Counts over the whole store."""

    def destinations(self) -> Sequence[DestinationStatus]:
        """The destinations in force, by name."""

    def close(self) -> None:
        """Finish what is under way and close the files."""
