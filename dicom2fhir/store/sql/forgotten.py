"""What is known of studies that were forgotten because every destination had them for long."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from dicom2fhir.store.sql.statements import Statements


class StudyTrace(NamedTuple):
    """What is left of a study."""

    at: float
    """When it was forgotten, in seconds since the epoch."""
    patient: bytes
    """See :func:`dicom2fhir.dicom.late_part.trace_of`."""


def trace_of(sql: Statements, study_uid: str) -> StudyTrace | None:
    """What is left of a study; None if it was not forgotten."""
    row = sql.one("forgotten", study=_key(study_uid))
    return StudyTrace(float(row[0]), bytes(row[1])) if row else None


def keep_trace(sql: Statements, study_uid: str, trace: StudyTrace) -> None:
    """Record that a study is forgotten."""
    sql.run("note_forgotten", study=_key(study_uid), at=int(trace.at), patient=trace.patient)


def forget_trace(sql: Statements, study_uid: str) -> None:
    """Delete what is left of a study."""
    sql.run("forget_forgotten", study=_key(study_uid))


def _key(study_uid: str) -> bytes:
    return blake2b(study_uid.encode("utf-8", "surrogatepass"), digest_size=16).digest()
