"""What the writer does when something comes in."""

from __future__ import annotations

from typing import TypedDict

from dicom2fhir.model import Origin
from dicom2fhir.store.base import Change, Rejection
from dicom2fhir.store.rows import Packed, rejection_row
from dicom2fhir.store.statements import Statements

KEPT_REJECTIONS = 10_000


class DueRule(TypedDict):
    """A study is due when nothing changed for the one, at the latest the other after its first undelivered change."""

    quiet_period_s: float
    max_wait_s: float


def settle(sql: Statements, study_id: int, rule: DueRule) -> None:
    """Say anew when a study is due everywhere; after each change of what that depends on."""
    sql.run("settle", study_id=study_id, **rule)


def add(sql: Statements, packed: Packed, origin: Origin, now: float, rule: DueRule) -> Change:
    """Keep an instance."""
    known = sql.one("study_id", study_uid=packed.study_uid)
    study_id: int = known[0] if known else sql.insert("new_study", study_uid=packed.study_uid, now=now)
    values = {
        "series_id": _series_id(sql, study_id, packed.series_uid),
        "patient_attrs": _attrs_id(sql, study_id, *packed.patient),
        "study_attrs": _attrs_id(sql, study_id, *packed.study),
        "series_attrs": _attrs_id(sql, study_id, *packed.series),
        "body": packed.body,
        "notes": packed.notes,
    }
    old = sql.one("instance", study_id=study_id, sop_uid=packed.sop_uid)
    first_of_association = bool(origin.association) and bool(
        sql.run("hold", association=origin.association, study_id=study_id)
    )
    if old == tuple(values.values()):
        if first_of_association:
            settle(sql, study_id, rule)
        return Change.UNCHANGED
    sql.run("change_instance" if old else "new_instance", study_id=study_id, sop_uid=packed.sop_uid, **values)
    sql.run("change_study", study_id=study_id, now=now)
    if known:
        sql.wake |= sql.run("reopen_deliveries", study_id=study_id, now=now) > 0
        sql.run("note_newer", study_id=study_id, now=now)
    else:
        sql.wake |= sql.run("new_deliveries", study_id=study_id, now=now) > 0
    settle(sql, study_id, rule)
    return Change.CHANGED if old else Change.NEW


def _series_id(sql: Statements, study_id: int, series_uid: str) -> int:
    row = sql.one("series_id", study_id=study_id, series_uid=series_uid)
    return row[0] if row else sql.insert("new_series", study_id=study_id, series_uid=series_uid)


def _attrs_id(sql: Statements, study_id: int, digest: bytes, body: bytes) -> int:
    row = sql.one("attrs_id", study_id=study_id, hash=digest)
    return row[0] if row else sql.insert("new_attrs", study_id=study_id, hash=digest, body=body)


def end_association(sql: Statements, association: str, rule: DueRule) -> None:
    """Let go of the studies that an association held."""
    held = sql.all("held_by", association=association)
    sql.run("release", association=association)
    for (study_id,) in held:
        settle(sql, study_id, rule)
    sql.wake |= bool(held)


def end_former_life(sql: Statements, rule: DueRule) -> None:
    """Let go of what a process held that is no more: its leases and its associations."""
    held = {study_id for name in ("held_studies", "leased_studies") for (study_id,) in sql.all(name)}
    sql.run("release_all")
    sql.run("void_leases")
    for study_id in held:
        settle(sql, study_id, rule)


def reject(sql: Statements, rejection: Rejection) -> None:
    """Remember a refusal and forget the oldest."""
    number = sql.insert("new_rejection", **rejection_row(rejection))
    sql.run("forget_rejections", last_id=number - KEPT_REJECTIONS)
