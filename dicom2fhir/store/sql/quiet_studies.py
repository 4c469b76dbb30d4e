"""Goes through the studies that have been quiet for long, in parts, outside the transactions that store instances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from dicom2fhir.store.sql.statements import Statements

AT_ONCE = 10
"""Studies that one part returns; each is changed by a transaction of its own, so that others can write in between."""
PASSED_OVER = 1_000
"""Studies that one part looks at."""

_Position = tuple[float, int]
_START: _Position = (-1.0, 0)
_END: _Position = (1e300, 1 << 62)


class QuietStudy(NamedTuple):
    """A study, and its place among the others."""

    last_at: float
    """Its last change."""
    id: int
    uid: str


class QuietStudies:
    """Those that a statement finds, those that have been quiet longest first; for one thread.

    Parameters
    ----------
    read
        A snapshot of the store.
    statement
        Its name.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[Statements]], statement: str) -> None:
        self._read = read
        self._statement = statement
        self._after = _START
        """The last study of this round: one that stays does not stop the others."""

    def next_part(self, **terms: float) -> list[QuietStudy] | None:
        """Some of them, perhaps none; None if this call ends a round through all studies.

        Parameters
        ----------
        terms
            The parameters of the statement: ``quiet_since``, and others that are its own.
        """
        after_at, after_id = self._after
        with self._read() as sql:
            place = {"quiet_since": terms["quiet_since"], "after_at": after_at, "after_id": after_id}
            end: _Position | None = sql.one("end_of_part", **place, others=PASSED_OVER - 1)
            rows = self._rows(sql, self._after, end or _END, AT_ONCE, terms)
            found = [QuietStudy(*row, _uid_of(sql, row[1])) for row in rows]
        if len(rows) == AT_ONCE or (rows and end is None):
            self._after = rows[-1]
        else:
            self._after = end or _START
        return found if rows or end else None

    def is_there(self, sql: Statements, study: QuietStudy, **terms: float) -> bool:
        """Whether the statement still finds a study, in a transaction that will change it."""
        if sql.one("study_to_change", study_uid=study.uid) != (study.id,):
            return False
        return bool(self._rows(sql, (study.last_at, study.id - 1), (study.last_at, study.id), 1, terms))

    def _rows(
        self, sql: Statements, after: _Position, end: _Position, limit: int, terms: dict[str, float]
    ) -> list[_Position]:
        places = dict(zip(("after_at", "after_id", "end_at", "end_id"), (*after, *end), strict=True))
        return [(last_at, number) for last_at, number in sql.all(self._statement, **places, **terms, limit=limit)]


def _uid_of(sql: Statements, study_id: int) -> str:
    (uid,) = sql.one("uid_of_study", study_id=study_id) or (b"",)
    return str(uid, "utf-8", "replace")
