"""The contract of a store, and the values that it returns.

Everything is keyed by study, and no transaction spans two studies. A call that changes something returns when the
change is on disk. A lease gives each study one writer per destination at a time. Revisions decide, never clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.file_marks import FileMark, Ledger
from dicom2fhir.store.notices import Notices
from dicom2fhir.store.statuses import DestinationStatus, Rejection, State, Stats, StudyStatus, Undelivered
from dicom2fhir.store.study_search import StudySearch


class Change(StrEnum):
    """What :meth:`Store.add_many` did with an instance."""

    NEW = "new"
    CHANGED = "changed"
    """The same instance (series and SOP Instance UID) with other attributes: it replaces the stored one."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one study to one destination until the lease ends."""

    study_uid: str
    destination: str
    owner: str
    revision: int
    """Of the study at the time of the claim; a study that is read later may be newer."""
    attempts: int
    """Failed attempts since the last success."""
    base: bytes
    """The base of the last :class:`dicom2fhir.outcomes.Delivered`; empty before the first delivery."""
    again: bool = False
    """The destination has this revision, and :meth:`Store.requeue` asked to send it again."""


@dataclass(frozen=True, slots=True)
class Success:
    """A claimed study that was delivered, and at which revision."""

    claim: Claim
    revision: int
    outcome: Delivered


@dataclass(frozen=True, slots=True)
class Failing:
    """How long a study has failed since its last success while its destination accepted other studies.

    Attributes
    ----------
    for_s
        Total time. While the destination accepts no study, nothing is added, however long that takes.
    others_accepted
        Whether the destination has accepted another study since the first failed attempt.
    at, accepted
        From where ``for_s`` continues: a time, and how many deliveries the destination had accepted by then.
    """

    for_s: float
    others_accepted: bool
    at: float
    accepted: int


