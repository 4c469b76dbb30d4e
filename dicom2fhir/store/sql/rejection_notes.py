"""What the writer does with rejection notes, and how what they state is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import orjson

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.model import RejectedInstance, RejectionNote
from dicom2fhir.store.sql.statements import Statements


def keep(sql: Statements, note: RejectionNote, study_id: int, uids: Iterable[str]) -> bool:
    """Store what a note states of instances of a study; whether that changes the study."""
    state = "in force" if note.is_applied else "asked"
    listed = orjson.dumps(list(uids)).decode()
    changed = sql.run("reject_instances", study_id=study_id, note=note.uid, code=note.code, state=state, uids=listed)
    return note.is_applied and changed > 0


def restore(sql: Statements, study_id: int, sop_uid: str) -> bool:
    """Record that an instance was imported again after its retention had expired; whether it was rejected for that."""
    return sql.run("restore_instance", study_id=study_id, uid=sop_uid, code=RETENTION_EXPIRED) > 0


def read_rejections(sql: Statements, study_id: int) -> list[RejectedInstance]:
    """What rejection notes that are applied state of the instances of a study."""
    return [RejectedInstance(*row) for row in sql.all("study_rejections", study_id=study_id)]


def read_rejected_elsewhere(sql: Statements, study_id: int) -> Mapping[str, frozenset[str]]:
    """See :attr:`dicom2fhir.model.Study.rejected_elsewhere`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for study_uid, sop_uid in sql.all("rejected_elsewhere", study_id=study_id):
        found[study_uid].add(sop_uid)
    return {study_uid: frozenset(uids) for study_uid, uids in found.items()}
