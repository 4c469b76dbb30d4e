"""Modality Performed Procedure Steps (MPPS, PS3.4 section F.7): reading, updating, and what they say of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dicom2fhir.dicom.attributes import LEVELS
from dicom2fhir.dicom.decode import decode_attributes
from dicom2fhir.dicom.normalized import PROCEDURE_STEP
from dicom2fhir.dicom.required_values import required, required_items, sop_instance_of, usable_uid
from dicom2fhir.errors import InvalidValue, NoLongerUpdatable
from dicom2fhir.model import Attrs, ProcedureStep, Received, Value, items_of, texts_of

_IN_PROGRESS = "IN PROGRESS"
_STATUSES = (_IN_PROGRESS, "COMPLETED", "DISCONTINUED")
_STATUS = "PerformedProcedureStepStatus"
_SCHEDULED = "ScheduledStepAttributesSequence"
_SETTABLE = frozenset(
    {
        _STATUS,
        "PerformedProcedureStepEndDate",
        "PerformedProcedureStepEndTime",
        "PerformedProcedureStepDescription",
        "PerformedProcedureStepDiscontinuationReasonCodeSequence",
        "PerformedProtocolCodeSequence",
        "PerformedSeriesSequence",
        "ProcedureCodeSequence",
        "ReasonForPerformedProcedureCodeSequence",
    }
)
"""What an N-SET may change among what is read (PS3.4 table F.7.2-1); other attributes in it are ignored."""


def created(received: Received) -> ProcedureStep:
    """The procedure step in an N-CREATE request.

    Raises
    ------
    MissingAttribute, InvalidValue, InvalidInstanceUID
        A required attribute, or the UID of the step, is missing or cannot be used; the status must be IN PROGRESS.
    """
    attrs = decode_attributes(received, PROCEDURE_STEP)
    step = step_of(sop_instance_of(received), attrs)
    if step.has_ended:
        raise InvalidValue(f"{_STATUS} of a new procedure step is not {_IN_PROGRESS}.")
    return step


def changes(received: Received) -> Attrs:
    """The attributes that an N-SET request changes.

    Raises
    ------
    InvalidValue
        A value cannot be used.
    """
    attrs = decode_attributes(received, PROCEDURE_STEP)
    if _STATUS in attrs:
        _checked_status(attrs)
    return {keyword: value for keyword, value in attrs.items() if keyword in _SETTABLE}


def updated(step: ProcedureStep, changed: Attrs) -> ProcedureStep:
    """The procedure step after an N-SET; the same if nothing has changed.

    Raises
    ------
    NoLongerUpdatable
        It has ended, and the change is not the one that ended it.
    """
    result = step_of(step.uid, {**step.attrs, **changed})
    if step.has_ended and result != step:
        raise NoLongerUpdatable
    return result


def step_of(uid: str, attrs: Attrs) -> ProcedureStep:
    """The procedure step with these attributes.

    Of several studies, which a step for several requested procedures may name, the first is its study.
    """
    scheduled, *_ = required_items(attrs, _SCHEDULED)
    return ProcedureStep(
        uid=uid,
        study_uid=usable_uid(scheduled, "StudyInstanceUID"),
        status=_checked_status(attrs),
        instances=tuple(sorted(set(_instances(attrs)))),
        attrs=attrs,
    )


def _checked_status(attrs: Attrs) -> str:
    status = " ".join(required(attrs, _STATUS).upper().split())
    if status not in _STATUSES:
        raise InvalidValue(f"{_STATUS} is not {', '.join(_STATUSES[:-1])} or {_STATUSES[-1]}.")
    return status


def _instances(attrs: Attrs) -> Iterator[str]:
    for series in items_of(attrs.get("PerformedSeriesSequence")):
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            for reference in items_of(series.get(keyword)):
                yield from texts_of(reference.get("ReferencedSOPInstanceUID"))


def patient_of(step: ProcedureStep) -> Attrs:
    """The patient's attributes, as an instance has them."""
    return {a.keyword: step.attrs[a.keyword] for a in LEVELS["patient"] if a.keyword in step.attrs}


def studies_of(steps: Iterable[ProcedureStep]) -> Iterator[Attrs]:
    """The study's attributes, as instances have them: one mapping for each request of each step."""
    for step in steps:
        own = {a.keyword: step.attrs[a.keyword] for a in LEVELS["study"] if a.keyword in step.attrs}
        own |= _start_of(step.attrs)
        for request in items_of(step.attrs.get(_SCHEDULED)):
            of_request = {a.keyword: request[a.keyword] for a in LEVELS["study"] if a.keyword in request}
            yield {**own, **of_request}


def _start_of(attrs: Attrs) -> dict[str, Value]:
    """The start of the step as Study Date and Time: a study starts with its first step."""
    pairs = (
        ("StudyDate", "PerformedProcedureStepStartDate"),
        ("StudyTime", "PerformedProcedureStepStartTime"),
    )
    return {keyword: attrs[source] for keyword, source in pairs if source in attrs}
