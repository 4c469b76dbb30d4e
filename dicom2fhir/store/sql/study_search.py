"""The queries of :class:`dicom2fhir.store.study_search.StudySearch`."""

from __future__ import annotations

from math import inf

import orjson

from dicom2fhir.model import texts_of
from dicom2fhir.store.sql.rows import read_status, short
from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_keys import RARER_THAN_STATE, Kind, lists_by_date, wanted_dates, wanted_keys
from dicom2fhir.store.study_search import (
    KEPT_ATTEMPTS,
    AttemptOutcome,
    FoundStudy,
    MinuteCounts,
    PastAttempt,
    Position,
    Sender,
    SeriesSummary,
    SourceFolder,
    StudyAttempt,
    StudyDetails,
    StudyFilter,
)

_FIRST = Position(inf, 0, "~")
"""Before every study."""


def find_studies(sql: Statements, wanted: StudyFilter, after: Position | None, limit: int) -> list[FoundStudy]:
    """Search by the criterion that the fewest studies are likely to meet; the others are checked for each study."""
    if wanted.destination and sql.one("is_in_force", destination=wanted.destination) is None:
        return []  # else every study would be checked
    keys, dates = wanted_keys(wanted), wanted_dates(wanted)
    last_at, number, date = after or _FIRST
    common = {
        "keys": orjson.dumps(keys).decode(),
        "state": wanted.state and wanted.state.value,
        "destination": wanted.destination or None,
        "last_at": last_at,
        "study_id": number,
        "limit": limit,
        "first_date": dates and dates.first,
        "last_date": dates and dates.last,
    }
    if lists_by_date(wanted):
        return [_found(sql, row[:-1], row[-1]) for row in sql.all("find_by_date", **common, date=date)]
    by_state = wanted.state not in (None, State.DELIVERED) and not (keys and keys[0][0] in RARER_THAN_STATE)
    if by_state or (wanted.state and not keys):
        return [_found(sql, row) for row in sql.all("find_by_state", **common)]
    kind, value = keys[0] if keys else (Kind.EVERY, "")
    return [_found(sql, row) for row in sql.all("find_by_key", **common, kind=kind.value, value=value)]


def _found(sql: Statements, row: Row, date: str = "") -> FoundStudy:
    *status, listed_at = row
    values: dict[str, list[str]] = {}
    for kind, value in sql.all("study_keys", study_id=row[0]):
        values.setdefault(kind, []).append(value)
    return FoundStudy(
        status=read_status(sql, tuple(status)),
        study_date=min(values.get(Kind.STUDY_DATE, ()), default=""),
        modalities=tuple(values.get(Kind.MODALITY, ())),
        accession_numbers=tuple(values.get(Kind.ACCESSION_NUMBER, ())),
        calling_ae_titles=tuple(values.get(Kind.CALLING_AE_TITLE, ())),
        folders=tuple(values.get(Kind.FOLDER, ())),
        is_conflict=Kind.CONFLICT in values,
        position=Position(listed_at, row[0], date),
    )


def study_details(sql: Statements, study_uid: str) -> StudyDetails | None:
    """Series, senders, folders and attempts of one study."""
    row = sql.one("study_id", study_uid=study_uid)
    if row is None:
        return None
    (study_id,) = row
    series = [_series(*found) for found in sql.all("series_summaries", study_id=study_id)]
    senders = [Sender(str(name, "utf-8", "replace"), at) for name, at in sql.all("study_senders", study_id=study_id)]
    folders = [
        SourceFolder(str(name, "utf-8", "replace"), at) for name, at in sql.all("study_folders", study_id=study_id)
    ]
    attempts = [_attempt(*found) for found in sql.all("study_attempts", study_id=study_id)]
    return StudyDetails(tuple(series), tuple(senders), tuple(folders), tuple(attempts))


def _series(uid: bytes, instances: int, body: bytes | None) -> SeriesSummary:
    try:
        attrs = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:  # a person must see damaged studies, too
        attrs = {}
    modality, description = (", ".join(texts_of(attrs.get(name))) for name in ("Modality", "SeriesDescription"))
    return SeriesSummary(str(uid, "utf-8", "replace"), modality, description, instances)


def recent_attempts(sql: Statements, since: float, limit: int) -> list[StudyAttempt]:
    """The latest attempts of all deliveries."""
    return [
        StudyAttempt(str(uid, "utf-8", "replace"), _attempt(*row))
        for uid, *row in sql.all("recent_attempts", since=since, limit=limit)
    ]


def _attempt(destination: str, at: float, revision: int, outcome: str, answer: str, times: int) -> PastAttempt:
    return PastAttempt(destination, at, revision, AttemptOutcome(outcome), answer, times)


def counts(sql: Statements, since: float) -> list[MinuteCounts]:
    """The minutes from ``since`` on."""
    rows = sql.all("counts", minute=int(since // 60))
    return [MinuteCounts(minute * 60.0, received, delivered) for minute, received, delivered in rows]


def note_attempt(
    sql: Statements, key: dict[str, int], at: float, revision: int, outcome: AttemptOutcome, answer: str
) -> None:
    """Record how an attempt to deliver a study ended; one that ended like the one before it is counted with it."""
    said = {**key, "at": at, "revision": revision, "outcome": outcome.value, "answer": short(answer)}
    if not sql.run("repeat_attempt", **said):
        sql.run("new_attempt", **said)
        sql.run("forget_old_attempts", **key, kept=KEPT_ATTEMPTS)
