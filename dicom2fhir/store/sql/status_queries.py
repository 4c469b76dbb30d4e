"""The queries of ``status``."""

from __future__ import annotations

from dataclasses import replace

import orjson

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.rows import read_status
from dicom2fhir.store.sql.sealed_rows import notes_of
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.statuses import DestinationStatus, State, Stats, StudyStatus, Undelivered


def study_status(sql: Statements, study_uid: str) -> StudyStatus | None:
    """The status of one study."""
    row = sql.one("study_status", study_uid=study_uid)
    if row is None:
        return None
    return replace(read_status(sql, row), without_content=_count_without_content(sql, row[0]))


def _count_without_content(sql: Statements, study_id: int) -> int:
    """The number of instances whose document was too large to be kept; a note is [level, attribute, text]."""
    try:
        return sum(
            any(where == "EncapsulatedDocument" for _, where, _ in orjson.loads(notes))
            for notes in notes_of(sql, study_id)
        )
    except (StoreDamaged, TypeError, ValueError):  # a person must see damaged studies, too
        return 0


def studies(sql: Statements, state: State | None, limit: int) -> list[StudyStatus]:
    """The latest changed studies, newest first."""
    if state is None:
        rows = sql.all("latest_studies", limit=limit)
    else:
        rows = sql.all("latest_studies_in_state", limit=limit, state=state)
    return [read_status(sql, row) for row in rows]


def outdated_studies(sql: Statements, reader: str, limit: int) -> list[StudyStatus]:
    """Studies with instances that another reader has read."""
    return [read_status(sql, row) for row in sql.all("outdated_studies", reader=reader, limit=limit)]


def oldest_undelivered(sql: Statements) -> Undelivered | None:
    """The delivery that waits longest."""
    row = sql.one("oldest_undelivered_study")
    if row is None:
        return None
    destination, since, *study = row
    return Undelivered(read_status(sql, tuple(study)), destination, since)


def destinations(sql: Statements) -> list[DestinationStatus]:
    """The destinations in force, by name."""
    found: dict[str, DestinationStatus] = {}
    for name, fingerprint, paused_at, other, count in sql.all("mapping_fingerprints"):
        status = found.setdefault(name, DestinationStatus(name, fingerprint, {}, paused_at))
        if other is not None:
            found[name] = replace(status, others={**status.others, other: count})
    return list(found.values())


def stats(sql: Statements, reader: str) -> Stats:
    """Counts over the whole store."""
    totals: dict[str, int] = dict(sql.all("totals"))
    tallies: dict[str, int] = dict(sql.all("tallies"))
    kinds: dict[str, int] = dict(sql.all("rejected"))
    outdated = sql.one("outdated", reader=reader)
    (oldest,) = sql.one("oldest_undelivered") or (None,)
    return Stats(
        studies=totals["studies"],
        series=totals["series"],
        instances=totals["instances"],
        waiting=tallies.get(State.WAITING, 0),
        sending=tallies.get(State.SENDING, 0),
        delivered=tallies.get(State.DELIVERED, 0),
        refused=tallies.get(State.REFUSED, 0),
        excluded=tallies.get(State.EXCLUDED, 0),
        rejected=totals["rejected"],
        rejected_by_kind=kinds,
        skipped=totals["skipped"],
        outdated=outdated[0] if outdated else 0,
        oldest_undelivered_at=oldest,
    )
