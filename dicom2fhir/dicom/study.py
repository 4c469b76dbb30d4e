"""Builds a :class:`~dicom2fhir.model.Study` from its instances, independent of the order of their arrival.

Attributes of the patient, the study and a series are repeated in each instance and sometimes disagree. The value is
chosen by the rules of :data:`dicom2fhir.dicom.attributes.Pick`, never by order.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf, isfinite

from dicom2fhir.dicom.attributes import LEVELS, Attribute, Level
from dicom2fhir.dicom.patients import Counted, Settlement, apply, canonical, conflict_of
from dicom2fhir.dicom.procedure_step import patient_of, studies_of
from dicom2fhir.dicom.rejection_notes import remaining
from dicom2fhir.model import (
    Attrs,
    Availability,
    Instance,
    InstanceRecord,
    Note,
    ProcedureStep,
    RejectedInstance,
    RejectedInstances,
    Series,
    Study,
    Value,
    items_of,
)

_NOTHING_SETTLED: Settlement = {}
_NOTHING_STATED: Mapping[str, tuple[Availability, ...]] = {}
_NONE_ELSEWHERE: Mapping[str, frozenset[str]] = {}
_SETTLED = Note("warning", "PatientID", "differs between instances; resolved with `dicom2fhir settle`")


def assemble(
    study_uid: str,
    revision: int,
    records: Iterable[InstanceRecord],
    settlement: Settlement = _NOTHING_SETTLED,
    stated: Mapping[str, tuple[Availability, ...]] = _NOTHING_STATED,
    steps: Sequence[ProcedureStep] = (),
    rejections: Collection[RejectedInstance] = (),
    rejected_elsewhere: Mapping[str, frozenset[str]] = _NONE_ELSEWHERE,
) -> Study:
    """Build the study from all its instances that are not rejected; without any, from its procedure steps.

    Of a study that is rejected as a whole the attributes of patient and study remain, without series.

    Parameters
    ----------
    records
        The instances of this study, each once; series and SOP Instance UID together identify them. Records that share
        equal mappings as one object are assembled faster.
    settlement
        The verdicts of a person about patients in conflict.
    stated
        SOP Instance UID -> what archives state of the instance, in a fixed order.
    steps
        The procedure steps that name the study, in a fixed order.
    rejections
        What rejection notes state of its instances.
    rejected_elsewhere
        As :attr:`dicom2fhir.model.Study.rejected_elsewhere`.
    """
    everything = list(records)
    if not everything:
        return _announced(study_uid, revision, steps)
    whole = _assembled(study_uid, revision, everything, settlement, stated, steps)
    if not rejections:
        return replace(whole, rejected_elsewhere=rejected_elsewhere)
    left = remaining(everything, rejections)
    rejection = RejectedInstances(left.code, left.modifiers, left.instances, left.notes, whole)
    if left.code:
        found = replace(whole, series=())
    elif len(left.records) == len(everything):
        found = whole
    else:
        found = _assembled(study_uid, revision, left.records, settlement, stated, steps)
    return replace(found, rejection=rejection, rejected_elsewhere=rejected_elsewhere)


def _assembled(
    study_uid: str,
    revision: int,
    records: Sequence[InstanceRecord],
    settlement: Settlement,
    stated: Mapping[str, tuple[Availability, ...]],
    steps: Sequence[ProcedureStep],
) -> Study:
    """The study of these instances."""
    everything, left_open = list(records), ""
    if settlement:
        everything, left_open = apply(everything, settlement)
    by_series: dict[str, list[InstanceRecord]] = defaultdict(list)
    for record in everything:
        by_series[record.series_uid].append(record)
    notes: set[Note] = {note for record in everything if record.notes for note in record.notes}
    notes |= _doubles(everything)
    if settlement:
        notes.add(_SETTLED)
    patients = _distinct(record.patient for record in everything)
    return Study(
        uid=study_uid,
        revision=revision,
        patient=_agree("patient", patients, notes),
        attrs=_agree("study", _distinct(record.study for record in everything), notes),
        series=tuple(sorted((_series(uid, by_series[uid], stated, notes) for uid in by_series), key=_series_order)),
        notes=_in_order(notes),
        conflict=left_open or conflict_of(patients),
        steps=tuple(steps),
    )


def _announced(study_uid: str, revision: int, steps: Sequence[ProcedureStep]) -> Study:
    """A study of which no instance has arrived; without a patient if its steps name different ones."""
    notes: set[Note] = set()
    patients = _distinct(patient_of(step) for step in steps)
    patient = {} if conflict_of(patients) else _agree("patient", patients, notes)
    attrs = _agree("study", _distinct(studies_of(steps)), notes)
    return Study(study_uid, revision, patient, attrs, (), notes=_in_order(notes), is_announced=True, steps=tuple(steps))


def _in_order(notes: set[Note]) -> tuple[Note, ...]:
    return tuple(sorted(notes, key=lambda note: (note.where, note.text)))


def _doubles(records: Sequence[InstanceRecord]) -> set[Note]:
    """A note if series share a SOP Instance UID, which by PS3.3 C.12.1 identifies one instance only."""
    if len({record.sop_uid for record in records}) == len(records):
        return set()
    return {
        Note(
            "warning", "SOPInstanceUID", "occurs in several series of this study; the instance is kept in each of them"
        )
    }


def _series(
    uid: str, records: Sequence[InstanceRecord], stated: Mapping[str, tuple[Availability, ...]], notes: set[Note]
) -> Series:
    instances = [Instance(record.sop_uid, record.instance, stated.get(record.sop_uid, ())) for record in records]
    instances.sort(key=_instance_order)
    return Series(uid, _agree("series", _distinct(record.series for record in records), notes), tuple(instances))


def _uid_order(uid: str) -> _UidOrder:
    """Sort key that compares the components of UIDs as numbers, so that 1.2.10 follows 1.2.9."""
    return tuple((len(component), component) for component in uid.split("."))


_UidOrder = tuple[tuple[int, str], ...]


def _series_order(series: Series) -> tuple[float, _UidOrder]:
    return _number(series.attrs.get("SeriesNumber")), _uid_order(series.uid)


def _instance_order(instance: Instance) -> tuple[float, _UidOrder]:
    return _number(instance.attrs.get("InstanceNumber")), _uid_order(instance.uid)


def _number(value: Value | None) -> float:
    """An IS as a sort key; values that are not numbers come last."""
    if not isinstance(value, str):
        return inf
    try:
        number = float(value)
    except ValueError:
        return inf
    return number if isfinite(number) else inf


def _distinct(mappings: Iterable[Attrs]) -> Counted:
    """Distinct mappings with their counts; a mapping that is the same object is compared once."""
    every = list(mappings)
    counts = Counter(map(id, every))
    objects = [(mapping, counts[number]) for number, mapping in {id(mapping): mapping for mapping in every}.items()]
    if len(objects) == 1:
        return objects
    by_text: dict[str, tuple[Attrs, int]] = {}
    for mapping, count in objects:
        text = canonical(mapping)
        first, before = by_text.get(text, (mapping, 0))
        by_text[text] = first, before + count
    return [by_text[text] for text in sorted(by_text)]


def _agree(level: Level, counted: Counted, notes: set[Note]) -> dict[str, Value]:
    """One value for each attribute of a level."""
    if len(counted) == 1:
        only = dict(counted[0][0])
        repeated = [a.keyword for a in LEVELS[level] if a.pick == "every" and a.keyword in only]
        return only | {keyword: _every(keyword, counted) for keyword in repeated}
    result: dict[str, Value] = {}
    others: dict[str, list[Attrs]] = defaultdict(list)
    followers: dict[str, list[Attribute]] = defaultdict(list)
    for attribute in LEVELS[level]:
        if attribute.follows:
            followers[attribute.follows].append(attribute)
    for attribute in LEVELS[level]:
        if attribute.follows:
            continue
        if attribute.pick == "every":
            every = _every(attribute.keyword, counted)
            if every:
                result[attribute.keyword] = every
            continue
        group = [attribute.keyword, *(f.keyword for f in followers[attribute.keyword])]
        found = _common(attribute, group, counted, notes)
        if found:
            result |= found[0]
        if attribute.others_to:
            others[attribute.others_to] += found[1:]
    return result | {keyword: [*items_of(result.get(keyword)), *items] for keyword, items in others.items() if items}


def _every(keyword: str, counted: Counted) -> list[Attrs]:
    """Each distinct item of a sequence, in a fixed order."""
    items = {canonical(item): item for mapping, _ in counted for item in items_of(mapping.get(keyword))}
    return [items[text] for text in sorted(items)]


_A_DAY = re.compile(r"(?!0000)\d{4}\.?(?!00)\d\d\.?(?!00)\d\d")
"""A possible DA; 00000000 and the like cannot be the earliest date."""


_OFFSET = re.compile(r"([+-])(\d\d):?([0-5]\d)")
_NO_TIME = "~"
"""Sorts after every time, so that of the instances of a day the earliest with a time is used."""


def _moments(group: Sequence[str], candidates: Sequence[Attrs]) -> list[str]:
    """Sort keys of the candidates: date and time as digits.

    They are converted to UTC if each candidate has a Timezone Offset From UTC. If one lacks it, all are compared
    without conversion.
    """
    local = [_local(candidate.get(group[0]), candidate.get(group[1])) for candidate in candidates]
    offsets = [_OFFSET.fullmatch(str(candidate.get("TimezoneOffsetFromUTC"))) for candidate in candidates]
    return [
        _in_utc(text, offset) if all(offsets) and offset else text for text, offset in zip(local, offsets, strict=True)
    ]


def _local(da: Value | None, tm: Value | None) -> str:
    day, time = (re.sub(r"\D", "", value) if isinstance(value, str) else "" for value in (da, tm))
    return day[:8] + (time.ljust(6, "0") if time else _NO_TIME)


def _in_utc(local: str, offset: re.Match[str]) -> str:
    minutes = (int(offset[2]) * 60 + int(offset[3])) * (-1 if offset[1] == "-" else 1)
    try:
        moment = datetime.strptime(local[:14], "%Y%m%d%H%M%S") - timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return local  # no time, or an invalid one
    return re.sub(r"\D", "", moment.isoformat()) + local[14:]


def _common(attribute: Attribute, group: Sequence[str], counted: Counted, notes: set[Note]) -> list[dict[str, Value]]:
    """The values of an attribute and of those that follow it, all from the same instances: first the chosen ones, then
    the others in a fixed order."""
    votes: dict[str, int] = defaultdict(int)
    candidates: dict[str, dict[str, Value]] = {}
    for mapping, count in counted:
        values = {keyword: mapping[keyword] for keyword in group if keyword in mapping}
        if values:
            text = canonical([values.get(keyword, "") for keyword in group])
            votes[text] += count
            candidates[text] = values
    if not candidates:
        return []
    earliest = attribute.pick == "earliest"
    chosen = "the earliest" if earliest else "the most frequent"
    fate = "comes first" if attribute.others_to else "is used"
    notes.update(
        Note("info", keyword, f"differs between instances; {chosen} value {fate}")
        for keyword in group
        if len({canonical(values[keyword]) for values in candidates.values() if keyword in values}) > 1
    )
    # the first attribute of the group decides: instances without it do not count if others have it
    eligible = [text for text, values in candidates.items() if group[0] in values] or list(candidates)
    if earliest:
        eligible = [text for text in eligible if _A_DAY.match(str(candidates[text].get(group[0])))] or eligible
        moments = _moments(group, [candidates[text] for text in eligible])
        stands = min(zip(moments, eligible, strict=True))[1]
    else:
        stands = min(eligible, key=lambda text: (-votes[text], text))
    return [candidates[stands], *(candidates[text] for text in sorted(eligible) if text != stands)]
