"""What the writer does when instances and files arrive."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.store.base import Change, Rejection
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sqlite import rejection_notes
from dicom2fhir.store.sqlite.rows import Packed, mark_row, rejection_row
from dicom2fhir.store.sqlite.statements import Row, Statements

KEPT_REJECTIONS = 10_000
NO_READER = -1
"""The reader of studies of which no instance has arrived."""
_KNOWN_STUDIES = 256
_KNOWN_ROWS = 1_000
"""Of each kind of one study."""
_KEY = 3
"""The number of columns that identify an instance: study, SOP Instance UID, series."""


class Arrival(NamedTuple):
    """An instance with the association and the AE title that sent it; both are empty if there was no association."""

    packed: Packed
    association: str
    calling_ae: str
    is_sent: bool
    """Whether it came over an association, and not from a file."""


@dataclass(slots=True, eq=False)
class KnownStudy:
    """Row numbers that the instances of a study share."""

    id: int
    is_current: bool
    """Whether all of it was read by the reader of this process."""
    is_awaited: bool
    """Whether an ended procedure step lists instances of it that have not arrived."""
    is_restorable: bool
    """Whether an instance of it that arrives may have been rejected because its retention had expired."""
    series: dict[str, int] = field(default_factory=dict)
    attrs: dict[bytes, int] = field(default_factory=dict)
    """By their hash."""
    held_by: set[str] = field(default_factory=set)
    """Associations."""
    is_open: bool = False
    """Whether a new instance changes no delivery: all wait, or have recorded a change since their claim."""


class KnownRows:
    """A cache of row numbers for the writer; such rows are never deleted while a daemon runs.

    It must be emptied when a transaction is rolled back: :meth:`forget`.

    Parameters
    ----------
    sees_claims
        Whether all claims are taken and ended in this process. If not, nothing is known about deliveries.

    Attributes
    ----------
    reader
        The number of the reader of all instances that arrive.
    """

    def __init__(self, sees_claims: bool) -> None:
        self.reader = 0
        self._sees_claims = sees_claims
        self._studies: dict[str, KnownStudy] = {}

    def forget(self) -> None:
        """Empty the cache."""
        self._studies.clear()

    def forget_association(self, association: str) -> None:
        """Forget what an association holds."""
        for study in self._studies.values():
            study.held_by.discard(association)

    def forget_deliveries(self, study_uids: Iterable[str]) -> None:
        """Assume that a new instance changes deliveries of these studies: a claim was taken or ended."""
        for uid in study_uids:
            if study := self._studies.get(uid):
                study.is_open = False

    def opened(self, study: KnownStudy) -> None:
        """Note that ``reopen`` was run for a study."""
        study.is_open = self._sees_claims

    def is_open(self, arrival: Arrival) -> bool:
        """Whether an instance changes nothing but its study."""
        study = self._studies.get(arrival.packed.study_uid)
        return study is not None and study.is_open

    def row(self, arrival: Arrival) -> Row | None:
        """Row of an instance for ``arrive``; None if it changes more than its study, or a number is unknown."""
        packed, association, _, _ = arrival
        study = self._studies.get(packed.study_uid)
        if study is None or not study.is_current or study.is_awaited or study.is_restorable:
            return None
        if packed.mentions or packed.rejection_note:
            return None
        if association not in study.held_by:
            return None
        numbers = (
            study.series.get(packed.series_uid),
            study.attrs.get(packed.patient[0]),
            study.attrs.get(packed.study[0]),
            study.attrs.get(packed.series[0]),
        )
        return None if None in numbers else (study.id, packed.sop_uid, *numbers, packed.body, packed.notes)

    def learn(self, sql: Statements, packed: Packed, now: float) -> tuple[KnownStudy, Row]:
        """The study of an instance, and its row for ``arrive``; missing rows are added."""
        study = self.study(sql, packed.study_uid, now, self.reader)
        series = self._series(sql, study, packed.series_uid)
        shared = (self.attrs(sql, study, each) for each in (packed.patient, packed.study, packed.series))
        return study, (study.id, packed.sop_uid, series, *shared, packed.body, packed.notes)

    def study(self, sql: Statements, uid: str, now: float, reader: int) -> KnownStudy:
        """The rows of a study; a new one is added with its deliveries and its reader."""
        study = self._studies.get(uid)
        if study is None:
            found = sql.one("known_study", study_uid=uid, reader=self.reader, expired=RETENTION_EXPIRED)
            if found:
                study = KnownStudy(found[0], bool(found[1]), bool(found[2]), bool(found[3]))
            else:
                study_id = sql.insert("new_study", study_uid=uid, now=now, reader=reader)
                study = KnownStudy(study_id, is_current=reader == self.reader, is_awaited=False, is_restorable=False)
                sql.wake |= sql.run("new_deliveries", study_id=study.id, now=now) > 0
            if len(self._studies) >= _KNOWN_STUDIES:
                del self._studies[next(iter(self._studies))]
            self._studies[uid] = study
        return study

    @staticmethod
    def _series(sql: Statements, study: KnownStudy, uid: str) -> int:
        number = study.series.get(uid)
        if number is None:
            row = sql.one("series_id", study_id=study.id, series_uid=uid)
            number = row[0] if row else sql.insert("new_series", study_id=study.id, series_uid=uid)
            if len(study.series) >= _KNOWN_ROWS:
                study.series.clear()
            study.series[uid] = number
        return number

    @staticmethod
    def attrs(sql: Statements, study: KnownStudy, hashed: tuple[bytes, bytes]) -> int:
        """The number of a mapping; a new one is added."""
        digest, body = hashed
        number = study.attrs.get(digest)
        if number is None:
            row = sql.one("attrs_id", study_id=study.id, hash=digest)
            number = row[0] if row else sql.insert("new_attrs", study_id=study.id, hash=digest, body=body)
            if len(study.attrs) >= _KNOWN_ROWS:
                study.attrs.clear()
            study.attrs[digest] = number
        return number


def reader_number(sql: Statements, fingerprint: str) -> int:
    """The number of a reader; a new one is added."""
    row = sql.one("reader_id", fingerprint=fingerprint)
    return row[0] if row else sql.insert("new_reader", fingerprint=fingerprint)


def schedule(sql: Statements, study_ids: Iterable[int], destination_id: int | None = None) -> None:
    """Apply the due rule to studies, at one destination or at all; called after each change that affects it."""
    sql.run("schedule", studies=_numbers(study_ids), destination_id=destination_id)


def fill_destination(sql: Statements, destination: str, now: float) -> None:
    """Give a destination every study that it has no delivery of."""
    (destination_id,) = sql.one("destination_id", destination=destination) or (None,)
    study_ids = [study_id for (study_id,) in sql.all("lacking_studies", destination_id=destination_id)]
    sql.run("fill_destination", studies=_numbers(study_ids), destination_id=destination_id, now=now)
    schedule(sql, study_ids, destination_id)


def add(sql: Statements, known: KnownRows, arrivals: Sequence[Arrival], now: float) -> None:
    """Store instances.

    Most instances arrive over an association that already holds their study, so the study waits for its end. These are
    stored by one statement without a transaction, because no due time changes. Unchanged instances are not written.
    """
    opened: list[Row] = []
    closed: list[Row] = []
    for arrival in arrivals:
        row = known.row(arrival)
        if row is None:
            add_many(sql, known, arrivals, now)
            return
        (opened if known.is_open(arrival) else closed).append(row)
    if closed and set(_changes(sql, closed)) != {Change.UNCHANGED}:
        add_many(sql, known, arrivals, now)
    elif opened:
        _arrive(sql, known, opened, now)


def add_many(sql: Statements, known: KnownRows, arrivals: Sequence[Arrival], now: float) -> list[Change]:
    """Store instances; the change that each has made."""
    with sql.transaction():
        learnt = [known.learn(sql, arrival.packed, now) for arrival in arrivals]
        rows = [row for _, row in learnt]
        changes = _changes(sql, rows)
        changed = {row[0] for row, change in zip(rows, changes, strict=True) if change is not Change.UNCHANGED}
        _arrive(sql, known, rows, now)
        outdated = {study.id: study for study, _ in learnt if not study.is_current}
        if outdated:
            _read_anew(sql, known, outdated, rows)
        held, resent = set(), set()
        rejected = _apply_rejections(sql, known, learnt, arrivals, now)
        for (study, _), (packed, association, calling_ae, _) in zip(learnt, arrivals, strict=True):
            for uid in packed.mentions:
                sql.run("new_mention", uid=uid, study_id=study.id)
            if association and association not in study.held_by:
                study.held_by.add(association)
                if sql.run("hold", association=association, study_id=study.id):
                    held.add(study.id)
                    if sql.run("new_origin", study_id=study.id, calling_ae=calling_ae, now=now):
                        resent.add(study.id)
        reopen(sql, changed, now)
        reopen(sql, resent - changed, now, instances_changed=False)
        for study, _ in learnt:
            if study.id in changed:
                known.opened(study)
        for study in {study.id: study for study, _ in learnt if study.is_awaited}.values():
            _await_less(sql, study, rows)
        schedule(sql, changed | held | rejected)
    return changes


def _apply_rejections(
    sql: Statements,
    known: KnownRows,
    learnt: Iterable[tuple[KnownStudy, Row]],
    arrivals: Iterable[Arrival],
    now: float,
) -> set[int]:
    """What rejection notes among the arrivals state, and what comes again after its retention had expired, in order.

    Returns
    -------
    set of int
        The studies that change.
    """
    changed: dict[int, KnownStudy] = {}
    for (own, _), (packed, *_, is_sent) in zip(learnt, arrivals, strict=True):
        if is_sent and own.is_restorable and rejection_notes.restore(sql, own.id, packed.sop_uid):
            changed[own.id] = own
        note = packed.rejection_note
        if note is None:
            continue
        if rejection_notes.keep(sql, note, own.id, [note.uid]):
            changed[own.id] = own
        for study_uid, uids in note.instances.items():
            study = known.study(sql, study_uid, now, NO_READER)
            study.is_restorable |= note.code == RETENTION_EXPIRED
            if rejection_notes.keep(sql, note, study.id, uids):
                changed[study.id] = study
    for study in changed.values():
        change(sql, known, study, now)
    return set(changed)


def change(sql: Statements, known: KnownRows, study: KnownStudy, now: float) -> None:
    """Raise the revision of a study of which something was stated; ``schedule`` must follow."""
    sql.run("raise_revision", study_id=study.id, now=now)
    reopen(sql, [study.id], now)
    known.opened(study)


def reopen(sql: Statements, study_ids: Collection[int], now: float, *, instances_changed: bool = True) -> None:
    """Make deliveries wait again that do not contain what has arrived."""
    if study_ids:
        reopened = sql.run("reopen", studies=_numbers(study_ids), now=now, instances_changed=instances_changed)
        sql.wake |= reopened > 0


def _changes(sql: Statements, rows: Sequence[Row]) -> list[Change]:
    """The change that each of these instances will make, in their order."""
    keys = orjson.dumps([row[:2] for row in rows]).decode()
    present = {row[:_KEY]: row for row in sql.all("present", keys=keys)}
    changes = []
    for row in rows:
        old = present.get(row[:_KEY])
        changes.append(Change.UNCHANGED if old == row else Change.CHANGED if old else Change.NEW)
        present[row[:_KEY]] = row
    return changes


def _read_anew(sql: Statements, known: KnownRows, outdated: Mapping[int, KnownStudy], rows: Sequence[Row]) -> None:
    """Record the reader of instances whose studies another reader has read in part."""
    keys = orjson.dumps([row[:_KEY] for row in rows if row[0] in outdated]).decode()
    sql.run("read_by", keys=keys, reader=known.reader)
    for study in outdated.values():
        study.is_current = sql.run("read_anew", study_id=study.id, reader=known.reader) > 0


def _await_less(sql: Statements, study: KnownStudy, rows: Sequence[Row]) -> None:
    """Record that awaited instances have arrived; the last of them makes the study due at once."""
    keys = orjson.dumps([row[:2] for row in rows if row[0] == study.id]).decode()
    sql.run("awaited_arrived", keys=keys)
    hasten_complete(sql, study)


def hasten_complete(sql: Statements, study: KnownStudy) -> None:
    """Make the present revision of a study prompt if the study is complete; ``schedule`` must follow."""
    study.is_awaited = sql.one("is_awaited", study_id=study.id) == (1,)
    if not study.is_awaited and sql.one("steps_are_done", study_id=study.id) == (1,):
        hasten(sql, study)


def hasten(sql: Statements, study: KnownStudy) -> None:
    """Make the present revision of a study prompt; ``schedule`` must follow."""
    sql.run("hasten", study_id=study.id)
    study.is_open = False  # the next instance changes the due time
    sql.wake = True


def _arrive(sql: Statements, known: KnownRows, rows: Iterable[Row], now: float) -> None:
    instances = orjson.dumps([(*numbers, body.decode(), notes and notes.decode()) for (*numbers, body, notes) in rows])
    sql.run("arrive", instances=instances.decode(), now=now, reader=known.reader)


def _numbers(numbers: Iterable[int]) -> str:
    """Row numbers as a JSON array, for the statements."""
    return orjson.dumps(list(numbers)).decode()


def end_association(sql: Statements, known: KnownRows, association: str) -> None:
    """Release the studies that an association held."""
    known.forget_association(association)
    held = [study_id for (study_id,) in sql.all("held_by", association=association)]
    if held:
        sql.run("release", association=association)
        schedule(sql, held)
        sql.wake = True


def release_former_owner(sql: Statements, now: float) -> None:
    """Release the leases and the associations of a process that has ended.

    The clock may have been set since.
    """
    held = {study_id for name in ("held_studies", "leased_studies") for (study_id,) in sql.all(name)}
    sql.run("release_all")
    sql.run("void_leases")
    schedule(sql, held)
    follow_clock(sql, now)


def follow_clock(sql: Statements, now: float) -> None:
    """Recompute due times after the clock was set; a second call changes nothing.

    No wait becomes longer than it was when it began, and leases stay valid.
    """
    sql.run("begin_studies_by_now", now=now)
    sql.run("renew_leases", now=now)
    sql.run("begin_waits_by_now", now=now)
    schedule(sql, {study_id for (study_id,) in (*sql.all("not_due", now=now), *sql.all("leased_studies"))})
    sql.wake = True


def reject(sql: Statements, rejection: Rejection) -> None:
    """Record a rejection and delete the oldest."""
    number = sql.insert("new_rejection", **rejection_row(rejection))
    sql.run("forget_rejections", last_id=number - KEPT_REJECTIONS)


def mark_files(sql: Statements, known: KnownRows, marks: Iterable[FileMark]) -> None:
    """Record what was done with files."""
    sql.run_many("mark_file", [mark_row(mark, known.reader) for mark in marks])
