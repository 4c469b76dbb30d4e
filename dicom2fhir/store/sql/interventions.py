"""What the writer does when a person settles the patients of a study, or deletes a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from dicom2fhir.dicom.patients import NamedPatient, Settlement, Verdict, named
from dicom2fhir.errors import StoreDamaged, StudyBusy
from dicom2fhir.store.sql import deliveries
from dicom2fhir.store.sql.arrivals import change, schedule
from dicom2fhir.store.sql.forgotten import forget_trace
from dicom2fhir.store.sql.known_rows import NO_READER, KnownRows
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.statuses import State

_BELONGINGS = (
    *(
        "instances",
        "blocks",
        "series",
        "attrs",
        "bases",
        "deliveries",
        "associations",
        "origins",
        "folders",
        "mentions",
        "settlement",
    ),
    *("availability", "notifications", "steps", "awaited", "rejected_instances"),
    *("keys", "index", "attempts", "counted_instances", "study"),
)
"""What is deleted with a study; the study comes last, because the others refer to it."""


def settlement_of(sql: Statements, study_id: int) -> Settlement:
    """The settlement of a study; empty if there is none."""
    return {patient: Verdict(verdict) for patient, verdict in sql.all("settlement", study_id=study_id)}


def patients_of(sql: Statements, study_id: int) -> list[NamedPatient]:
    """The patients that the instances name, in the order of arrival, so that a new one does not move the others."""
    rows = sql.all("study_patients", study_id=study_id)
    try:
        patients = [(orjson.loads(body), count) for body, count in rows]
    except orjson.JSONDecodeError:
        raise StoreDamaged("The patients of this study cannot be read") from None
    return named(patients, settlement_of(sql, study_id))


def settle_patients(sql: Statements, study_uid: str, verdicts: Mapping[str, Verdict], now: float) -> None:
    """Replace the settlement of a study, and make the study due now as a new revision."""
    row = sql.one("study_to_change", study_uid=study_uid)
    if row is None:
        return
    (study_id,) = row
    sql.run("forget_settlement", study_id=study_id)
    sql.run_many(
        "new_verdict",
        [{"study_id": study_id, "patient": key, "verdict": verdict.value} for key, verdict in verdicts.items()],
    )
    sql.run("raise_revision", study_id=study_id, now=now)
    schedule(sql, [study_id])  # for destinations that are not in force, too
    deliveries.requeue(sql, study_uid, None, True, now)


def forget(sql: Statements, known: KnownRows, study_uid: str, now: float, leases_hold: bool) -> bool:
    """Delete a study with all its rows, except what was rejected of it; False if there is no such study.

    Raises
    ------
    StudyBusy
        It is being sent now.
    """
    row = sql.one("study_to_change", study_uid=study_uid)
    if row is None:
        return False
    (study_id,) = row
    sending = [row for row in sql.all("study_deliveries", study_id=study_id) if row[1] == State.SENDING]
    if leases_hold and any(lease_until > now for _, _, _, lease_until, *_ in sending):
        raise StudyBusy
    rejections = sql.all("rejections_to_keep", study_id=study_id)
    delete(sql, known, study_id, study_uid)
    forget_trace(sql, study_uid)
    if rejections:
        _keep_rejections(sql, known, study_uid, rejections, now)
    return True


def delete(sql: Statements, known: KnownRows, study_id: int, study_uid: str) -> None:
    """Delete all rows of a study."""
    known.forget_study(study_uid)
    for what in _BELONGINGS:
        sql.run(f"forget_{what}", study_id=study_id)


def _keep_rejections(
    sql: Statements, known: KnownRows, study_uid: str, rejections: Sequence[Sequence[Any]], now: float
) -> None:
    """Know of a study as if only the rejection notes had come, which may be in other studies."""
    study = known.study(sql, study_uid, now, NO_READER)
    for note, code, state, modifiers, uids in rejections:
        kept = {"code": code, "state": state, "modifiers": modifiers}
        sql.run("reject_instances", study_id=study.id, note=note, uids=uids, **kept)
    change(sql, known, study, now)
    schedule(sql, [study.id])
