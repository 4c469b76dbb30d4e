"""What the writer does when something comes in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from dicom2fhir.model import FileMark, Origin
from dicom2fhir.store.base import Change, Rejection
from dicom2fhir.store.rows import Packed, mark_row, rejection_row
from dicom2fhir.store.statements import Row, Statements

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
    return _add_to_study(sql, [packed], origin.association, now, rule)[0]


def add_many(sql: Statements, batch: Iterable[Packed], origin: Origin, now: float, rule: DueRule) -> list[Change]:
    """Keep instances; a study's revision goes up by one, however many of them it gets."""
    order: dict[str, list[int]] = {}
    packed = list(batch)
    for place, one in enumerate(packed):
        order.setdefault(one.study_uid, []).append(place)
    changes = [Change.UNCHANGED] * len(packed)
    for places in order.values():
        of_study = _add_to_study(sql, [packed[place] for place in places], origin.association, now, rule)
        for place, change in zip(places, of_study, strict=True):
            changes[place] = change
    return changes


def _add_to_study(
    sql: Statements, batch: Sequence[Packed], association: str, now: float, rule: DueRule
) -> list[Change]:
    """Keep instances of one study."""
    known = sql.one("study_id", study_uid=batch[0].study_uid)
    study_id: int = known[0] if known else sql.insert("new_study", study_uid=batch[0].study_uid, now=now)
    ids = _Ids(sql, study_id)
    newcomers: dict[str, Row] = {}
    changes = []
    for packed in batch:
        values = (
            ids.series(packed.series_uid),
            ids.attrs(packed.patient),
            ids.attrs(packed.study),
            ids.attrs(packed.series),
            packed.body,
            packed.notes,
        )
        newcomer = newcomers.get(packed.sop_uid)
        old = newcomer or (sql.one("instance", study_id=study_id, sop_uid=packed.sop_uid) if known else None)
        if old == values:
            changes.append(Change.UNCHANGED)
        elif old is None or newcomer:
            newcomers[packed.sop_uid] = values
            changes.append(Change.CHANGED if old else Change.NEW)
        else:
            sql.run("change_instance", **_instance_row(study_id, packed.sop_uid, values))
            changes.append(Change.CHANGED)
    first_of_association = bool(association) and bool(sql.run("hold", association=association, study_id=study_id))
    if all(change is Change.UNCHANGED for change in changes):
        if first_of_association:
            settle(sql, study_id, rule)
        return changes
    sql.run_many("new_instance", (_instance_row(study_id, uid, values) for uid, values in newcomers.items()))
    sql.run("change_study", study_id=study_id, now=now)
    if known:
        sql.wake |= sql.run("reopen_deliveries", study_id=study_id, now=now) > 0
        sql.run("note_newer", study_id=study_id, now=now)
    else:
        sql.wake |= sql.run("new_deliveries", study_id=study_id, now=now) > 0
    settle(sql, study_id, rule)
    return changes


def _instance_row(study_id: int, sop_uid: str, values: Row) -> dict[str, Any]:
    series_id, patient_attrs, study_attrs, series_attrs, body, notes = values
    return {
        "study_id": study_id,
        "sop_uid": sop_uid,
        "series_id": series_id,
        "patient_attrs": patient_attrs,
        "study_attrs": study_attrs,
        "series_attrs": series_attrs,
        "body": body,
        "notes": notes,
    }


class _Ids:
    """The rows that instances of a study share, found or made, each asked for once."""

    __slots__ = ("_attrs", "_series", "_sql", "_study_id")

    def __init__(self, sql: Statements, study_id: int) -> None:
        self._sql = sql
        self._study_id = study_id
        self._series: dict[str, int] = {}
        self._attrs: dict[bytes, int] = {}

    def series(self, uid: str) -> int:
        number = self._series.get(uid)
        if number is None:
            row = self._sql.one("series_id", study_id=self._study_id, series_uid=uid)
            number = row[0] if row else self._sql.insert("new_series", study_id=self._study_id, series_uid=uid)
            self._series[uid] = number
        return number

    def attrs(self, hashed: tuple[bytes, bytes]) -> int:
        digest, body = hashed
        number = self._attrs.get(digest)
        if number is None:
            row = self._sql.one("attrs_id", study_id=self._study_id, hash=digest)
            number = row[0] if row else self._sql.insert("new_attrs", study_id=self._study_id, hash=digest, body=body)
            self._attrs[digest] = number
        return number


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


def mark_files(sql: Statements, marks: Iterable[FileMark]) -> None:
    """Remember what became of files."""
    sql.run_many("mark_file", map(mark_row, marks))
