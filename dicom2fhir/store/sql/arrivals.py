"""What the writer does when instances and files arrive."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sql import rejection_notes
from dicom2fhir.store.sql.known_rows import NO_READER, Arrival, KnownRows, KnownStudy
from dicom2fhir.store.sql.rows import as_json, mark_row, rejection_row
from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.statuses import Rejection

KEPT_REJECTIONS = 10_000
KEY_COLUMNS = 3
"""The number of columns that identify an instance: study, SOP Instance UID, series."""


def reader_number(sql: Statements, fingerprint: str) -> int:
    """The number of a reader; a new one is added."""
    row = sql.one("reader_id", fingerprint=fingerprint)
    return row[0] if row else sql.insert("new_reader", fingerprint=fingerprint)


def schedule(sql: Statements, study_ids: Iterable[int], destination_id: int | None = None) -> None:
    """Apply the due rule to studies, at one destination or at all; called after each change that affects it."""
    sql.run("schedule", studies=as_json(study_ids), destination_id=destination_id)


def fill_destination(sql: Statements, destination: str, now: float) -> None:
    """Give a destination every study that it has no delivery of."""
    (destination_id,) = sql.one("destination_id", destination=destination) or (None,)
    study_ids = [study_id for (study_id,) in sql.all("lacking_studies", destination_id=destination_id)]
    sql.run("fill_destination", studies=as_json(study_ids), destination_id=destination_id, now=now)
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
            _add_with_lookup(sql, known, arrivals, now)
            return
        (opened if known.is_open(arrival) else closed).append(row)
    if closed and (known.follow(sql) or set(_changes(sql, closed)) != {Change.UNCHANGED}):
        _add_with_lookup(sql, known, arrivals, now)
    elif opened:
        _arrive(sql, known, opened, now)


def _add_with_lookup(sql: Statements, known: KnownRows, arrivals: Sequence[Arrival], now: float) -> None:
    with sql.transaction():
        known.follow(sql)
        add_many(sql, known, arrivals, now)


def add_many(sql: Statements, known: KnownRows, arrivals: Sequence[Arrival], now: float) -> list[Change]:
    """Store instances, in a transaction that has begun with :meth:`KnownRows.follow`; the change that each has made."""
    learnt, added = known.learn(sql, [arrival.packed for arrival in arrivals], now)
    rows = [row for _, row in learnt]
    changes = _changes(sql, rows, added)
    changed = {row[0] for row, change in zip(rows, changes, strict=True) if change is not Change.UNCHANGED}
    for part in _without_repetition(rows):
        _arrive(sql, known, part, now)
    outdated = {study.id: study for study, _ in learnt if not study.is_current}
    if outdated:
        _read_anew(sql, known, outdated, rows)
    rejected = _apply_rejections(sql, known, learnt, arrivals, now)
    held, resent = _note_sources(sql, learnt, arrivals, now)
    reopen(sql, changed - added, now)
    reopen(sql, resent - changed - added, now, instances_changed=False)
    for study, _ in learnt:
        if study.id in changed:
            known.opened(study)
    for study in {study.id: study for study, _ in learnt if study.is_awaited}.values():
        _await_less(sql, study, rows)
    schedule(sql, changed | held | rejected)
    return changes


def _note_sources(
    sql: Statements, learnt: Iterable[tuple[KnownStudy, Row]], arrivals: Iterable[Arrival], now: float
) -> tuple[set[int], set[int]]:
    """Record what instances name and who sent them; the studies that are held since, and that have a new sender."""
    mentions: list[dict[str, object]] = []
    folders: list[dict[str, object]] = []
    holds: list[tuple[str, int]] = []
    senders: list[tuple[int, str]] = []
    for (study, _), (packed, association, calling_ae, folder, _) in zip(learnt, arrivals, strict=True):
        mentions += ({"uid": uid, "study_id": study.id} for uid in packed.mentions)
        if folder and folder not in study.folders:
            study.folders.add(folder)
            folders.append({"study_id": study.id, "folder": folder, "now": now})
        if association and association not in study.held_by:
            study.held_by.add(association)
            holds.append((association, study.id))
            senders.append((study.id, calling_ae))
    sql.run_many("new_mention", mentions)
    sql.run_many("new_folder", folders)
    if not holds:
        return set(), set()
    held = {study_id for (study_id,) in sql.all("hold", holds=as_json(holds))}
    return held, {study_id for (study_id,) in sql.all("new_origins", senders=as_json(senders), now=now)}


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
        The studies that change, with those whose documents name them.
    """
    changed: set[str] = set()
    for (own, _), (packed, *_, is_sent) in zip(learnt, arrivals, strict=True):
        if is_sent and own.is_restorable and rejection_notes.restore(sql, own.id, packed.sop_uid):
            changed.add(packed.study_uid)
        note = packed.rejection_note
        if note is None:
            continue
        if rejection_notes.keep(sql, note, own.id, [note.uid]):
            changed.add(packed.study_uid)
        for study_uid, uids in note.instances.items():
            study = known.study(sql, study_uid, now, NO_READER)
            study.is_restorable |= note.code == RETENTION_EXPIRED
            if rejection_notes.keep(sql, note, study.id, uids):
                changed.add(study_uid)
    naming = {uid for study_uid in changed for (uid,) in sql.all("mentioned_in", study_uid=study_uid)}
    studies, _ = known.studies(sql, changed | naming, now, NO_READER)
    for study in studies.values():
        change(sql, known, study, now)
    return {study.id for study in studies.values()}


