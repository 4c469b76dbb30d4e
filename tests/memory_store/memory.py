"""What a store in memory keeps, and the due rule in plain Python."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import orjson

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import (
    Availability,
    AvailabilityNotification,
    Code,
    InstanceRecord,
    ProcedureStep,
    RejectedInstance,
    RejectionNote,
)
from dicom2fhir.store.base import Failing
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import Rejection, State
from dicom2fhir.store.study_search import PastAttempt


@dataclass
class Destination:
    in_force: bool = True
    fingerprint: str = ""
    selection: str = ""
    accepted: int = 0
    requeued: int = 0
    paused_at: float | None = None


@dataclass
class Delivery:
    changed_at: float
    """The first change that the destination does not have."""
    state: State = State.WAITING
    asked_at: float | None = None
    """When somebody asked for it, or claimed it; None once its study has changed since."""
    newer_at: float | None = None
    """The first change since the claim."""
    not_before: float = 0.0
    tried_at: float = 0.0
    owner: str = ""
    lease_until: float = 0.0
    attempts: int = 0
    reason: str = ""
    refused: str = ""
    names_new: bool = False
    """Whether the destination has got, since the claim, a study that this one names."""
    revision: int = 0
    delivered_at: float = 0.0
    fingerprint: str = ""
    base: bytes = b""
    unclaimed: str = ""
    failing_s: float = 0.0
    failing_at: float | None = None
    failing_accepted: int = 0
    history: list[PastAttempt] = field(default_factory=list)
    """Newest first."""

    @property
    def is_open(self) -> bool:
        return self.state in (State.WAITING, State.SENDING)

    def wait(self, changed_at: float, asked_at: float | None = None) -> None:
        """Wait, as if nothing had been tried."""
        self.state, self.changed_at, self.asked_at, self.reason = State.WAITING, changed_at, asked_at, ""
        self.attempts, self.not_before, self.newer_at = 0, 0.0, None

    def end_lease(self, state: State, reason: str) -> None:
        self.state, self.reason, self.owner, self.lease_until, self.not_before = state, reason, "", 0.0, 0.0
        self.newer_at = None

    def failing(self, accepted: int, now: float, most_s: float) -> Failing:
        """Time counts that passed while the destination accepted others."""
        if self.failing_at is None:
            return Failing(self.failing_s, False, now, accepted)
        if accepted == self.failing_accepted:
            return Failing(self.failing_s, self.failing_s > 0, min(self.failing_at, now), accepted)
        passed_s = min(max(now - self.failing_at, 0.0), most_s)
        return Failing(self.failing_s + passed_s, True, now, accepted)

    def begin_failing_anew(self) -> None:
        self.failing_s, self.failing_at = 0.0, None

    def follow_clock(self, now: float) -> None:
        """No wait begins in the future, and none is longer than it was."""
        if self.state is State.SENDING:
            self.lease_until += now - self.tried_at
            self.tried_at = now
        self.not_before -= max(self.tried_at - now, 0.0)
        self.tried_at = min(self.tried_at, now)
        self.changed_at = min(self.changed_at, now)
        self.newer_at = self.newer_at and min(self.newer_at, now)


@dataclass
class Kept:
    """An instance, and by which reader it was read."""

    record: InstanceRecord
    text: bytes
    reader: str


@dataclass
class StudyRow:
    uid: str
    number: int
    first_at: float
    last_at: float
    revision: int = 0
    instances: dict[tuple[str, str], Kept] = field(default_factory=dict)
    """By series and SOP Instance UID."""
    patients: dict[bytes, None] = field(default_factory=dict)
    """Every mapping that came, in the order of arrival."""
    held_by: set[str] = field(default_factory=set)
    senders: dict[str, float] = field(default_factory=dict)
    """AE title -> when it first sent."""
    folders: dict[str, float] = field(default_factory=dict)
    """As ``senders``."""
    mentions: set[str] = field(default_factory=set)
    """The other studies that its documents name."""
    settlement: Mapping[str, Verdict] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    stated: dict[tuple[str, str], Availability] = field(default_factory=dict)
    """By SOP Instance UID and Retrieve AE Title."""
    steps: dict[str, ProcedureStep] = field(default_factory=dict)
    prompt_revision: int = -1
    rejections: dict[tuple[str, str], tuple[str, str, tuple[Code, ...]]] = field(default_factory=dict)
    """By SOP Instance UID and note: code, state and modifiers."""

    def reject(self, note: RejectionNote, uids: Iterable[str]) -> bool:
        """Whether that changes the study."""
        before = dict(self.rejections)
        for uid in uids:
            code, state, _ = self.rejections.get((uid, note.uid), ("", "", ()))
            if not state or (note.is_applied and (state == "asked" or code != note.code)):
                state = "in force" if note.is_applied else "asked"
            elif not note.is_applied:
                continue
            self.rejections[uid, note.uid] = (note.code, state, note.modifiers)
        return note.is_applied and before != self.rejections

    def restore(self, sop_uid: str) -> bool:
        """Whether that changes the study."""
        expired = [key for key, said in self.rejections.items() if said[:2] == ("113039", "in force")]
        restored = [key for key in expired if key[0] == sop_uid != key[1]]
        self.rejections.update((key, ("113039", "restored", self.rejections[key][2])) for key in restored)
        return bool(restored)

    def rejected(self) -> list[RejectedInstance]:
        """What is in force."""
        said = sorted(self.rejections.items())
        return [
            RejectedInstance(uid, note, code, modifiers)
            for (uid, note), (code, state, modifiers) in said
            if state == "in force"
        ]

    @property
    def missing(self) -> set[str]:
        """What ended steps list and has not come."""
        listed = {uid for step in self.steps.values() if step.has_ended for uid in step.instances}
        return listed - {uid for _, uid in self.instances}

    def hasten_if_complete(self) -> None:
        """Nothing more is to come."""
        steps = self.steps.values()
        done = all(one.status == "DISCONTINUED" or (one.status == "COMPLETED" and one.instances) for one in steps)
        if done and any(one.instances for one in steps) and not self.missing:
            self.prompt_revision = self.revision

    def apply_rule(self) -> None:
        """The study has changed: what somebody asked for before counts no more."""
        for delivery in self.deliveries.values():
            delivery.asked_at = None

    def reopen(self, now: float, closed: Collection[State]) -> None:
        """Something came: what is being sent remembers that, and what is closed waits again."""
        for delivery in self.deliveries.values():
            if delivery.state is State.SENDING and delivery.newer_at is None:
                delivery.newer_at = now
            elif delivery.state in closed:
                delivery.wait(now)


@dataclass(frozen=True)
class DueRule:
    quiet_period_s: float
    max_wait_s: float

    def due_at(self, study: StudyRow, delivery: Delivery) -> float:
        """When the study has been quiet or has waited long enough, or when somebody asked for it."""
        if not delivery.is_open:
            return 0.0
        if delivery.asked_at is not None:
            due_at = delivery.asked_at
        else:
            quiet_at = inf if study.held_by else study.last_at + self.quiet_period_s
            if study.prompt_revision == study.revision:
                quiet_at = study.last_at
            due_at = min(quiet_at, delivery.changed_at + self.max_wait_s)
        return max(due_at, delivery.not_before, delivery.lease_until)

    def follow_clock(self, study: StudyRow, now: float) -> None:
        """Nothing has happened in the future."""
        waiting = [one for one in study.deliveries.values() if one.is_open]
        if any(one.state is State.SENDING or self.due_at(study, one) > now for one in waiting):
            study.apply_rule()
        if study.last_at > now:
            study.first_at, study.last_at = min(study.first_at, now), now
        for delivery in waiting:
            delivery.follow_clock(now)


class Memory:
    """The content of a store; outlives those who open it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.studies: dict[str, StudyRow] = {}
        self.last_number = 0
        self.destinations: dict[str, Destination] = {}
        self.marks: dict[str, tuple[FileMark, str]] = {}
        """With the reader that looked at the file."""
        self.rejections: list[Rejection] = []
        self.rejected: Counter[str] = Counter()
        self.notifications: dict[str, AvailabilityNotification] = {}
        self.forgotten: dict[str, tuple[float, bytes]] = {}
        """UID -> when, and a trace of the patient."""
        self.is_owned = False
        self.received: Counter[int] = Counter()
        self.delivered: Counter[int] = Counter()
        """By minutes since the epoch."""
        self.rule = DueRule(30.0, 900.0)

    def study(self, uid: str, now: float) -> StudyRow:
        """A study; a new one waits at every destination in force."""
        if uid not in self.studies:
            self.last_number += 1
            in_force = [name for name, destination in self.destinations.items() if destination.in_force]
            deliveries = {name: Delivery(now) for name in in_force}
            self.studies[uid] = StudyRow(uid, self.last_number, now, now, deliveries=deliveries)
        return self.studies[uid]

    def deliveries(self, destination: str | None = None) -> Iterator[tuple[StudyRow, str, Delivery]]:
        """Those of destinations in force, of one or of all."""
        for study in self.studies.values():
            for name, delivery in study.deliveries.items():
                if self.destinations[name].in_force and destination in (None, name):
                    yield study, name, delivery


def is_forgettable(memory: Memory, study: StudyRow, quiet_since: float) -> bool:
    """Every destination has the study, and nothing is left to do or to decide."""
    in_force = [one for found, _, one in memory.deliveries() if found is study]
    is_everywhere = bool(in_force) and all(
        one.state is State.DELIVERED
        and one.delivered_at <= quiet_since
        and not one.refused
        and "ImagingStudy" not in one.reason
        for one in in_force
    )
    is_decided = not study.rejections and not study.settlement
    is_done = bool(study.instances) and all(step.has_ended for step in study.steps.values())
    return is_everywhere and is_decided and is_done and not study.held_by and study.last_at <= quiet_since


def text_of(record: InstanceRecord) -> bytes:
    """Equal for records of one instance that say the same."""
    notes = [[note.level, note.where, note.text] for note in record.notes]
    return json_of([record.patient, record.study, record.series, record.instance, notes])


def json_of(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=_as_dict, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise CannotUnderstand("The attributes cannot be stored: a value is not valid text") from error


def _as_dict(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
