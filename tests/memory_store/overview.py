"""What a store in memory tells of itself; everything is counted each time."""

from __future__ import annotations

from collections import Counter

import orjson

from dicom2fhir.dicom.patients import NamedPatient, named
from dicom2fhir.store.notices import StepStatus
from dicom2fhir.store.selection import stated_by
from dicom2fhir.store.statuses import (
    DeliveryStatus,
    DestinationStatus,
    RejectionReason,
    State,
    Stats,
    StudyStatus,
    Undelivered,
)
from tests.memory_store.memory import DueRule, Memory, StudyRow, json_of


def study_status(memory: Memory, study: StudyRow, rule: DueRule) -> StudyStatus:
    return StudyStatus(
        study_uid=study.uid,
        revision=study.revision,
        series=len({series for series, _ in study.instances}),
        instances=len(study.instances),
        first_at=study.first_at,
        last_at=study.last_at,
        association_open=bool(study.held_by),
        deliveries=tuple(
            DeliveryStatus(
                destination=name,
                state=one.state,
                delivered_revision=one.revision,
                due_at=rule.due_at(study, one),
                attempts=one.attempts,
                reason=one.reason,
                delivered_at=one.delivered_at,
                unclaimed=one.unclaimed,
                refused=one.refused,
                paused_at=memory.destinations[name].paused_at,
            )
            for name, one in sorted(study.deliveries.items())
            if memory.destinations[name].in_force
        ),
        stated=len({uid for uid, _ in study.stated}),
        steps=tuple(StepStatus(uid, step.status) for uid, step in sorted(study.steps.items())),
        missing=len(study.missing),
        rejected=len({each.uid for each in study.rejected() if each.uid != each.note}),
        rejections=_reasons(study),
        asked_to_reject=[state for _, state, _ in study.rejections.values()].count("asked"),
    )


def _reasons(study: StudyRow) -> tuple[RejectionReason, ...]:
    named = {(each.code, each.modifiers, each.uid) for each in study.rejected() if each.uid != each.note}
    counts = Counter((code, modifiers) for code, modifiers, _ in named)
    return tuple(RejectionReason.of(*reason, count) for reason, count in sorted(counts.items()))


def without_content(study: StudyRow) -> int:
    records = [kept.record for kept in study.instances.values()]
    return sum(any(note.where == "EncapsulatedDocument" for note in record.notes) for record in records)


def patients(study: StudyRow) -> list[NamedPatient]:
    counts = Counter(json_of(kept.record.patient) for kept in study.instances.values())
    return named([(orjson.loads(one), counts[one]) for one in study.patients if counts[one]], study.settlement)


def stated(study: StudyRow) -> dict[str, tuple[str, ...]]:
    records = [kept.record for kept in study.instances.values()]
    of_instances = [attrs for one in records for attrs in (one.study, one.series)]
    return stated_by(of_instances or [step.attrs for step in study.steps.values()], study.senders)


def is_outdated(study: StudyRow, reader: str) -> bool:
    return any(kept.reader != reader for kept in study.instances.values())


def stats(memory: Memory, reader: str) -> Stats:
    studies = memory.studies.values()
    deliveries = [delivery for _, _, delivery in memory.deliveries()]
    states = Counter(delivery.state for delivery in deliveries)
    return Stats(
        studies=len(studies),
        series=sum(len({series for series, _ in study.instances}) for study in studies),
        instances=sum(len(study.instances) for study in studies),
        **{state.value: states[state] for state in State},
        rejected=memory.rejected.total(),
        rejected_by_kind=dict(memory.rejected),
        skipped=sum(mark.outcome == "skipped" for mark, _ in memory.marks.values()),
        outdated=sum(is_outdated(study, reader) for study in studies),
        oldest_undelivered_at=min((one.changed_at for one in deliveries if one.is_open), default=None),
    )


def oldest_undelivered(memory: Memory, rule: DueRule) -> Undelivered | None:
    waiting = [(one.changed_at, name, study) for study, name, one in memory.deliveries() if one.is_open]
    if not waiting:
        return None
    since, name, study = min(waiting, key=lambda found: found[0])
    return Undelivered(study_status(memory, study, rule), name, since)


def destinations(memory: Memory) -> list[DestinationStatus]:
    found = []
    for name, destination in sorted(memory.destinations.items()):
        delivered = (one for _, _, one in memory.deliveries(name) if one.state is State.DELIVERED)
        made = Counter(one.fingerprint for one in delivered if one.fingerprint != destination.fingerprint)
        if destination.in_force:
            found.append(DestinationStatus(name, destination.fingerprint, dict(made), destination.paused_at))
    return found
