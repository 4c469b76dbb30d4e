"""Forgets studies that every destination has had for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from dicom2fhir.dicom.late_part import trace_of
from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.forgotten import Trace, keep_trace
from dicom2fhir.store.sql.interventions import delete, patients_of
from dicom2fhir.store.sql.known_rows import KnownRows
from dicom2fhir.store.sql.quiet_studies import QuietStudies, QuietStudy
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_index import Write

_NO_LIMIT = 1 << 62


class Forgetting:
    """Goes through the studies, and forgets those that nothing is left to do for; for one thread.

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
        self._studies = QuietStudies(read, "forgettable_studies")
        self._write = write
        self._known = known
        self._clock = clock

    def forget_some(self, quiet_s: float, most_instances: int | None) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.forget_delivered`."""
        now = self._clock()
        most = _NO_LIMIT if most_instances is None else most_instances
        terms = {"quiet_since": now - quiet_s, "most_instances": most}
        found = self._studies.next_part(**terms)
        if found is None:
            return None
        return [study.uid for study in found if self._forget(study, terms, now)]

    def _forget(self, study: QuietStudy, terms: dict[str, float], now: float) -> bool:
        def operation(sql: Statements) -> bool:
            if not self._studies.is_there(sql, study, **terms):  # something came since
                return False
            patients = patients_of(sql, study.id)
            keep_trace(sql, study.uid, Trace(now, trace_of(patients[0].patient) if patients else b""))
            delete(sql, self._known, study.id, study.uid)
            return True

        try:
            return self._write(operation)
        except StoreDamaged:  # it stays, and whoever reads it reports that
            return False