class Store(Ledger, Notices, StudySearch, Protocol):
    """The durable storage of the bridge. Every call may raise :class:`dicom2fhir.errors.StoreUnavailable`."""

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        """Store an instance; it is on disk when this returns.

        A new or changed instance raises the study's revision by one and makes the study due at every destination at
        ``min(now + quiet period, first undelivered change + longest wait)``. An unchanged one changes nothing. While
        ``origin.association`` is open the study is not due before the longest wait has passed.

        A rejection note whose origin may reject also changes the studies of the instances that it names, which are
        added if they are not known; one that is repeated changes nothing. From another origin it is an instance like
        others, and is counted. An instance that was rejected because its retention had expired, and comes over an
        association, is rejected no more.
        """

    def add_many(
        self,
        records: Sequence[InstanceRecord],
        origin: Origin,
        marks: Sequence[FileMark] = (),
        rejections: Sequence[Rejection] = (),
    ) -> Sequence[Change]:
        """Store instances, marks of files and rejections in one transaction.

        Each instance has the effect of :meth:`add`, in order. Records that share mappings cost less. No other caller
        can write while this runs: pass a few hundred records at a time.
        """

    def association_ended(self, association: str) -> None:
        """Record that no more instances will arrive over this association.

        If that cannot be written now, it is written before the next :meth:`claim` that succeeds.
        """

    def file_marks(self, paths: Iterable[str]) -> Mapping[str, FileMark]:
        """The marks of those ``paths`` that have one, in one snapshot."""

    def reject(self, rejection: Rejection) -> None:
        """Record a rejection, for ``status``."""

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """The latest rejections, newest first."""

    def forget_rejections(self, until: float) -> int:
        """Delete the rejections up to a time (POSIX seconds); how many. They stay counted."""

    def set_destinations(self, names: Iterable[str]) -> None:
        """Set the destinations in force; a new one gets every stored study, a removed one gets nothing more."""

    def set_mapping_fingerprint(self, destination: str, fingerprint: str) -> None:
        """Set the mapping fingerprint of future deliveries to a destination in force."""

    def claim(
        self, destination: str, owner: str, lease_s: float, passed_over: int = 0, most: int = 1, workers: int = 1
    ) -> list[Claim]:
        """Claim the study that has been due longest and has no lease, and others that are due; empty if there is none.

        The first ``passed_over`` due studies come after the study that is claimed first; if not that many are due, the
        count goes on with the first. Claims at most ``most``, and leaves as many to each of the other ``workers``.
        """

    def release(self, claims: Collection[Claim]) -> None:
        """Release claims without an attempt: the studies are due as they were before."""

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Stop calling ``callback``; does nothing if it was not subscribed."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each commit that may have made the next due time earlier.

        It runs in the thread that committed; it must be quick and not raise, e.g. :meth:`threading.Event.set`. Commits
        of other processes (``retry``) do not call it: poll every few seconds as well.
        """

    def next_due_at(self, destination: str) -> float | None:
        """When the next study is due (seconds since the epoch); None if none is waiting or being sent."""

    def study(self, study_uid: str) -> Study | None:
        """The present state of the study, read in one snapshot."""

    def stated(self, study_uid: str) -> Mapping[str, Sequence[str]]:
        """Selection key (:data:`dicom2fhir.store.selection.KEYS`) -> every value in the instances of the study, or
        every AE title that sent it."""

    def delivered(self, successes: Sequence[Success]) -> None:
        """Record in one commit what was delivered; a study with a newer revision stays waiting.

        The fingerprint of a mapping becomes the destination's: the FHIR version of a server may have changed. What is
        unlinked is kept for :meth:`relink`. A destination that changed something for a study works (:class:`Failing`).

        The first delivery of a study to a destination, and of each later revision, makes the studies due again that
        refer to it and could not be linked to it.
        """

    def failing(self, claim: Claim, most_s: float) -> Failing:
        """How long a study that has just failed has been failing, including this attempt.

        Parameters
        ----------
        most_s
            The maximum that is counted for the time since the previous attempt: there may have been an outage.
        """

    def retry(
        self, claim: Claim, after_s: float, reason: str, count: bool = True, failing: Failing | None = None
    ) -> None:
        """Release the claim; the study is due again after ``after_s``. ``count`` counts a failed attempt.

        ``failing`` is stored if the study may be at fault.
        """

    def refuse(self, claim: Claim, revision: int, reason: str) -> None:
        """Stop sending ``revision``; a newer one is sent again."""

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        """The patients in a study's instances; new ones do not change the order of the others. Empty: no such study."""

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        """Record which patients, by key, are right; the study is due now, as a new revision.

        This is permanent: later instances of the same patients change nothing, and those of another patient are a new
        conflict. An empty mapping revokes the settlement.
        """

    def forget(self, study_uid: str) -> bool:
        """Delete a study from the store, but not from any destination; False if there is no such study.

        What rejection notes have stated of its instances stays, as if they had come before them.
        Marks of files stay: the ledger does not know what was in them.

        Raises
        ------
        StudyBusy
            It is being sent now; nothing was deleted.
        """

    def forget_delivered(self, quiet_s: float, most_instances: int | None = None) -> Sequence[str] | None:
        """Delete some of the studies that every destination has, but not from any destination.

        A study is deleted if for ``quiet_s`` it has not changed and has been delivered to each destination in force,
        nothing of it was refused, it waits for no other study, and no association, procedure step, rejection note or
        settlement is about it. What comes of it later is a part (:attr:`dicom2fhir.model.Study.is_late_part`), until
        :meth:`forget` deletes the study for good.

        Parameters
        ----------
        most_instances
            Studies with more stay.

        Returns
        -------
        sequence of str or None
            The UIDs of those that were deleted, perhaps none; None if this call ends a round through all studies.
        """

    def seal_delivered(self, quiet_s: float) -> Sequence[str] | None:
        """Store the instances of some studies in less space; nothing else changes.

        That is for studies that have not changed for ``quiet_s``, that no destination waits for, and of which no
        association or procedure step is about to store more. They are stored as before when something comes of them.

        Returns
        -------
        sequence of str or None
            The UIDs of those studies, perhaps none; None if this call ends a round through all studies.
        """

    def forgotten_at(self, study_uid: str) -> float | None:
        """When :meth:`forget_delivered` deleted a study (seconds since the epoch); None if it did not."""

    def exclude(self, claim: Claim, reason: str, selection: str) -> None:
        """Exclude the study from the destination until the study, its senders or the selection change.

        ``selection`` is the one that was evaluated. What was delivered of the study before stays at the destination.
        """

    def set_selection(self, destination: str, selection: str) -> None:
        """Set the selection of a destination in force; if it has changed, excluded studies are evaluated again."""

    def pause(self, destination: str) -> bool:
        """Claim nothing for a destination until :meth:`resume`, also after a restart; False if it is paused already."""

    def resume(self, destination: str) -> bool:
        """Claim for a paused destination again; False if it is not paused."""

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """Make refused and waiting deliveries due now, with ``all_states`` also delivered and excluded ones.

        Delivered ones of which the destination refused a secondary resource count as refused.
        Returns their number. Without a study it may take several commits. Like a success or a refusal, it resets
        :class:`Failing`.
        """

    def relink(
        self,
        destination: str,
        study_uid: str | None = None,
        since: float = 0.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Make deliveries due again that reference a resource by identifier because it was not found; their number.

        Parameters
        ----------
        study_uid
            Only this study. Without it this may take several commits.
        since
            Only studies that changed since this time (seconds since the epoch).
        on_progress
            Called with the number of studies that were examined, and the total.
        """

    def requeued(self, destination: str) -> int:
        """How often :meth:`requeue` was called for a destination, by any process."""

    def study_status(self, study_uid: str) -> StudyStatus | None:
        """The status of one study."""

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        """The latest changed studies, newest first."""

    def outdated_studies(self, limit: int = 100) -> Sequence[StudyStatus]:
        """The studies that :attr:`Stats.outdated` counts."""

    def stats(self) -> Stats:
        """Counts over the whole store."""

    def oldest_undelivered(self) -> Undelivered | None:
        """The delivery that :attr:`Stats.oldest_undelivered_at` is about."""

    def destinations(self) -> Sequence[DestinationStatus]:
        """The destinations in force, by name."""

    def close(self) -> None:
        """Finish pending writes and close the files."""
