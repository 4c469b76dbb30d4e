"""Whose study it is: the patients that its instances name, and what a person has settled about them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from dicom2fhir.model import Attrs, InstanceRecord, Value, items_of, texts_of

Counted = Sequence[tuple[Attrs, int]]
"""Distinct mappings, and how many instances carry each."""


class Verdict(StrEnum):
    """What a person has settled about one of the patients whom a study's instances name."""

    RIGHT = "right"
    WRONG = "wrong"
    """The instances belong to the study, and to the right patient."""
    DROPPED = "dropped"
    """The instances do not belong to the study."""


Settlement = Mapping[str, Verdict]
"""Key of a patient (:func:`keys_of`) -> verdict; empty where nobody has settled anything."""


@dataclass(frozen=True, slots=True)
class NamedPatient:
    """One of the patients whom the instances of a study name.

    Attributes
    ----------
    patient
        The attributes of one of the instances.
    verdict
        None as long as nobody has settled it.
    """

    key: str
    patient: Attrs
    instances: int
    verdict: Verdict | None


def canonical(value: object) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def keys_of(patients: Sequence[Attrs]) -> list[str]:
    """Keys of the patients that mappings name: equal for one patient, empty for a mapping that agrees with all.

    A patient is known by PatientID; where that stands with different issuers, by both.
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
    """The patients that are named, in the order of the mappings."""
    keys = keys_of([patient for patient, _ in patients])
    counts: dict[str, int] = defaultdict(int)
    first: dict[str, Attrs] = {}
    for key, (patient, count) in zip(keys, patients, strict=True):
        counts[key] += count
        first.setdefault(key, patient)
    return [NamedPatient(key, first[key], counts[key], settlement.get(key)) for key in first if key]


def conflict_of(patients: Counted) -> str:
    """Why instances cannot be of one patient; empty when they can. An instance that names none agrees with all."""
    count_by_id: dict[str, int] = defaultdict(int)
    issuers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for patient, count in patients:
        key = _id_of(patient)
        if key:
            count_by_id[key] += count
            # a report often repeats one name of the issuer only: they disagree where two say different things
            for kind, name in issuer_names(patient):
                issuers[key, kind].add(canonical(name))
    if len(count_by_id) > 1:
        counts = " + ".join(str(n) for n in sorted(count_by_id.values(), reverse=True))
        return f"The instances contain {len(count_by_id)} different PatientIDs ({counts} instances)."
    if any(len(names) > 1 for names in issuers.values()):
        return "The instances contain the same PatientID from different issuers."
    return ""


def _id_of(patient: Attrs) -> str:
    """The PatientID; of several values, which the store of 0.1.0 holds as a list, the first one, which is written."""
    return next(filter(None, texts_of(patient.get("PatientID"))), "")


def issuer_names(patient: Attrs) -> Iterator[tuple[str, Value]]:
    """What a patient's issuer is called, by the kinds of names that it has."""
    qualifiers: Attrs = next(iter(items_of(patient.get("IssuerOfPatientIDQualifiersSequence"))), {})
    if local := patient.get("IssuerOfPatientID") or qualifiers.get("LocalNamespaceEntityID"):
        yield "local", local
    if universal := qualifiers.get("UniversalEntityID"):
        yield "universal", universal


def apply(records: Sequence[InstanceRecord], settlement: Settlement) -> tuple[list[InstanceRecord], str]:
    """Do with the instances of a study what a person has settled.

    Returns
    -------
    list[InstanceRecord]
        Those that belong to the study; those of a wrong patient name none here, and so agree with the right one.
    str
        What the settlement leaves open; empty when it says of everybody what is to be done.
    """
    patients = {id(record.patient): record.patient for record in records}
    keys = dict(zip(patients, keys_of(list(patients.values())), strict=True))
    kept, found = [], set()
    for record in records:
        key = keys[id(record.patient)]
        verdict = settlement.get(key)
        if verdict is Verdict.DROPPED:
            continue
        # nor may an ID without its issuer outvote the one that was settled with it
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
