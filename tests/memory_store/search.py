"""How studies are found in a store in memory; every study is looked at each time."""

from __future__ import annotations

from itertools import groupby

from dicom2fhir.model import Attrs, Study, texts_of
from dicom2fhir.store.study_keys import Kind, keys_of, lists_by_date, wanted_dates, wanted_keys
from dicom2fhir.store.study_search import (
    KEPT_ATTEMPTS,
    AttemptOutcome,
    FoundStudy,
    PastAttempt,
    Position,
    Sender,
    SeriesSummary,
    SourceFolder,
    StudyDetails,
    StudyFilter,
)
from tests.memory_store import overview
from tests.memory_store.memory import Delivery, Memory, StudyRow


def find(memory: Memory, study: StudyRow, whole: Study | None, wanted: StudyFilter) -> FoundStudy | None:
    """The study, if it matches."""
    records = [kept.record for kept in study.instances.values()]
    mappings: list[Attrs] = [attrs for one in records for attrs in (one.patient, one.study, one.series)]
    is_conflict = bool(records and whole and whole.conflict)
    keys = keys_of(
        study.uid, mappings or [step.attrs for step in study.steps.values()], study.senders, study.folders, is_conflict
    )
    deliveries = {name: one for name, one in study.deliveries.items() if memory.destinations[name].in_force}
    if wanted.destination:
        deliveries = {name: one for name, one in deliveries.items() if name == wanted.destination}
    states = {one.state for one in deliveries.values()}
    if not {*wanted_keys(wanted)} <= {*keys}:
        return None
    dates = wanted_dates(wanted)
    within = [value for kind, value in keys if kind is Kind.STUDY_DATE and dates and dates.first <= value <= dates.last]
    if dates and not within:
        return None
    if (wanted.state and wanted.state not in states) or (wanted.destination and not states):
        return None
    values = {kind: tuple(value for _, value in found) for kind, found in groupby(keys, key=lambda key: key[0])}
    return FoundStudy(
        status=overview.study_status(memory, study, memory.rule),
        study_date=min(values.get(Kind.STUDY_DATE, ()), default=""),
        modalities=values.get(Kind.MODALITY, ()),
        accession_numbers=values.get(Kind.ACCESSION_NUMBER, ()),
        calling_ae_titles=values.get(Kind.CALLING_AE_TITLE, ()),
        folders=values.get(Kind.FOLDER, ()),
        is_conflict=is_conflict,
        position=Position(study.last_at, study.number, max(within) if lists_by_date(wanted) else ""),
    )


def place(position: Position) -> tuple[str, float, int]:
    """What is sorted by."""
    return position.date, position.last_at, position.number


def details(memory: Memory, study: StudyRow) -> StudyDetails:
    series: dict[str, list[Attrs]] = {}
    for kept in study.instances.values():
        series.setdefault(kept.record.series_uid, []).append(kept.record.series)
    attempts = [
        one for name, delivery in study.deliveries.items() if memory.destinations[name].in_force
        for one in delivery.history
    ]  # fmt: skip
    return StudyDetails(
        series=tuple(
            SeriesSummary(uid, text(found[0], "Modality"), text(found[0], "SeriesDescription"), len(found))
            for uid, found in series.items()
        ),
        senders=tuple(Sender(name, at) for name, at in sorted(study.senders.items(), key=lambda one: one[::-1])),
        folders=tuple(SourceFolder(name, at) for name, at in sorted(study.folders.items(), key=lambda one: one[::-1])),
        attempts=tuple(sorted(attempts, key=lambda one: one.at, reverse=True)),
    )


def text(attrs: Attrs, name: str) -> str:
    return ", ".join(texts_of(attrs.get(name)))


def note(delivery: Delivery, destination: str, at: float, revision: int, outcome: AttemptOutcome, answer: str) -> None:
    """Newest first; what ends as before is counted."""
    before = delivery.history[0] if delivery.history else None
    times = 1
    if before and (before.revision, before.outcome, before.answer) == (revision, outcome, answer):
        times += delivery.history.pop(0).times
    delivery.history.insert(0, PastAttempt(destination, at, revision, outcome, answer, times))
    del delivery.history[KEPT_ATTEMPTS:]
