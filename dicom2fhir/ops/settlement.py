"""How a person settles a patient conflict: the patients as they are shown, and what a choice means for each."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.model import texts_of
from dicom2fhir.system.text import counted

_SHOWN = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")


def is_settleable(patients: Sequence[NamedPatient]) -> bool:
    """Whether there is a conflict to settle, or one that was settled."""
    return len(patients) > 1 or any(patient.verdict for patient in patients)


def described(patients: Sequence[NamedPatient], show_identifiers: bool) -> list[dict[str, Any]]:
    """The patients with their numbers, as JSON and for display; identifiers are masked unless asked for."""
    return [_described(number, one, show_identifiers) for number, one in enumerate(patients, start=1)]


def _described(number: int, named: NamedPatient, show_identifiers: bool) -> dict[str, Any]:
    values = {keyword: "\\".join(texts) for keyword in _SHOWN if (texts := texts_of(named.patient.get(keyword)))}
    return {
        "number": number,
        "instances": named.instances,
        "verdict": named.verdict,
        **(values if show_identifiers else {keyword: _masked(value) for keyword, value in values.items()}),
    }


def _masked(value: str) -> str:
    """The first character, and the kinds of the others: enough to see what differs."""
    return value[:1] + re.sub(r"\w", "*", value[1:])


def verdicts(patients: Sequence[NamedPatient], keep: int | None, drop: Collection[int]) -> dict[str, Verdict]:
    """The verdict on each patient, by its key.

    Parameters
    ----------
    keep
        The number of the right patient; not needed if only one is not dropped.
    drop
        Numbers of the patients whose instances are left out.

    Raises
    ------
    LookupError
        There is no patient with a number.
    ValueError
        It does not follow who is right.
    """
    numbers = range(1, len(patients) + 1)
    if unknown := sorted({keep, *drop} - {None, *numbers}, key=str):
        raise LookupError(f"there is no patient {unknown[0]}: the study has {counted(len(patients), 'patient')}")
    left = [number for number in numbers if number not in drop]
    if keep is None and len(left) == 1:
        keep = left[0]
    if keep not in left:
        raise ValueError("the right patient must be named, one whose instances are kept")
    given = dict.fromkeys(numbers, Verdict.WRONG) | dict.fromkeys(drop, Verdict.DROPPED) | {keep: Verdict.RIGHT}
    return {patients[number - 1].key: verdict for number, verdict in given.items()}
