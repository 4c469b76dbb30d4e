"""Forgets studies that every destination has had for long."""

from __future__ import annotations

from collections.abc import Sequence

from dicom2fhir.dicom.late_part import trace_of
from dicom2fhir.store.sql.forgotten import StudyTrace, keep_trace
from dicom2fhir.store.sql.interventions import delete, patients_of
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.upkeep import QuietStudy, Upkeep

_NO_LIMIT = 1 << 62


class Forgetting(Upkeep):
    """Forgets the studies that nothing is left to do for, see ``forgettable_studies``."""

    def forget_some(self, quiet_s: float, most_instances: int | None) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.forget_delivered`."""
        now = self._clock()
        most = _NO_LIMIT if most_instances is None else most_instances
        terms = {"quiet_since": now - quiet_s, "most_instances": most}
        found = self._next_part(**terms)
        if found is None:
            return None
        return [study.uid for study in found if self._forget(study, terms, now)]

    def _forget(self, study: QuietStudy, terms: dict[str, float], now: float) -> bool:
        def operation(sql: Statements) -> bool:
            patients = patients_of(sql, study.id)
            keep_trace(sql, study.uid, StudyTrace(now, trace_of(patients[0].patient) if patients else b""))
            delete(sql, self._known, study.id, study.uid)
            return True

        return self._change(study, operation, **terms)
