"""One study as people see it: what the store has of it, what destinations get, and what has changed since."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from dicom2fhir.dicom.patients import NamedPatient
from dicom2fhir.model import Resource, Study
from dicom2fhir.ops import settlement
from dicom2fhir.ops import status as bridge
from dicom2fhir.ops.changes import ElementChange, changes
from dicom2fhir.ops.masking import Masking, names_in
from dicom2fhir.ops.previews import Preview
from dicom2fhir.store.statuses import StudyStatus
from dicom2fhir.store.study_search import StudyDetails
from dicom2fhir.web.call import Call, RequestRefused

MOST_CHANGES = 100
"""Of one destination; the others are counted."""


@dataclass(frozen=True, slots=True)
class StudyView:
    """What the store has of one study, with identifiers of the patient hidden unless they may be shown."""

    study: StudyStatus
    document: dict[str, Any]
    details: StudyDetails
    conflict: str
    patients: Sequence[Mapping[str, object]]
    """If there is something to settle, or settled."""
    viewer: str
    is_viewer_hidden: bool
    """The URL of the viewer would show the accession number."""


@dataclass(frozen=True, slots=True)
class AskedStudy:
    """The study in the path of a request."""

    status: StudyStatus
    study: Study
    patients: Sequence[NamedPatient]
    masking: Masking


def asked_study(call: Call) -> AskedStudy:
    """Read the study in the path."""
    uid = str(call.request.path_params["study_uid"])
    status, study = call.store.study_status(uid), call.store.study(uid)
    if status is None or study is None:
        raise RequestRefused(404, "There is no such study.")
    patients = call.store.patients(uid)
    masking = Masking(study.patient, study.attrs, *(named.patient for named in patients))
    return AskedStudy(status, study, patients, masking)


def view_of(asked: AskedStudy, call: Call) -> StudyView:
    """Everything but the resources."""
    uid, show, masking = asked.study.uid, call.shows_identifiers, asked.masking
    details = call.store.study_details(uid)
    if details is None:
        raise RequestRefused(404, "There is no such study.")
    is_viewer_hidden = call.previewer.viewer_needs_accession and not show
    now = time.time()
    document = bridge.study_json(asked.status, bridge.daemon_of(call.store, now), now)
    return StudyView(
        asked.status,
        document if show else _masked_texts(document, masking),
        details if show else _masked_details(details, masking),
        asked.study.conflict,
        settlement.described(asked.patients, show) if settlement.is_settleable(asked.patients) else (),
        "" if is_viewer_hidden else call.previewer.viewer(asked.study),
        is_viewer_hidden,
    )


@dataclass(frozen=True, slots=True)
class Destined:
    """What one destination gets of a study, and what has changed since the last delivery to it.

    Attributes
    ----------
    changes
        The first :data:`MOST_CHANGES`; None if nothing was delivered, or what was delivered was not kept.
    more_changes
        How many others there are.
    """

    preview: Preview
    changes: tuple[ElementChange, ...] | None
    more_changes: int

    def document(self) -> dict[str, object]:
        """As JSON."""
        document = asdict(self.preview)
        del document["compared"]
        changes = None if self.changes is None else [asdict(one) for one in self.changes]
        return document | {"changes": changes, "more_changes": self.more_changes}


def destined(asked: AskedStudy, call: Call) -> tuple[Destined, ...]:
    """What each destination gets of the study now."""
    fingerprints = {one.name: one.fingerprint for one in call.store.destinations()}
    last_sent = call.store.last_sent(asked.study.uid)
    names = [delivery.destination for delivery in asked.status.deliveries]
    previews = (
        call.previewer.of(asked.study, name, fingerprints.get(name, ""), last_sent.get(name, b"")) for name in names
    )
    return tuple(_shown(preview, None if call.shows_identifiers else asked.masking) for preview in previews)


def _shown(preview: Preview, masking: Masking | None) -> Destined:
    if preview.compared is None:
        return Destined(_masked_preview(preview, masking) if masking else preview, None, 0)
    if masking:
        former = (name for before, _ in preview.compared for name in names_in(before))
        masking = masking.with_texts(former)
    show = masking.resource if masking else _as_it_is
    found = (change for pair in preview.compared for change in changes(*pair, show))
    first = tuple(islice(found, MOST_CHANGES))
    return Destined(_masked_preview(preview, masking) if masking else preview, first, sum(1 for _ in found))


def _as_it_is(resource: Resource) -> Resource:
    return resource


def _masked_texts(value: Any, masking: Masking) -> Any:
    """A document whose texts are the words of servers and of the bridge."""
    match value:
        case dict():
            return {key: _masked_texts(one, masking) for key, one in value.items()}
        case list() | tuple():
            return [_masked_texts(one, masking) for one in value]
        case str():
            return masking.text(value)
        case _:
            return value


def _masked_details(details: StudyDetails, masking: Masking) -> StudyDetails:
    return replace(
        details,
        series=tuple(replace(one, description=masking.text(one.description)) for one in details.series),
        attempts=tuple(replace(one, answer=masking.text(one.answer)) for one in details.attempts),
    )


def _masked_preview(preview: Preview, masking: Masking) -> Preview:
    return replace(
        preview,
        resources=tuple(masking.resource(one) for one in preview.resources),
        notes=tuple(replace(note, text=masking.text(note.text)) for note in preview.notes),
        error=masking.text(preview.error),
    )
