"""The patients in the instances of a study, conflicts between them, and how a person has settled these."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from dicom2fhir.model import Attrs, InstanceRecord, Value, items_of, texts_of

Counted = Sequence[tuple[Attrs, int]]
"""Distinct mappings, and how many instances have each."""


class Verdict(StrEnum):
    """The decision of a person about one of the patients in a study's instances."""

    RIGHT = "right"
    WRONG = "wrong"
    """The instances belong to the study, and to the right patient."""
    DROPPED = "dropped"
    """The instances do not belong to the study."""


Settlement = Mapping[str, Verdict]
"""Key of a patient (:func:`keys_of`) -> verdict; empty if nothing was settled."""


@dataclass(frozen=True, slots=True)
class NamedPatient:
    """One of the patients in the instances of a study.

    Attributes
    ----------
    patient
        The attributes of one of the instances.
    verdict
        None if not settled.
    """

    key: str
    patient: Attrs
    instances: int
    verdict: Verdict | None


def canonical(value: object) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def keys_of(patients: Sequence[Attrs]) -> list[str]:
    """The patient key of each mapping: equal for one patient, empty for a mapping that is compatible with all.

    A patient is identified by PatientID, or by PatientID and issuer if the same PatientID has different issuers.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for patient in patients:
        for kind, name in issuer_names(patient):
            names[canonical([_id_of(patient), kind])].add(canonical(name))
    disputed = {text for text, found in names.items() if len(found) > 1}
    return [_key(patient, disputed) for patient in patients]


def _key(patient: Attrs, disputed: set[str]) -> str:
    patient_id = _id_of(patient)
    if not patient_id:
        return ""
    parts: list[object] = [patient_id]
    if disputed & {canonical([patient_id, kind]) for kind in ("local", "universal")}:
        issuers = dict(issuer_names(patient))
        if not issuers:
            return ""
        parts.append(issuers)
    return blake2b(canonical(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def named(patients: Counted, settlement: Settlement) -> list[NamedPatient]:
    """The identified patients, in the order of the mappings."""
    keys = keys_of([patient for patient, _ in patients])
    counts: dict[str, int] = defaultdict(int)
    first: dict[str, Attrs] = {}
    for key, (patient, count) in zip(keys, patients, strict=True):
        counts[key] += count
        first.setdefault(key, patient)
    return [NamedPatient(key, first[key], counts[key], settlement.get(key)) for key in first if key]


def conflict_of(patients: Counted) -> str:
    """Why the instances cannot belong to one patient; empty if they can. One without PatientID never conflicts."""
    count_by_id: dict[str, int] = defaultdict(int)
    issuers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for patient, count in patients:
        key = _id_of(patient)
        if key:
            count_by_id[key] += count
            # reports often have only one kind of issuer name: there is a conflict only between names of one kind
            for kind, name in issuer_names(patient):
                issuers[key, kind].add(canonical(name))
    if len(count_by_id) > 1:
        counts = " + ".join(str(n) for n in sorted(count_by_id.values(), reverse=True))
        return f"The instances contain {len(count_by_id)} different PatientIDs ({counts} instances)."
    if any(len(names) > 1 for names in issuers.values()):
        return "The instances contain the same PatientID from different issuers."
    return ""


def _id_of(patient: Attrs) -> str:
    """The PatientID; of several values, which a store of 0.1.0 may have as a list, the first, which is delivered."""
    return next(filter(None, texts_of(patient.get("PatientID"))), "")


def issuer_names(patient: Attrs) -> Iterator[tuple[str, Value]]:
    """Kind and value of each name of the patient's issuer."""
    qualifiers: Attrs = next(iter(items_of(patient.get("IssuerOfPatientIDQualifiersSequence"))), {})
    if local := patient.get("IssuerOfPatientID") or qualifiers.get("LocalNamespaceEntityID"):
        yield "local", local
    if universal := qualifiers.get("UniversalEntityID"):
        yield "universal", universal


def apply(records: Sequence[InstanceRecord], settlement: Settlement) -> tuple[list[InstanceRecord], str]:
    """Apply a settlement to the instances of a study.

    Returns
    -------
    list[InstanceRecord]
        Those that belong to the study. Those of a wrong patient have no patient attributes, and so do not conflict with
        the right one.
    str
        What the settlement leaves open; empty if it covers all patients.
    """
    patients = {id(record.patient): record.patient for record in records}
    keys = dict(zip(patients, keys_of(list(patients.values())), strict=True))
    kept, found = [], set()
    for record in records:
        key = keys[id(record.patient)]
        verdict = settlement.get(key)
        if verdict is Verdict.DROPPED:
            continue
        # an ID without issuer must not outvote the one that was settled with an issuer
        is_silent = verdict is Verdict.WRONG or not key
        kept.append(replace(record, patient={}) if is_silent else record)
        if key:
            found.add(verdict)
    if Verdict.RIGHT in found:
        return (
            kept,
            "The instances contain a patient that is not covered by `dicom2fhir settle` yet." if None in found else "",
        )
    return (
        kept,
        "The instances contain patients that `dicom2fhir settle` marked as wrong, and none that is right."
        if Verdict.WRONG in found
        else "",
    )
