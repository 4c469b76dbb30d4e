"""The index for searching studies: filled from what is stored, in parts, outside the transactions that store instances.

Two searches find the studies that are not up to date in it: one through those that have changed lately, and one through
all studies, a part each time. The second finds everything at the start of a daemon, and whatever the first misses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import orjson

from dicom2fhir.dicom.patients import conflict_of
from dicom2fhir.errors import StoreDamaged
from dicom2fhir.model import Attrs
from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.sql.study_rows import read_study
from dicom2fhir.store.study_keys import Key, keys_of
from dicom2fhir.store.study_search import KEPT_COUNTS_S

T = TypeVar("T")

AT_ONCE = 200
"""Studies that one commit takes up, so that others can write in between."""
PASSED_OVER = 1_000
"""Study ids that are compared each time in the search through all studies."""
_QUIET_S = 2.0
_MOST_S = 15.0
"""A study that still arrives is taken up again after this time; reading it each second would be a burden."""
_LATELY_S = 60.0
"""Longer than ``_MOST_S`` and than any commit takes."""


class _Entry(NamedTuple):
    study_id: int
    revision: int
    origins: int
    last_at: float
    keys: list[Key]


class WriteTransaction(Protocol):
    """Runs an operation in a transaction."""

    def __call__(self, operation: Callable[[Statements], T], /) -> T:
        """Run it."""


class StudyIndex:
    """Keeps the index up to date; for one thread.

    Parameters
    ----------
    read, write
        A snapshot of the store; a transaction.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Statements]],
        write: WriteTransaction,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._write = write
        self._clock = clock
        self._looked_at: float | None = None
        self._next_id = 0
        self._is_first_round = True

    def update(self) -> bool:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.update_index`."""
        now = self._clock()
        with self._read() as sql:
            stale, is_more = self._stale(sql, now)
            entries = [_entry(sql, row) for row in stale]
            (received,) = sql.one("uncounted_instances") or (0,)
        if entries or received:
            self._write(lambda sql: _record(sql, entries, received, now))
        return is_more

    def _stale(self, sql: Statements, now: float) -> tuple[list[Row], bool]:
        """Studies that are not up to date, and whether there may be more."""
        waits = {"quiet_before": now - _QUIET_S, "taken_before": now - _MOST_S}
        since = min(now if self._looked_at is None else self._looked_at, now) - _LATELY_S
        found = sql.all("stale_lately", since=since, **waits, limit=AT_ONCE)
        if len(found) == AT_ONCE:
            return found, True
        self._looked_at = now
        last_id = self._next_id + PASSED_OVER - 1
        others = sql.all("stale_by_id", first=self._next_id, last=last_id, **waits, limit=AT_ONCE)
        if len(others) == AT_ONCE:
            self._next_id = others[-1][0] + 1
        elif last_id < ((sql.one("last_study") or (None,))[0] or 0):
            self._next_id = last_id + 1
        else:
            self._next_id, self._is_first_round = 0, False
        return list({row[0]: row for row in (*found, *others)}.values()), self._is_first_round


def _entry(sql: Statements, row: Row) -> _Entry:
    study_id, uid, revision, last_at, origins = row
    study_uid = str(uid, "utf-8", "replace")
    senders = [str(sender, "utf-8", "replace") for sender, _ in sql.all("study_senders", study_id=study_id)]
    folders = [str(folder, "utf-8", "replace") for folder, _ in sql.all("study_folders", study_id=study_id)]
    bodies = sql.all("study_shared_attrs", study_id=study_id) or [
        (body,) for _, body in sql.all("study_steps", study_id=study_id)
    ]
    try:
        mappings: list[Attrs] = [orjson.loads(body) for (body,) in bodies]
        is_conflict = _is_conflict(sql, study_id, study_uid, mappings)
    except (orjson.JSONDecodeError, StoreDamaged):  # the deliverer reports it; the study must be found all the same
        mappings, is_conflict = [], False
    return _Entry(study_id, revision, origins, last_at, keys_of(study_uid, mappings, senders, folders, is_conflict))


def _is_conflict(sql: Statements, study_id: int, study_uid: str, mappings: list[Attrs]) -> bool:
    """Whether a person must settle the patients. The study is read as a whole only if that is possible."""
    if not conflict_of([(attrs, 1) for attrs in mappings]) and not sql.all("settlement", study_id=study_id):
        return False
    study = read_study(sql, study_uid)
    return study is not None and bool(study.conflict)


def _record(sql: Statements, entries: list[_Entry], received: int, now: float) -> None:
    for study_id, revision, origins, last_at, keys in entries:
        sql.run("index_study", study_id=study_id, revision=revision, origins=origins, last_at=last_at)
        sql.run("forget_keys", study_id=study_id)
        parameters = {"study_id": study_id, "last_at": last_at}
        sql.run_many("new_key", [{"kind": kind.value, "value": value, **parameters} for kind, value in keys])
    if received:
        sql.run("count_instances_as_received", received=received)
        count(sql, now, received=received)


def count(sql: Statements, now: float, *, received: int = 0, delivered: int = 0) -> None:
    """Count in the present minute, and delete the oldest minutes."""
    minute = int(now // 60)
    sql.run("count_in_minute", minute=minute, received=received, delivered=delivered)
    sql.run("forget_minutes", minute=minute - KEPT_COUNTS_S // 60)
