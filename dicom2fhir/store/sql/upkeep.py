"""What is done with studies that have been quiet for long: in parts, outside the transactions that store instances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.known_rows import KnownRows
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_index import WriteTransaction

AT_ONCE = 10
"""Studies that one part changes; each by a transaction of its own, so that others can write in between."""
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


class Upkeep:
    """Goes through the studies that a statement finds, those that have been quiet longest first; for one thread.

    Parameters
    ----------
    statement
        Its name.
    read, write
        A snapshot of the store; a transaction.
    known
        What the writer knows of the rows.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        statement: str,
        read: Callable[[], AbstractContextManager[Statements]],
        write: WriteTransaction,
        known: KnownRows,
        clock: Callable[[], float],
    ) -> None:
        self._statement = statement
        self._read = read
        self._write = write
        self._known = known
        self._clock = clock
        self._after = _START
        """The last study of this round: one that stays does not stop the others."""

    def _next_part(self, **terms: float) -> list[QuietStudy] | None:
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

    def _change(self, study: QuietStudy, operation: Callable[[Statements], bool], **terms: float) -> bool:
        """Run an operation in a transaction if the statement still finds the study; whether that changed it."""
        place = (study.last_at, study.id - 1), (study.last_at, study.id)

        def run(sql: Statements) -> bool:
            is_known = sql.one("study_to_change", study_uid=study.uid) == (study.id,)
            return is_known and bool(self._rows(sql, *place, 1, terms)) and operation(sql)

        try:
            return self._write(run)
        except StoreDamaged:  # it stays, and whoever reads it reports that
            return False

    def _rows(
        self, sql: Statements, after: _Position, end: _Position, limit: int, terms: dict[str, float]
    ) -> list[_Position]:
        places = dict(zip(("after_at", "after_id", "end_at", "end_id"), (*after, *end), strict=True))
        return [(last_at, number) for last_at, number in sql.all(self._statement, **places, **terms, limit=limit)]


def _uid_of(sql: Statements, study_id: int) -> str:
    (uid,) = sql.one("uid_of_study", study_id=study_id) or (b"",)
    return str(uid, "utf-8", "replace")
