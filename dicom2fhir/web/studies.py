"""Operations on studies: search, one study with what destinations get, and what an operator can do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from starlette.datastructures import QueryParams
from starlette.responses import Response

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.errors import StudyBusy
from dicom2fhir.ops import settlement
from dicom2fhir.ops import status as bridge
from dicom2fhir.ops.masking import MASK, Masking
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import FoundStudy, Position, StudyDetails, StudyFilter
from dicom2fhir.web.call import Call, RequestRefused
from dicom2fhir.web.one_study import MOST_CHANGES, asked_study, destined, view_of
from dicom2fhir.web.operation import Operation, changed, json_response, number, require_destination, state_of

T = TypeVar("T")

PAGE = 50
_MOST = 200
_MOST_PATIENTS = 10_000
FILTERS: Mapping[str, str] = {
    "study_uid": "Study Instance UID",
    "accession_number": "Accession Number",
    "patient_id": "Patient ID",
    "patient_name": "Patient's Name",
    "modality": "Modality",
    "study_date": "Study Date or range, 20240101-20240131",
    "calling_ae_title": "Calling AE title",
    "destination": "Destination",
}
"""Parameters of the search that are texts, with their names for people."""
_DATES = re.compile(r"(\d{8}(-(\d{8})?)?|-\d{8})?")
_OF_PATIENTS = ("patient_id", "patient_name")
"""Those that need ``web.show_identifiers``: whoever may not see them must not be able to guess them, either."""


def filters_for(call: Call) -> Mapping[str, str]:
    """The text filters that this page offers."""
    return {name: text for name, text in FILTERS.items() if call.shows_identifiers or name not in _OF_PATIENTS}


def search(call: Call, limit: int) -> tuple[Sequence[FoundStudy], str]:
    """The studies that the parameters ask for, and where the next page begins; empty if there is none."""
    query = call.request.query_params
    found = call.store.find_studies(_wanted(call, query), _position(query.get("after")), limit + 1)
    more = found[limit - 1].position if 0 < limit < len(found) else None
    return found[:limit], ",".join(map(str, more)).rstrip(",") if more else ""


def _wanted(call: Call, query: QueryParams) -> StudyFilter:
    state = state_of(query.get("state") or None)  # a form sends every field
    if not call.shows_identifiers and any(query.get(name) for name in _OF_PATIENTS):
        raise RequestRefused(403, "Patients are not searched, because web.show_identifiers is not set.")
    texts = {name: query.get(name, "") for name in FILTERS}
    if not _DATES.fullmatch(texts["study_date"].strip()):
        raise RequestRefused(
            400, "study_date must be a date, 20240131, or a range: 20240101-20240131, 20240101- or -20240131."
        )
    return StudyFilter(state=state, is_conflict=query.get("conflict") == "true", **texts)


def _position(given: str | None) -> Position | None:
    if not given:
        return None
    try:
        last_at, number, *date = given.split(",")
        return Position(float(last_at), int(number), *date[:1])
    except ValueError:
        raise RequestRefused(400, "after must be the value of next in the page before.") from None


def list_studies(call: Call) -> Response:
    """The studies that match, latest change first."""
    found, following = search(call, number(call.request.query_params.get("limit"), "limit", PAGE, _MOST))
    return json_response({"studies": [_found_json(one, call) for one in found], "next": following})


def _found_json(found: FoundStudy, call: Call) -> dict[str, object]:
    study = found.status
    return {
        "study_uid": study.study_uid,
        "study_date": found.study_date,
        "modalities": found.modalities,
        "accession_numbers": accession_numbers(found, call),
        "calling_ae_titles": found.calling_ae_titles,
        "series": study.series,
        "instances": study.instances,
        "revision": study.revision,
        "first_at": bridge.iso(study.first_at),
        "last_at": bridge.iso(study.last_at),
        "is_conflict": found.is_conflict,
        "deliveries": {one.destination: one.state for one in study.deliveries},
    }


def accession_numbers(found: FoundStudy, call: Call) -> Sequence[str]:
    """The accession numbers of a study, if they may be shown."""
    return found.accession_numbers if call.shows_identifiers else [MASK] * len(found.accession_numbers)


def read_study(call: Call) -> Response:
    """One study: its status, series, senders and attempts."""
    view = view_of(asked_study(call), call)
    return json_response(view.document | _details_json(view.details) | {"conflict": view.conflict})


def _details_json(details: StudyDetails) -> dict[str, object]:
    return {
        "series_found": [asdict(one) for one in details.series],
        "senders": [asdict(one) | {"first_at": bridge.iso(one.first_at)} for one in details.senders],
        "attempts": [asdict(one) | {"at": bridge.iso(one.at)} for one in details.attempts],
    }


def read_resources(call: Call) -> Response:
    """What each destination gets of a study now."""
    return json_response([one.document() for one in destined(asked_study(call), call)])


def retry_study(call: Call) -> Response:
    """``dicom2fhir retry STUDY``."""
    uid = _known(call)
    destination = call.form.get("destination")
    if destination:
        require_destination(call, destination)
    count = call.store.requeue(uid, destination or None, all_states=True)
    call.audit("retry", study=uid, destination=destination or "", changed=bool(count))
    return changed(call, {"study_uid": uid, "due": count})


def forget_study(call: Call) -> Response:
    """``dicom2fhir forget STUDY``."""
    uid = _known(call)
    try:
        was_there = call.store.forget(uid)
    except StudyBusy:
        raise RequestRefused(409, "The study is being sent now. Try again in a moment.") from None
    call.audit("forget", study=uid, changed=was_there)
    return changed(call, {"study_uid": uid, "forgotten": was_there}, then="/studies")


def settle_study(call: Call) -> Response:
    """``dicom2fhir settle STUDY``."""
    uid, patients = settleable_patients(call)
    undo = call.form.get("undo") == "true"
    call.store.settle(uid, {} if undo else chosen_verdicts(call, patients))
    call.audit("settle", study=uid, changed=True)
    return changed(call, {"study_uid": uid, "patients": _patients(call, uid)})


def settleable_patients(call: Call) -> tuple[str, Sequence[NamedPatient]]:
    """The study in the path, and its patients, which a person may settle."""
    uid = _known(call)
    patients = call.store.patients(uid)
    if not settlement.is_settleable(patients):
        raise RequestRefused(409, "The instances name one patient: there is no conflict to settle.")
    return uid, patients


def chosen_verdicts(call: Call, patients: Sequence[NamedPatient]) -> dict[str, Verdict]:
    """The verdict on each patient that the form means."""
    keep = call.form.get("keep")
    dropped = [one for one in call.form.get("drop", "").split(",") if one]
    try:
        return settlement.verdicts(
            patients,
            number(keep, "keep", 0, _MOST_PATIENTS) if keep else None,
            [number(one, "drop", 0, _MOST_PATIENTS) for one in dropped],
        )
    except (LookupError, ValueError) as error:
        raise RequestRefused(400, f"{error}.") from None


def _patients(call: Call, uid: str) -> list[dict[str, object]]:
    return settlement.described(call.store.patients(uid), call.shows_identifiers)


def read_patients(call: Call) -> Response:
    """The patients that the instances of a study name."""
    return json_response(_patients(call, _known(call)))


Listed = Sequence[tuple[FoundStudy, T]]
"""Studies, each with what is shown of its problem."""


def conflicting(call: Call, limit: int) -> Listed[Sequence[NamedPatient]]:
    """Studies that wait for a decision about their patients, with these."""
    found = call.store.find_studies(StudyFilter(is_conflict=True), limit=limit)
    return [(one, call.store.patients(one.status.study_uid)) for one in found]


def refused(call: Call, limit: int) -> tuple[Listed[Sequence[tuple[str, str]]], bool]:
    """Studies that destinations refused, with these and their reasons, and whether there are more.

    Those that wait for a decision are left out.
    """
    found = call.store.find_studies(StudyFilter(state=State.REFUSED), limit=limit + 1)
    return [(one, list(_reasons(call, one))) for one in found[:limit] if not one.is_conflict], len(found) > limit


def _reasons(call: Call, found: FoundStudy) -> Iterator[tuple[str, str]]:
    patients = (named.patient for named in call.store.patients(found.status.study_uid))
    masking = Masking(*patients, {"AccessionNumber": list(found.accession_numbers)})
    for delivery in found.status.deliveries:
        if delivery.state is State.REFUSED:
            reason = delivery.reason if call.shows_identifiers else masking.text(delivery.reason)
            yield delivery.destination, reason


def _known(call: Call) -> str:
    uid = str(call.request.path_params["study_uid"])
    if call.store.study_status(uid) is None:
        raise RequestRefused(404, "There is no such study.")
    return uid


_STATE = {"type": "string", "enum": list(State), "description": "State of the delivery to destination, or to any."}
_LIMIT = {"type": "integer", "minimum": 0, "maximum": _MOST, "default": PAGE, "description": "Number of studies."}
_AFTER = {"type": "string", "description": "The value of next in the page before."}
_CONFLICT = {"type": "boolean", "description": "Only studies whose instances name several patients."}
STUDY_OPERATIONS: Sequence[Operation] = (
    Operation(
        "GET",
        "/studies",
        "studies",
        "Search studies. Texts match whole values. What arrived in the last seconds may be missing.",
        list_studies,
        "Studies, latest change first, and where the next page begins.",
        {
            **{name: {"type": "string", "description": text} for name, text in FILTERS.items()},
            "state": _STATE,
            "conflict": _CONFLICT,
            "after": _AFTER,
            "limit": _LIMIT,
        },
    ),
    Operation(
        "GET",
        "/studies/{study_uid}",
        "study",
        "One study: deliveries with their attempts, series, senders.",
        read_study,
        "The study. Identifiers of the patient are hidden unless web.show_identifiers is set.",
    ),
    Operation(
        "GET",
        "/studies/{study_uid}/resources",
        "resources",
        "The resources as each destination gets them now, with what was left out and why, and the elements that have"
        " changed since the last delivery.",
        read_resources,
        "One item for each destination. Identifiers are hidden unless web.show_identifiers is set; a change of one is"
        f" named. At most {MOST_CHANGES} changes are listed, more_changes counts the others. changes is null if nothing"
        " was delivered, or what was delivered was not kept.",
    ),
    Operation(
        "POST",
        "/studies/{study_uid}/retry",
        "retryStudy",
        "Send a study again now, to one destination (form field destination) or to all.",
        retry_study,
        "The number of deliveries that are due now.",
    ),
    Operation(
        "GET",
        "/studies/{study_uid}/patients",
        "patients",
        "The patients that the instances of a study name, by number. Their order does not change.",
        read_patients,
        "One item for each patient. Identifiers are masked unless web.show_identifiers is set.",
    ),
    Operation(
        "POST",
        "/studies/{study_uid}/settle",
        "settle",
        "Settle a patient conflict. Form fields: keep (number of the right patient), drop (numbers of the patients"
        " whose instances are left out, with commas), or undo=true.",
        settle_study,
        "The patients with the verdicts.",
    ),
    Operation(
        "POST",
        "/studies/{study_uid}/forget",
        "forgetStudy",
        "Remove a study from the store. Nothing is removed from any FHIR server.",
        forget_study,
        "Whether it was there.",
    ),
)
