"""What comes of a study after the store has forgotten it (``store.forget_after``).

Only a hash of the patient is left of what was forgotten. What cannot be decided from a part is a conflict, so that a
person has the whole study sent again.
"""

from __future__ import annotations

from dataclasses import replace

from dicom2fhir.dicom.patients import keys_of
from dicom2fhir.model import Attrs, Study

_SEND_AGAIN = "run `dicom2fhir forget` for this study, then have all of it sent again."


def trace_of(patient: Attrs) -> bytes:
    """What is kept of the patient of a study that is forgotten; empty without a PatientID."""
    (key,) = keys_of([patient])
    return bytes.fromhex(key)[:8]


def late_part(study: Study, is_rejected: bool, earlier_patient: bytes) -> Study:
    """The study as a part of one that was forgotten.

    Parameters
    ----------
    is_rejected
        Whether a rejection note is about instances of it, which may not have arrived.
    earlier_patient
        :func:`trace_of` the patient of what was forgotten.
    """
    return replace(study, is_late_part=True, conflict=study.conflict or _conflict(study, is_rejected, earlier_patient))


def _conflict(study: Study, is_rejected: bool, earlier_patient: bytes) -> str:
    patient = trace_of(study.patient)
    if patient and earlier_patient and patient != earlier_patient:
        return f"The instances contain another PatientID than those that the store has forgotten; {_SEND_AGAIN}"
    if is_rejected:
        return f"A rejection note is about instances that the store may have forgotten; {_SEND_AGAIN}"
    return ""
