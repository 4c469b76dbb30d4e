"""What the writer does with rejection notes, and how what they state is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import orjson

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.model import Code, RejectedInstance, RejectionNote
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.statuses import RejectionReason


def keep(sql: Statements, note: RejectionNote, study_id: int, uids: Iterable[str]) -> bool:
    """Store what a note states of instances of a study; whether that changes the study."""
    state = "in force" if note.is_applied else "asked"
    listed, modifiers = (orjson.dumps([*each]).decode() for each in (uids, map(list, note.modifiers)))
    said = {"code": note.code, "state": state, "modifiers": modifiers}
    changed = sql.run("reject_instances", study_id=study_id, note=note.uid, uids=listed, **said)
    return note.is_applied and changed > 0


def restore(sql: Statements, study_id: int, sop_uid: str) -> bool:
    """Record that an instance was imported again after its retention had expired; whether it was rejected for that."""
    return sql.run("restore_instance", study_id=study_id, uid=sop_uid, code=RETENTION_EXPIRED) > 0


def read_rejections(sql: Statements, study_id: int) -> list[RejectedInstance]:
    """What rejection notes that are applied state of the instances of a study."""
    rows = sql.all("study_rejections", study_id=study_id)
    return [RejectedInstance(uid, note, code, _codes(modifiers)) for uid, note, code, modifiers in rows]


def read_reasons(sql: Statements, study_id: int) -> tuple[RejectionReason, ...]:
    """See :attr:`dicom2fhir.store.statuses.StudyStatus.rejections`."""
    rows = sql.all("rejection_reasons", study_id=study_id)
    found = sorted((code, _codes(modifiers), count) for code, modifiers, count in rows)
    return tuple(RejectionReason.of(*each) for each in found)


def _codes(modifiers: str) -> tuple[Code, ...]:
    return tuple(Code(*each) for each in orjson.loads(modifiers))


def read_rejected_elsewhere(sql: Statements, study_id: int) -> Mapping[str, frozenset[str]]:
    """See :attr:`dicom2fhir.model.Study.rejected_elsewhere`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for study_uid, sop_uid in sql.all("rejected_elsewhere", study_id=study_id):
        found[study_uid].add(sop_uid)
    return {study_uid: frozenset(uids) for study_uid, uids in found.items()}
