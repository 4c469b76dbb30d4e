"""What the writer does when something comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import orjson

from dicom2fhir.model import FileMark
from dicom2fhir.store.base import Change, Rejection
from dicom2fhir.store.rows import Packed, mark_row, rejection_row
from dicom2fhir.store.statements import Row, Statements

KEPT_REJECTIONS = 10_000
_KNOWN_STUDIES = 256
_KNOWN_ATTRS = 1_000
"""Of one study."""


class DueRule(TypedDict):
    """A study is due when nothing changed for the one, at the latest the other after its first undelivered change."""

    quiet_period_s: float
    max_wait_s: float


class Arrival(NamedTuple):
    """An instance and the association that it came over; empty text: none."""

    packed: Packed
    association: str


@dataclass(slots=True, eq=False)
class _StudyRows:
    """The numbers of rows that the instances of a study share."""

    id: int
    series: dict[str, int] = field(default_factory=dict)
    attrs: dict[bytes, int] = field(default_factory=dict)
    held_by: set[str] = field(default_factory=set)
    """Associations."""


class Known:
    """What the writer need not ask the file again; such rows are never deleted while a daemon runs.

    It is wrong once what it was learnt from is rolled back: :meth:`forget`.
    """

    def __init__(self) -> None:
        self._studies: dict[str, _StudyRows] = {}

    def forget(self) -> None:
        """Know nothing."""
        self._studies.clear()

    def forget_association(self, association: str) -> None:
        """Think of nothing as held by an association."""
        for rows in self._studies.values():
            rows.held_by.discard(association)

    def study(self, sql: Statements, uid: str, now: float) -> _StudyRows:
        """The rows of a study; a new one is added with its deliveries."""
        rows = self._studies.get(uid)
        if rows is None:
            found = sql.one("study_id", study_uid=uid)
            rows = _StudyRows(found[0] if found else sql.insert("new_study", study_uid=uid, now=now))
            if not found:
                sql.wake |= sql.run("new_deliveries", study_id=rows.id, now=now) > 0
            if len(self._studies) >= _KNOWN_STUDIES:
                del self._studies[next(iter(self._studies))]
            self._studies[uid] = rows
        return rows

    @staticmethod
    def series(sql: Statements, rows: _StudyRows, uid: str) -> int:
        """The row of a series."""
        number = rows.series.get(uid)
        if number is None:
            row = sql.one("series_id", study_id=rows.id, series_uid=uid)
            number = row[0] if row else sql.insert("new_series", study_id=rows.id, series_uid=uid)
            if len(rows.series) >= _KNOWN_ATTRS:
                rows.series.clear()
            rows.series[uid] = number
        return number

    @staticmethod
    def attrs(sql: Statements, rows: _StudyRows, hashed: tuple[bytes, bytes]) -> int:
        """The row of a mapping."""
        digest, body = hashed
        number = rows.attrs.get(digest)
        if number is None:
            row = sql.one("attrs_id", study_id=rows.id, hash=digest)
            number = row[0] if row else sql.insert("new_attrs", study_id=rows.id, hash=digest, body=body)
            if len(rows.attrs) >= _KNOWN_ATTRS:
                rows.attrs.clear()
            rows.attrs[digest] = number
        return number


def settle(sql: Statements, study_ids: Iterable[int], rule: DueRule) -> None:
    """Say anew when studies are due everywhere; after each change of what that depends on."""
    sql.run("settle", studies=_numbers(study_ids), **rule)


def add(sql: Statements, known: Known, arrivals: Sequence[Arrival], now: float, rule: DueRule) -> list[Change]:
    """Keep instances; a study's revision goes up by one at most, however many of them it gets."""
    studies = [known.study(sql, arrival.packed.study_uid, now) for arrival in arrivals]
    present, moved_on = _present(sql, studies, arrivals)
    newcomers: dict[tuple[int, str], Row] = {}
    changes = []
    changed: dict[int, _StudyRows] = {}
    unsettled: set[int] = set()
    for rows, (packed, association) in zip(studies, arrivals, strict=True):
        key = rows.id, packed.sop_uid
        values = (
            known.series(sql, rows, packed.series_uid),
            known.attrs(sql, rows, packed.patient),
            known.attrs(sql, rows, packed.study),
            known.attrs(sql, rows, packed.series),
            packed.body,
            packed.notes,
        )
        old = newcomers.get(key) or present.get(key)
        if old == values:
            change = Change.UNCHANGED
        else:
            change = Change.CHANGED if old else Change.NEW
            changed[rows.id] = rows
            if key in present:
                sql.run("change_instance", **_instance_row(key, values))
                present[key] = values
            else:
                newcomers[key] = values
        changes.append(change)
        if association and association not in rows.held_by:
            rows.held_by.add(association)
            if sql.run("hold", association=association, study_id=rows.id):
                unsettled.add(rows.id)
    if changed:
        if newcomers:
            sql.run("new_instances", instances=_new_rows(newcomers))
        sql.run("change_studies", studies=_numbers(changed), now=now)
        if reopened := moved_on & changed.keys():
            sql.run("note_change", studies=_numbers(reopened), now=now)
            sql.wake = True
            unsettled |= reopened
        # an open association keeps its study waiting, and nothing that comes over it makes that longer
        unsettled.update(number for number, rows in changed.items() if not rows.held_by)
    if unsettled:
        settle(sql, unsettled, rule)
    return changes


def _present(
    sql: Statements, studies: Sequence[_StudyRows], arrivals: Sequence[Arrival]
) -> tuple[dict[tuple[int, str], Row], set[int]]:
    """(study, SOP Instance UID) -> the row, of those arrivals that are kept already; and the studies that moved on."""
    keys = [(rows.id, arrival.packed.sop_uid) for rows, arrival in zip(studies, arrivals, strict=True)]
    found = sql.all("present", keys=orjson.dumps(keys).decode())
    return {row[:2]: row[2:] for row in found if row[1]}, {row[0] for row in found if not row[1]}


def _new_rows(newcomers: Mapping[tuple[int, str], Row]) -> str:
    """Instances as ``new_instances`` takes them."""
    rows = [
        (*key, *numbers, body.decode(), notes and notes.decode()) for key, (*numbers, body, notes) in newcomers.items()
    ]
    return orjson.dumps(rows).decode()


def _instance_row(key: tuple[int, str], values: Row) -> dict[str, Any]:
    study_id, sop_uid = key
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


def _numbers(numbers: Iterable[int]) -> str:
    """Row numbers as the statements take them: a JSON array."""
    return orjson.dumps(list(numbers)).decode()


def end_association(sql: Statements, known: Known, association: str, rule: DueRule) -> None:
    """Let go of the studies that an association held."""
    known.forget_association(association)
    held = [study_id for (study_id,) in sql.all("held_by", association=association)]
    if held:
        sql.run("release", association=association)
        settle(sql, held, rule)
        sql.wake = True


def end_former_life(sql: Statements, rule: DueRule) -> None:
    """Let go of what a process held that is no more: its leases and its associations."""
    held = {study_id for name in ("held_studies", "leased_studies") for (study_id,) in sql.all(name)}
    sql.run("release_all")
    sql.run("void_leases")
    settle(sql, held, rule)


def reject(sql: Statements, rejection: Rejection) -> None:
    """Remember a refusal and forget the oldest."""
    number = sql.insert("new_rejection", **rejection_row(rejection))
    sql.run("forget_rejections", last_id=number - KEPT_REJECTIONS)


def mark_files(sql: Statements, marks: Iterable[FileMark]) -> None:
    """Remember what became of files."""
    sql.run_many("mark_file", map(mark_row, marks))
