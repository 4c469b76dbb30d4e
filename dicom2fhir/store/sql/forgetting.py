"""Forgets studies that every destination has had for long, in parts, outside the transactions that store instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from dicom2fhir.dicom.late_part import trace_of
from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.forgotten import Trace, keep_trace
from dicom2fhir.store.sql.interventions import delete, patients_of
from dicom2fhir.store.sql.known_rows import KnownRows
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_index import Write

AT_ONCE = 10
"""Studies that one call looks at; each is deleted by a transaction of its own, so that others can write in between."""
_START = (-1.0, 0)
_NO_LIMIT = 1 << 62


class Forgetting:
    """Goes through the studies that were delivered, those that have been quiet longest first; for one thread.

    Parameters
    ----------
    read, write
        A snapshot of the store; a transaction.
    known
        What the writer knows of the rows.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Statements]],
        write: Write,
        known: KnownRows,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._write = write
        self._known = known
        self._clock = clock
        self._after = _START
        """The last study of this round, by its last change and its number: one that stays does not stop the others."""

    def forget_some(self, quiet_s: float, most_instances: int | None) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.forget_delivered`."""
        now = self._clock()
        terms = {
            "quiet_since": now - quiet_s,
            "most_instances": _NO_LIMIT if most_instances is None else most_instances,
        }
        last_at, study_id = self._after
        with self._read() as sql:
            rows = sql.all(
                "delivered_studies",
                quiet_since=terms["quiet_since"],
                last_at=last_at,
                study_id=study_id,
                limit=AT_ONCE,
            )
            found = {
                number: str(uid, "utf-8", "replace")
                for _, number, uid in rows
                if sql.one("is_forgettable", study_id=number, **terms) == (1,)
            }
        self._after = rows[-1][:2] if rows else _START
        gone = [uid for number, uid in found.items() if self._forget(number, uid, terms, now)]
        return gone if rows else None

    def _forget(self, study_id: int, study_uid: str, terms: dict[str, float], now: float) -> bool:
        def operation(sql: Statements) -> bool:
            if sql.one("study_to_change", study_uid=study_uid) != (study_id,):
                return False
            if sql.one("is_forgettable", study_id=study_id, **terms) != (1,):  # something came since
                return False
            patients = patients_of(sql, study_id)
            keep_trace(sql, study_uid, Trace(now, trace_of(patients[0].patient) if patients else b""))
            delete(sql, self._known, study_id, study_uid)
            return True

        try:
            return self._write(operation)
        except StoreDamaged:  # it stays, and whoever reads it reports that
            return False
