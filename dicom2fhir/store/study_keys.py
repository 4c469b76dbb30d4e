"""By what a study is found: pairs of a kind and a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from dicom2fhir.model import Attrs, items_of, texts_of
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import StudyFilter

_MAX_VALUE = 1_000
"""Characters of a value; the longest that is common is the path of a folder."""
_MAX_KEYS = 1_000
"""Of one kind in one study, whatever its instances contain."""
_RANGE = re.compile(r"(\d{8})?-(\d{8})?")
_LAST_DATE = "99991231"
_ORDERS = ("RequestAttributesSequence", "ScheduledStepAttributesSequence")
"""An Accession Number is also in the items of these."""


class Kind(StrEnum):
    """The kinds of keys; those that fit the fewest studies come first."""

    STUDY_UID = "study_uid"
    ACCESSION_NUMBER = "accession_number"
    PATIENT_ID = "patient_id"
    PATIENT_NAME = "patient_name"
    CONFLICT = "conflict"
    STUDY_DATE = "study_date"
    FOLDER = "folder"
    CALLING_AE_TITLE = "calling_ae_title"
    MODALITY = "modality"
    EVERY = "every"
    """Each study has this key, with an empty value."""


RARER_THAN_STATE = (Kind.STUDY_UID, Kind.ACCESSION_NUMBER, Kind.PATIENT_ID, Kind.PATIENT_NAME, Kind.CONFLICT)
"""Fewer studies are likely to have such a key than to be in a state other than delivered, or in a range of dates."""

Key = tuple[Kind, str]


def keys_of(
    study_uid: str,
    mappings: Iterable[Attrs],
    calling_ae_titles: Iterable[str],
    folders: Iterable[str],
    is_conflict: bool,
) -> list[Key]:
    """The keys of a study, in order, each once.

    Parameters
    ----------
    mappings
        The distinct patient, study and series attributes of its instances, or the attributes of its procedure steps.
    """
    values: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    values[Kind.EVERY].add("")
    values[Kind.STUDY_UID].add(study_uid)
    values[Kind.CALLING_AE_TITLE].update(map(_plain, calling_ae_titles))
    values[Kind.FOLDER].update(map(_plain, folders))
    if is_conflict:
        values[Kind.CONFLICT].add("")
    for attrs in mappings:
        for kind, value in _keys_in(attrs):
            values[kind].add(value)
    return [(kind, value) for kind, found in values.items() for value in sorted(found)[:_MAX_KEYS]]


def _keys_in(attrs: Attrs) -> Iterator[Key]:
    for kind, name in (
        (Kind.MODALITY, "Modality"),
        (Kind.STUDY_DATE, "StudyDate"),
        (Kind.PATIENT_ID, "PatientID"),
        (Kind.ACCESSION_NUMBER, "AccessionNumber"),
    ):
        yield from ((kind, _plain(text)) for text in texts_of(attrs.get(name)) if text.strip())
    for name in texts_of(attrs.get("PatientName")):
        yield from ((Kind.PATIENT_NAME, word) for word in _words(name))
    for sequence in _ORDERS:
        for item in items_of(attrs.get(sequence)):
            texts = texts_of(item.get("AccessionNumber"))
            yield from ((Kind.ACCESSION_NUMBER, _plain(text)) for text in texts if text.strip())


class DateRange(NamedTuple):
    """Study Dates from the first to the last, as texts."""

    first: str
    last: str


def wanted_dates(wanted: StudyFilter) -> DateRange | None:
    """The range that :attr:`StudyFilter.study_date` names; None if it names none."""
    found = _RANGE.fullmatch(wanted.study_date.strip())
    return DateRange(found[1] or "", found[2] or _LAST_DATE) if found and (found[1] or found[2]) else None


def lists_by_date(wanted: StudyFilter) -> bool:
    """Whether studies are listed by Study Date: there is a range, and nothing that fewer studies are likely to have."""
    by_state = wanted.state not in (None, State.DELIVERED)
    rarer = any(kind in RARER_THAN_STATE for kind, _ in wanted_keys(wanted))
    return wanted_dates(wanted) is not None and not by_state and not rarer


def wanted_keys(wanted: StudyFilter) -> list[Key]:
    """The keys that a study must have to be found, the rarest kind first."""
    texts = {
        Kind.STUDY_UID: wanted.study_uid,
        Kind.ACCESSION_NUMBER: wanted.accession_number,
        Kind.PATIENT_ID: wanted.patient_id,
        Kind.STUDY_DATE: "" if wanted_dates(wanted) else wanted.study_date,
        Kind.FOLDER: wanted.folder,
        Kind.CALLING_AE_TITLE: wanted.calling_ae_title,
        Kind.MODALITY: wanted.modality,
    }
    keys = [(kind, _plain(text)) for kind, text in texts.items() if text.strip()]
    keys += [(Kind.PATIENT_NAME, word) for word in _words(wanted.patient_name)]
    if wanted.is_conflict:
        keys.append((Kind.CONFLICT, ""))
    order = list(Kind)
    return sorted(keys, key=lambda key: order.index(key[0]))


def _plain(text: str) -> str:
    return text.strip()[:_MAX_VALUE]


def _words(name: str) -> set[str]:
    """The words of a name in any of its component groups (PS3.5 section 6.2.1)."""
    return {word[:_MAX_VALUE] for word in name.casefold().replace("^", " ").replace("=", " ").split()}
