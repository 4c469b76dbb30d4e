"""Changes of all studies with the same problem, a number of them for each request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from starlette.responses import Response

from dicom2fhir.dicom.patients import NamedPatient
from dicom2fhir.errors import StudyBusy
from dicom2fhir.model import texts_of
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import FoundStudy, StudyFilter
from dicom2fhir.web.call import Call, RequestRefused
from dicom2fhir.web.operation import Operation, changed, named_destination
from dicom2fhir.web.studies import chosen_verdicts, settleable_patients

AT_ONCE = 100
"""Studies that one request changes."""
_LOOKED_AT = 1_000
"""Studies that one request looks at; more than those with the same patient, or in conflict, are likely to be."""
_PAGE = 50
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")


def kind_of(patients: Sequence[NamedPatient]) -> frozenset[str]:
    """Equal for conflicts between the same patients."""
    return frozenset(one.key for one in patients)


def forget_refused(call: Call) -> Response:
    """``dicom2fhir forget`` for the studies that a destination refused."""
    name = named_destination(call)
    forgotten = busy = 0
    wanted = StudyFilter(state=State.REFUSED, destination=name)
    # conflicts wait for a decision
    refused = (one.status.study_uid for one in _found(call, wanted) if not one.is_conflict)
    for uid in islice(refused, AT_ONCE):
        try:
            was_there = call.store.forget(uid)
        except StudyBusy:
            busy += 1
            continue
        call.audit("forget", study=uid, destination=name, changed=was_there)
        forgotten += was_there
    more = next(refused, None) is not None
    return changed(call, {"destination": name, "forgotten": forgotten, "busy": busy, "more": more})


def forget_rejections(call: Call) -> Response:
    """Forget that instances and files were refused on reception; what came after the page is not forgotten unseen."""
    until = call.form.get("until", "")
    if not _SECONDS.fullmatch(until):
        raise RequestRefused(400, "until must be a number of seconds since 1970.")
    count = call.store.forget_rejections(float(until))
    call.audit("forget-rejections", changed=bool(count))
    return changed(call, {"forgotten": count})


def settle_alike(call: Call) -> Response:
    """``dicom2fhir settle`` for every study whose instances name the same patients as this one."""
    uid, patients = settleable_patients(call)
    verdicts = chosen_verdicts(call, patients)
    alike = chain([uid], _alike(call, uid, patients))
    chosen = list(islice(alike, AT_ONCE))
    for other in chosen:
        call.store.settle(other, verdicts)
        call.audit("settle", study=other, changed=True)
    return changed(call, {"study_uid": uid, "settled": len(chosen), "more": next(alike, None) is not None})


def _alike(call: Call, uid: str, patients: Sequence[NamedPatient]) -> Iterator[str]:
    """The other studies with the same conflict that is not settled; the index may not know yet that one is."""
    patient_id = next(iter(texts_of(patients[0].patient.get("PatientID"))), "")
    kind = kind_of(patients)
    for one in _found(call, StudyFilter(is_conflict=True, patient_id=patient_id)):
        other = one.status.study_uid
        named = call.store.patients(other)
        if other != uid and kind_of(named) == kind and not any(patient.verdict for patient in named):
            yield other


def _found(call: Call, wanted: StudyFilter) -> Iterator[FoundStudy]:
    """The first :data:`_LOOKED_AT` studies that match; those of a page may be changed before the next one is read."""
    after = None
    for _ in range(_LOOKED_AT // _PAGE):
        page = call.store.find_studies(wanted, after, _PAGE)
        if not page:
            return
        yield from page
        after = page[-1].position


OF_A_KIND: Sequence[Operation] = (
    Operation(
        "POST",
        "/destinations/{name}/forget-refused",
        "forgetRefused",
        "Remove the studies that a destination refused from the store, without patient conflicts. Nothing is removed"
        f" from any FHIR server. At most {AT_ONCE} for each request.",
        forget_refused,
        "How many were forgotten, how many are being sent now and stay, and whether there are more.",
    ),
    Operation(
        "POST",
        "/rejections/forget",
        "forgetRejections",
        "Forget which instances and files were refused on reception, up to a time (form field until: seconds since"
        " 1970). They stay counted. A file that was refused is taken again when it changes.",
        forget_rejections,
        "How many were forgotten.",
    ),
    Operation(
        "POST",
        "/studies/{study_uid}/settle-alike",
        "settleAlike",
        "Settle the patient conflict of a study, and of each other study whose instances name the same patients, in the"
        f" same way. Form fields as for settle, without undo. At most {AT_ONCE} of them for each request.",
        settle_alike,
        "How many studies were settled, and whether there are more.",
    ),
)