def change(sql: Statements, known: KnownRows, study: KnownStudy, now: float) -> None:
    """Raise the revision of a study of which something was stated; ``schedule`` must follow."""
    sql.run("raise_revision", study_id=study.id, now=now)
    reopen(sql, [study.id], now)
    known.opened(study)


def reopen(sql: Statements, study_ids: Collection[int], now: float, *, instances_changed: bool = True) -> None:
    """Make deliveries wait again that do not contain what has arrived."""
    if study_ids:
        reopened = sql.run("reopen", studies=as_json(study_ids), now=now, instances_changed=instances_changed)
        sql.wake |= reopened > 0


def _changes(sql: Statements, rows: Sequence[Row], added: Collection[int] = ()) -> list[Change]:
    """The change that each of these instances will make, in their order; studies that were just added have none yet."""
    keys = [row[:2] for row in rows if row[0] not in added]
    present = {row[:KEY_COLUMNS]: row for row in sql.all("present", keys=as_json(keys))} if keys else {}
    changes = []
    for row in rows:
        old = present.get(row[:KEY_COLUMNS])
        changes.append(Change.UNCHANGED if old == row else Change.CHANGED if old else Change.NEW)
        present[row[:KEY_COLUMNS]] = row
    return changes


def _read_anew(sql: Statements, known: KnownRows, outdated: Mapping[int, KnownStudy], rows: Sequence[Row]) -> None:
    """Record the reader of instances whose studies another reader has read in part."""
    keys = as_json(row[:KEY_COLUMNS] for row in rows if row[0] in outdated)
    sql.run("read_by", keys=keys, reader=known.reader)
    for study in outdated.values():
        study.is_current = sql.run("read_anew", study_id=study.id, reader=known.reader) > 0


def _await_less(sql: Statements, study: KnownStudy, rows: Sequence[Row]) -> None:
    """Record that awaited instances have arrived; the last of them makes the study due at once."""
    keys = as_json(row[:2] for row in rows if row[0] == study.id)
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


def _without_repetition(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in parts, in their order, in each of which no instance occurs twice."""
    part: dict[Row, Row] = {}
    for row in rows:
        if row[:KEY_COLUMNS] in part:
            yield list(part.values())
            part = {}
        part[row[:KEY_COLUMNS]] = row
    yield list(part.values())


def _arrive(sql: Statements, known: KnownRows, rows: Iterable[Row], now: float) -> None:
    instances = instances_as_json(rows)
    sql.run("arrive", instances=instances, now=now, reader=known.reader, attached_writes=known.attached_writes)


def instances_as_json(rows: Iterable[Row]) -> str:
    """Rows of instances as a JSON array, for the statements."""
    return as_json((*numbers, body.decode(), notes and notes.decode()) for (*numbers, body, notes) in rows)


def end_association(sql: Statements, known: KnownRows, association: str) -> None:
    """Release the studies that an association held."""
    known.forget_association(association)
    held = [study_id for (study_id,) in sql.all("held_by", association=association)]
    if held:
        sql.run("release", association=association)
        schedule(sql, held)
        sql.wake = True


def release_former_owners(sql: Statements) -> None:
    """Release the leases and the associations of daemons that have ended."""
    held = {study_id for name in ("end_holds", "end_leases") for (study_id,) in sql.all(name)}
    schedule(sql, held)
    sql.wake |= bool(held)


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
