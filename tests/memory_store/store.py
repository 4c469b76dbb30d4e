"""A store in memory: the promises of :mod:`dicom2fhir.store.base` in plain Python, to check the others against.

Nothing outlives the process, and every call takes as long as there are studies. A :class:`Memory` stands for the file:
who opens it again finds what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf

import orjson

from dicom2fhir.dicom import procedure_step
from dicom2fhir.dicom.documents import mentioned_studies
from dicom2fhir.dicom.late_part import late_part, trace_of
from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.dicom.rejection_notes import rejection_note
from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import DuplicateInstance, NoSuchInstance, StoreUnavailable, StudyBusy
from dicom2fhir.model import (
    Attrs,
    Availability,
    AvailabilityNotification,
    InstanceRecord,
    Origin,
    ProcedureStep,
    RejectionNote,
    Study,
)
from dicom2fhir.store.base import Change, Claim, Failing, Success
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sql.clock import Clock
from dicom2fhir.store.statuses import DestinationStatus, Rejection, State, Stats, StudyStatus, Undelivered
from dicom2fhir.store.study_search import (
    KEPT_COUNTS_S,
    AttemptOutcome,
    FoundStudy,
    MinuteCounts,
    Position,
    StudyAttempt,
    StudyDetails,
    StudyFilter,
)
from tests.memory_store import overview, search
from tests.memory_store.memory import (
    Delivery,
    Destination,
    DueRule,
    Kept,
    Memory,
    StudyRow,
    is_forgettable,
    json_of,
    text_of,
)

_KEPT_REJECTIONS = 10_000
_MAX_TEXT = 4_000
_DAY_S = 86_400.0
_CLOSED = (State.DELIVERED, State.REFUSED, State.EXCLUDED)


class MemoryStore:
    """:class:`dicom2fhir.store.base.Store` in memory; opened by the same parameters as an SqliteStore.

    Parameters
    ----------
    owns
        Whether this is the daemon's: leases and associations of the one before it end.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        quiet_period_s: float = 30.0,
        max_wait_s: float = 900.0,
        clock: Callable[[], float],
        steady: Callable[[], float] | None = None,
        reader: str = "",
        owns: bool = True,
    ) -> None:
        self._memory = memory
        self._horizon_s = max_wait_s + _DAY_S
        self._clock = Clock(clock, steady)
        self._reader = reader
        self._owns = owns
        self._subscribers: list[Callable[[], None]] = []
        self._is_closed = False
        if owns:
            memory.is_owned, memory.rule = True, DueRule(quiet_period_s, max_wait_s)
            self._release_everything()

    def _release_everything(self) -> None:
        for study in self._memory.studies.values():
            leased = [one for one in study.deliveries.values() if one.state is State.SENDING]
            if leased or study.held_by:
                study.apply_rule()
            for delivery in leased:
                delivery.state, delivery.owner, delivery.lease_until = State.WAITING, "", 0.0
                delivery.newer_at = None
            study.held_by.clear()
        self._follow_clock()

    @contextmanager
    def _reading(self) -> Iterator[Memory]:
        with self._memory.lock:
            if self._is_closed:
                raise StoreUnavailable("The store is closed")
            yield self._memory

    @contextmanager
    def _writing(self) -> Iterator[Memory]:
        with self._reading() as memory:
            yield memory
        for callback in self._subscribers:
            callback()

    # What comes in

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        self.add_many([record], origin)

    def add_many(
        self,
        records: Sequence[InstanceRecord],
        origin: Origin,
        marks: Sequence[FileMark] = (),
        rejections: Sequence[Rejection] = (),
    ) -> Sequence[Change]:
        texts = [text_of(record) for record in records]
        notes = [rejection_note(record, origin.may_reject) for record in records]
        with self._writing():
            missing = {uid for uid, study in self._memory.studies.items() if study.missing}
            for uid in sorted({record.study_uid for record in records}):  # the order decides between equal due times
                self._memory.study(uid, self._clock.now())
            changes = [self._add(record, text, origin) for record, text in zip(records, texts, strict=True)]
            self._reject(zip(records, notes, strict=True), origin)
            for uid in missing & {record.study_uid for record in records}:
                self._memory.studies[uid].hasten_if_complete()
            for mark in marks:
                self.mark_file(mark)
            for rejection in rejections:
                self.reject(rejection)
        return changes

    def _add(self, record: InstanceRecord, text: bytes, origin: Origin) -> Change:
        now = self._clock.now()
        study = self._memory.study(record.study_uid, now)
        key = record.series_uid, record.sop_uid
        old = study.instances.get(key)
        change = Change.NEW if old is None else Change.UNCHANGED if old.text == text else Change.CHANGED
        study.instances[key] = Kept(record, text, self._reader)
        study.patients[json_of(record.patient)] = None
        self._memory.received[int(now // 60)] += old is None
        study.mentions |= {*mentioned_studies(record)}
        if change is not Change.UNCHANGED:
            study.revision, study.last_at = study.revision + 1, now
            study.reopen(now, _CLOSED)
            study.apply_rule()
        if origin.folder:
            study.folders.setdefault(origin.folder, now)
        if origin.association and origin.association not in study.held_by:
            study.held_by.add(origin.association)
            if origin.calling_ae not in study.senders:
                study.senders[origin.calling_ae] = now
                study.reopen(now, [State.EXCLUDED])
            study.apply_rule()
        return change

    def _reject(self, arrived: Iterable[tuple[InstanceRecord, RejectionNote | None]], origin: Origin) -> None:
        now, changed = self._clock.now(), {}
        for record, note in arrived:
            own = self._memory.study(record.study_uid, now)
            if origin.kind == "dimse" and own.restore(record.sop_uid):
                changed[own.uid] = own
            named = {**note.instances, own.uid: (*note.instances.get(own.uid, ()), note.uid)} if note else {}
            for uid, uids in named.items():
                study = self._memory.study(uid, now)
                if note and study.reject(note, uids):
                    changed[uid] = study
        for study in [one for one in self._memory.studies.values() if one.uid in changed or one.mentions & {*changed}]:
            self._change(study, now)

    def state_availability(self, notification: AvailabilityNotification) -> None:
        with self._writing() as memory:
            known = memory.notifications.setdefault(notification.uid, notification)
            if known != notification:
                raise DuplicateInstance
            if known is not notification:
                return
            now = self._clock.now()
            study = memory.study(notification.study_uid, now)
            stated = {(each.sop_uid, each.retrieve_ae): each for each in notification.instances}
            if study.stated | stated != study.stated:
                study.stated |= stated
                self._change(study, now)

    def _change(self, study: StudyRow, now: float) -> None:
        study.revision, study.last_at = study.revision + 1, now
        study.reopen(now, _CLOSED)
        study.apply_rule()

    def _steps(self) -> dict[str, ProcedureStep]:
        return {uid: step for study in self._memory.studies.values() for uid, step in study.steps.items()}

    def create_step(self, step: ProcedureStep, origin: Origin) -> None:
        with self._writing() as memory:
            known = self._steps().get(step.uid)
            if known not in (None, step):
                raise DuplicateInstance
            if known is None:
                study = memory.study(step.study_uid, self._clock.now())
                study.senders.setdefault(origin.calling_ae, self._clock.now())
                self._keep(study, step)

    def update_step(self, uid: str, changes: Attrs) -> None:
        with self._writing() as memory:
            before = self._steps().get(uid)
            if before is None:
                raise NoSuchInstance
            step = procedure_step.updated(before, changes)
            if step != before:
                self._keep(memory.studies[step.study_uid], step)

    def _keep(self, study: StudyRow, step: ProcedureStep) -> None:
        study.steps[step.uid] = step
        self._change(study, self._clock.now())
        study.hasten_if_complete()
        if not study.instances:
            study.prompt_revision = study.revision
        study.apply_rule()

    def association_ended(self, association: str) -> None:
        with self._writing() as memory:
            for study in memory.studies.values():
                if association in study.held_by:
                    study.held_by.remove(association)
                    study.apply_rule()

    def file_mark(self, path: str) -> FileMark | None:
        return self.file_marks([path]).get(path)

    def file_marks(self, paths: Iterable[str]) -> Mapping[str, FileMark]:
        with self._reading() as memory:
            known = {path: memory.marks[path] for path in paths if path in memory.marks}
        return {path: replace(mark, by_other_reader=reader != self._reader) for path, (mark, reader) in known.items()}

    def mark_file(self, mark: FileMark) -> None:
        with self._writing() as memory:
            memory.marks[mark.path] = replace(mark, reason=mark.reason[:_MAX_TEXT]), self._reader

    def reject(self, rejection: Rejection) -> None:
        with self._writing() as memory:
            memory.rejections.insert(0, replace(rejection, reason=rejection.reason[:_MAX_TEXT]))
            del memory.rejections[_KEPT_REJECTIONS:]
            memory.rejected[rejection.kind] += 1

    # What goes out

    def set_destinations(self, names: Iterable[str]) -> None:
        wanted = set(names)
        with self._writing() as memory:
            for name in wanted:
                destination = memory.destinations.setdefault(name, Destination(in_force=False))
                if not destination.in_force:
                    for study in memory.studies.values():
                        study.deliveries.setdefault(name, Delivery(self._clock.now()))
            for name, destination in memory.destinations.items():
                destination.in_force = name in wanted

    def set_mapping_fingerprint(self, destination: str, fingerprint: str) -> None:
        with self._writing() as memory:
            if fingerprint and destination in memory.destinations:
                memory.destinations[destination].fingerprint = fingerprint

    def set_selection(self, destination: str, selection: str) -> None:
        with self._writing() as memory:
            found = memory.destinations.get(destination)
            if found and found.selection != selection:
                found.selection = selection
                now = self._clock.now()
                for study in memory.studies.values():
                    delivery = study.deliveries.get(destination)
                    if delivery and delivery.state is State.EXCLUDED:
                        delivery.wait(now, asked_at=now)

    def claim(
        self, destination: str, owner: str, lease_s: float, passed_over: int = 0, most: int = 1, workers: int = 1
    ) -> list[Claim]:
        if not self._owns:
            raise StoreUnavailable("This process does not deliver")
        with self._reading():
            self._catch_up()
            due = sum(due_at <= self._clock.now() for due_at in self._dues(destination))
            number = min(most, 1 + (due - 1) // workers)
            claims = [self._claim(destination, owner, lease_s, 0 if more else passed_over) for more in range(number)]
            return [claim for claim in claims if claim is not None]

    def _claim(self, destination: str, owner: str, lease_s: float, passed_over: int) -> Claim | None:
        with self._reading() as memory:
            self._catch_up()
            now = self._clock.now()
            found = [
                (due_at, study.number, study, delivery)
                for study, _, delivery in memory.deliveries(destination)
                if delivery.is_open
                and memory.destinations[destination].paused_at is None
                and (due_at := self._memory.rule.due_at(study, delivery)) <= now
            ]
            if not found:
                return None
            _, _, study, delivery = sorted(found, key=lambda one: one[:2])[passed_over % len(found)]
            delivery.state, delivery.owner = State.SENDING, owner
            delivery.tried_at, delivery.lease_until, delivery.names_new = now, now + lease_s, False
            delivery.not_before, delivery.newer_at, delivery.asked_at = 0.0, None, now
            again = delivery.revision == study.revision
            return Claim(study.uid, destination, owner, study.revision, delivery.attempts, delivery.base, again)

    def release(self, claims: Collection[Claim]) -> None:
        for claim in claims:
            with self._ending(claim) as found:
                for _, delivery in found:
                    delivery.changed_at = delivery.changed_at if delivery.newer_at is None else delivery.newer_at
                    delivery.end_lease(State.WAITING, delivery.reason)

    def next_due_at(self, destination: str) -> float | None:
        with self._reading():
            self._catch_up()
            if max(self._dues(destination), default=0.0) > self._clock.now() + self._horizon_s:
                self._follow_clock()
            return min(self._dues(destination), default=None)

    def _dues(self, destination: str) -> list[float]:
        if (named := self._memory.destinations.get(destination)) and named.paused_at is not None:
            return []
        found = self._memory.deliveries(destination)
        return [self._memory.rule.due_at(study, delivery) for study, _, delivery in found if delivery.is_open]

    def _catch_up(self) -> None:
        if self._clock.step_s():
            self._follow_clock()

    def _follow_clock(self) -> None:
        reading = self._clock.read()
        for study in self._memory.studies.values():
            self._memory.rule.follow_clock(study, reading.now)
        self._clock.forget_steps(reading)

    @contextmanager
    def _ending(self, claim: Claim) -> Iterator[list[tuple[StudyRow, Delivery]]]:
        """What a claim is about, if it still holds."""
        with self._writing() as memory:
            study = memory.studies.get(claim.study_uid)
            delivery = study.deliveries.get(claim.destination) if study else None
            if study and delivery and delivery.state is State.SENDING and delivery.owner == claim.owner:
                yield [(study, delivery)]
                study.apply_rule()
            else:
                yield []

    def delivered(self, successes: Sequence[Success]) -> None:
        for success in successes:
            destination = success.claim.destination
            with self._ending(success.claim) as found:
                self._memory.destinations[destination].accepted += success.outcome.written
                self._memory.delivered[int(self._clock.now() // 60)] += success.outcome.written
                for study, delivery in found:
                    self.set_mapping_fingerprint(destination, success.outcome.fingerprint)
                    self._delivered(study, delivery, success)

    def _delivered(self, study: StudyRow, delivery: Delivery, success: Success) -> None:
        sent, revision = success.outcome, success.revision
        delivery.changed_at = self._clock.now() if delivery.newer_at is None else delivery.newer_at
        is_newer = study.revision > revision
        delivery.end_lease(*((State.WAITING, "") if is_newer else (State.DELIVERED, ", ".join(sent.unlinked))))
        delivery.begin_failing_anew()
        is_new = delivery.revision < revision
        delivery.attempts, delivery.revision, delivery.delivered_at = 0, revision, self._clock.now()
        delivery.base, delivery.fingerprint, delivery.unclaimed = sent.base, sent.fingerprint, sent.unclaimed
        delivery.refused = "\n".join(sent.refused)
        outcome = AttemptOutcome.WRITTEN if sent.written else AttemptOutcome.UNCHANGED
        self._note(delivery, success.claim, revision, outcome, delivery.refused)
        self._relink(study, delivery, success.claim.destination, is_new)

    def _note(self, delivery: Delivery, claim: Claim, revision: int, outcome: AttemptOutcome, answer: str) -> None:
        search.note(delivery, claim.destination, self._clock.now(), revision, outcome, answer[:_MAX_TEXT])

    def _relink(self, study: StudyRow, delivery: Delivery, destination: str, is_new: bool) -> None:
        """Link what mentions a study that the destination has got anew, now or once it was sent."""
        naming = [one for other, _, one in self._memory.deliveries(destination) if study.uid in other.mentions]
        for other in naming if is_new else ():
            other.names_new = other.state is State.SENDING
            self._wait_for_link(other)
        if delivery.names_new:
            self._wait_for_link(delivery)

    def _wait_for_link(self, delivery: Delivery) -> None:
        if delivery.state is State.DELIVERED and "ImagingStudy" in delivery.reason:
            delivery.wait(self._clock.now(), asked_at=self._clock.now())

    def refuse(self, claim: Claim, revision: int, reason: str) -> None:
        with self._ending(claim) as found:
            for study, delivery in found:
                is_newer = study.revision > revision
                if is_newer:
                    delivery.changed_at = self._clock.now() if delivery.newer_at is None else delivery.newer_at
                delivery.end_lease(State.WAITING if is_newer else State.REFUSED, reason[:_MAX_TEXT])
                delivery.begin_failing_anew()
                delivery.attempts += 1
                self._note(delivery, claim, revision, AttemptOutcome.REFUSED, reason)

    def exclude(self, claim: Claim, reason: str, selection: str) -> None:
        with self._ending(claim) as found:
            for _, delivery in found:
                is_other = self._memory.destinations[claim.destination].selection != selection
                is_outdated = is_other or delivery.newer_at is not None
                delivery.changed_at = delivery.changed_at if delivery.newer_at is None else delivery.newer_at
                delivery.end_lease(State.WAITING if is_outdated else State.EXCLUDED, reason[:_MAX_TEXT])
                delivery.begin_failing_anew()
                delivery.attempts = 0
                self._note(delivery, claim, claim.revision, AttemptOutcome.EXCLUDED, reason)

    def failing(self, claim: Claim, most_s: float) -> Failing:
        with self._reading() as memory:
            study = memory.studies.get(claim.study_uid)
            delivery = study.deliveries[claim.destination] if study else Delivery(self._clock.now())
            return delivery.failing(memory.destinations[claim.destination].accepted, self._clock.now(), most_s)

    def retry(
        self, claim: Claim, after_s: float, reason: str, count: bool = True, failing: Failing | None = None
    ) -> None:
        with self._ending(claim) as found:
            for _, delivery in found:
                if failing:
                    delivery.failing_s, delivery.failing_at = failing.for_s, failing.at
                    delivery.failing_accepted = failing.accepted
                delivery.end_lease(State.WAITING, reason[:_MAX_TEXT])
                delivery.attempts += count
                delivery.tried_at = self._clock.now()
                delivery.not_before = delivery.tried_at + min(max(after_s, 0.0), self._horizon_s)
                self._note(delivery, claim, claim.revision, AttemptOutcome.FAILED, reason)

    # What people ask for

    def pause(self, destination: str) -> bool:
        with self._writing() as memory:
            found = memory.destinations.get(destination)
            if not found or not found.in_force or found.paused_at is not None:
                return False
            found.paused_at = self._clock.now()
            return True

    def resume(self, destination: str) -> bool:
        with self._writing() as memory:
            found = memory.destinations.get(destination)
            if not found or found.paused_at is None:
                return False
            found.paused_at = None
            return True

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        with self._writing() as memory:
            for name, found in memory.destinations.items():
                found.requeued += found.in_force and destination in (None, name)
            return self._requeue(study_uid, destination, all_states)

    def _requeue(self, study_uid: str | None, destination: str | None, all_states: bool) -> int:
        states = {State.WAITING, State.REFUSED, *(_CLOSED if all_states else ())}
        now, count = self._clock.now(), 0
        for study, _, delivery in self._memory.deliveries(destination):
            is_refused = delivery.state is State.DELIVERED and bool(delivery.refused)
            if study_uid in (None, study.uid) and (is_refused or delivery.state in states):
                delivery.wait(delivery.changed_at if delivery.state is State.WAITING else now, asked_at=now)
                delivery.begin_failing_anew()
                count += 1
        return count

    def relink(
        self,
        destination: str,
        study_uid: str | None = None,
        since: float = 0.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        with self._writing() as memory:
            now, count = self._clock.now(), 0
            for study, _, delivery in memory.deliveries(destination):
                is_meant = study.uid == study_uid if study_uid is not None else study.last_at >= since
                if is_meant and delivery.state is State.DELIVERED and delivery.reason:
                    delivery.wait(now, asked_at=now)
                    count += 1
            if on_progress and study_uid is None:
                on_progress(memory.last_number, memory.last_number)
            return count

    def requeued(self, destination: str) -> int:
        with self._reading() as memory:
            return memory.destinations.get(destination, Destination()).requeued

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        with self._writing() as memory:
            study = memory.studies.get(study_uid)
            if study:
                study.settlement = dict(verdicts)
                study.revision, study.last_at = study.revision + 1, self._clock.now()
                study.apply_rule()
                self._requeue(study_uid, None, True)

    def forget(self, study_uid: str) -> bool:
        with self._writing() as memory:
            study = memory.studies.get(study_uid)
            now = self._clock.now()
            if study and memory.is_owned and any(one.lease_until > now for one in study.deliveries.values()):
                raise StudyBusy
            memory.notifications = {k: v for k, v in memory.notifications.items() if v.study_uid != study_uid}
            if study is None:
                return False
            del memory.studies[study_uid]
            memory.forgotten.pop(study_uid, None)
            kept = {
                (uid, note): said
                for (uid, note), said in study.rejections.items()
                if said[1] != "asked" and uid != note
            }
            if kept:
                anew = memory.study(study_uid, now)
                anew.rejections, anew.revision = kept, 1
            return True

    def forget_delivered(self, quiet_s: float, most_instances: int | None = None) -> Sequence[str] | None:
        with self._writing() as memory:
            now, most = self._clock.now(), inf if most_instances is None else most_instances
            gone = [
                study
                for study in memory.studies.values()
                if is_forgettable(memory, study, now - quiet_s) and len(study.instances) <= most
            ]
            for study in gone:
                earlier = memory.forgotten.get(study.uid, (0.0, b""))[1]
                named = [trace for one in study.patients if (trace := trace_of(orjson.loads(one)))]
                memory.forgotten[study.uid] = (float(int(now)), named[0] if named else earlier)
                del memory.studies[study.uid]
            memory.notifications = {k: v for k, v in memory.notifications.items() if v.study_uid in memory.studies}
            return [study.uid for study in gone] or None

    def seal_delivered(self, quiet_s: float) -> Sequence[str] | None:
        with self._reading():
            return None  # nothing is stored in less space

    def forgotten_at(self, study_uid: str) -> float | None:
        with self._reading() as memory:
            return memory.forgotten.get(study_uid, (None, b""))[0]

    # What there is

    def study(self, study_uid: str) -> Study | None:
        with self._reading() as memory:
            found = memory.studies.get(study_uid)
            if found is None:
                return None
            records = [kept.record for kept in found.instances.values()]
            stated: dict[str, tuple[Availability, ...]] = {}
            for (uid, _), each in sorted(found.stated.items()):
                stated[uid] = (*stated.get(uid, ()), each)
            steps = [found.steps[uid] for uid in sorted(found.steps)]
            named = {uid: memory.studies[uid].rejected() for uid in found.mentions & memory.studies.keys()}
            elsewhere = {uid: frozenset(one.uid for one in said if one.uid != one.note) for uid, said in named.items()}
            made = assemble(
                *(study_uid, found.revision, records, found.settlement, stated, steps, found.rejected()),
                {uid: uids for uid, uids in elsewhere.items() if uids},
            )
            if study_uid not in memory.forgotten:
                return made
            return late_part(made, bool(found.rejected()), memory.forgotten[study_uid][1])

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        with self._reading() as memory:
            study = memory.studies.get(study_uid)
            return overview.patients(study) if study else []

    def stated(self, study_uid: str) -> Mapping[str, Sequence[str]]:
        with self._reading() as memory:
            study = memory.studies.get(study_uid)
            return overview.stated(study) if study else {}

    def study_status(self, study_uid: str) -> StudyStatus | None:
        with self._reading() as memory:
            study = memory.studies.get(study_uid)
            if study is None:
                return None
            status = overview.study_status(memory, study, self._memory.rule)
            return replace(status, without_content=overview.without_content(study))

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        with self._reading() as memory:
            latest = sorted(memory.studies.values(), key=lambda one: (one.last_at, one.number), reverse=True)
            found = [overview.study_status(memory, study, self._memory.rule) for study in latest]
        return [one for one in found if state is None or state in {row.state for row in one.deliveries}][:limit]

    def outdated_studies(self, limit: int = 100) -> Sequence[StudyStatus]:
        with self._reading() as memory:
            found = [study for study in memory.studies.values() if overview.is_outdated(study, self._reader)]
            return [overview.study_status(memory, study, self._memory.rule) for study in found[:limit]]

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        with self._reading() as memory:
            return memory.rejections[:limit]

    def forget_rejections(self, until: float) -> int:
        with self._writing() as memory:
            before = len(memory.rejections)
            memory.rejections[:] = [one for one in memory.rejections if one.at > until]
            return before - len(memory.rejections)

    def oldest_undelivered(self) -> Undelivered | None:
        with self._reading() as memory:
            return overview.oldest_undelivered(memory, memory.rule)

    def stats(self) -> Stats:
        with self._reading() as memory:
            return overview.stats(memory, self._reader)

    def destinations(self) -> Sequence[DestinationStatus]:
        with self._reading() as memory:
            return overview.destinations(memory)

    def update_index(self) -> bool:
        return False

    def find_studies(self, wanted: StudyFilter, after: Position | None = None, limit: int = 50) -> Sequence[FoundStudy]:
        with self._reading() as memory:
            found = [search.find(memory, study, self.study(study.uid), wanted) for study in memory.studies.values()]
        latest = sorted((one for one in found if one), key=lambda one: search.place(one.position), reverse=True)
        return [one for one in latest if after is None or search.place(one.position) < search.place(after)][:limit]

    def study_details(self, study_uid: str) -> StudyDetails | None:
        with self._reading() as memory:
            study = memory.studies.get(study_uid)
            return search.details(memory, study) if study else None

    def last_sent(self, study_uid: str) -> Mapping[str, bytes]:
        with self._reading() as memory:
            return {
                name: delivery.base
                for study, name, delivery in memory.deliveries()
                if study.uid == study_uid and delivery.base
            }

    def recent_attempts(self, since: float, limit: int = 100) -> Sequence[StudyAttempt]:
        with self._reading() as memory:
            found = [
                StudyAttempt(study.uid, one) for study, _, delivery in memory.deliveries() for one in delivery.history
            ]
        latest = sorted(found, key=lambda one: one.attempt.at, reverse=True)
        return [one for one in latest if one.attempt.at >= since][:limit]

    def counts(self, since: float) -> Sequence[MinuteCounts]:
        now = self._clock.now()
        with self._reading() as memory:
            minutes = sorted(minute for minute, n in (memory.received + memory.delivered).items() if n)
            return [
                MinuteCounts(minute * 60.0, memory.received[minute], memory.delivered[minute])
                for minute in minutes
                if minute >= int(since // 60) and minute >= int(now // 60) - KEPT_COUNTS_S // 60
            ]

    # Who looks after it

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers.append(callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers = [one for one in self._subscribers if one != callback]

    def close(self) -> None:
        self._is_closed = True
        if self._owns:
            self._memory.is_owned = False
