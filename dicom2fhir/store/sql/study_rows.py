"""Reading one study as a whole from its rows."""

from __future__ import annotations

from dicom2fhir.dicom.late_part import late_part
from dicom2fhir.dicom.study import assemble
from dicom2fhir.model import Study
from dicom2fhir.store.sql import interventions, notices, rejection_notes
from dicom2fhir.store.sql.forgotten import trace_of
from dicom2fhir.store.sql.rows import read_records
from dicom2fhir.store.sql.statements import Statements


def read_study(sql: Statements, study_uid: str) -> Study | None:
    """The present state of a study; None if there is no such study.

    Raises
    ------
    StoreDamaged
        The rows of this study cannot be read.
    """
    row = sql.one("study_row", study_uid=study_uid)
    if row is None:
        return None
    study_id, revision = row
    records = read_records(sql, study_id, study_uid)
    settlement = interventions.settlement_of(sql, study_id)
    stated, steps = notices.read_stated_availability(sql, study_id), notices.read_steps(sql, study_id)
    rejections = rejection_notes.read_rejections(sql, study_id)
    elsewhere = rejection_notes.read_rejected_elsewhere(sql, study_id)
    study = assemble(study_uid, revision, records, settlement, stated, steps, rejections, elsewhere)
    trace = trace_of(sql, study_uid)
    return late_part(study, bool(rejections), trace.patient) if trace else study
