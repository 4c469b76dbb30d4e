"""The Procedure of each procedure step (MPPS, PS3.3 C.4.13 to C.4.15) of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dicom2fhir.fhir.mapping import identification, related
from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.date_times import is_before
from dicom2fhir.fhir.mapping.imaging_study import with_functions
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.study_reference import study_reference
from dicom2fhir.fhir.mapping.subject import subject
from dicom2fhir.fhir.version.datatypes import DICOM_UID, Concept, identifier, oid
from dicom2fhir.model import ProcedureStep, Resource

_SERIES = "PerformedSeriesSequence"
_START = ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime")
_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")
_PEOPLE = (
    ("PRF", "PerformingPhysicianName", "PerformingPhysicianIdentificationSequence"),
    ("SPRF", "OperatorsName", "OperatorIdentificationSequence"),
)
"""Function, names and identifications of those who performed a series."""


def procedure_steps(context: MappingContext) -> list[ProcedureStep]:
    """The steps of the study of which a Procedure is written, the first one first."""
    study, element = context.study, context.dialect.elements.get("Procedure.subject")
    if context.options.procedures == "never" or not study.steps or element is None:
        return []
    of_what = subject(MappingSource(context, study, study.attrs).aside())["type"]
    if element.types and of_what not in element.types:
        context.lacks("Procedure.subject", f"procedures on a {of_what}: none is written")
        return []
    return sorted(study.steps, key=lambda step: (*(str(step.attrs.get(keyword)) for keyword in _START), step.uid))


def own_identifier(step: ProcedureStep) -> Resource:
    """The SOP Instance UID of the step."""
    return identifier(oid(step.uid), DICOM_UID)


def performed(source: MappingSource) -> list[Resource]:
    """References from the ImagingStudy to its Procedures, by identifier: they are written after it, or refused."""
    context = source.context
    steps = procedure_steps(context)
    if len(steps) > 1 and not context.dialect.holds_several("performedProcedure"):
        context.lacks("ImagingStudy.procedureReference", "room for more than one procedure step; the first is written")
    return [{"type": "Procedure", "identifier": own_identifier(step)} for step in steps]


def _step_of(source: MappingSource) -> ProcedureStep:
    if not isinstance(source.node, ProcedureStep):
        raise TypeError(source.node)
    return source.node


def _status(source: MappingSource) -> str:
    if _step_of(source).status == "DISCONTINUED":
        return source.context.dialect.discontinued
    return "completed" if _step_of(source).has_ended else "in-progress"


def _status_reason(source: MappingSource) -> Concept | None:
    reasons = source.concepts("PerformedProcedureStepDiscontinuationReasonCodeSequence")
    return reasons[0] if reasons and _step_of(source).status == "DISCONTINUED" else None


def _code(source: MappingSource) -> Concept | None:
    """The first code, because several codes of one element must mean the same."""
    description = source.text("PerformedProcedureStepDescription")
    for keyword in ("ProcedureCodeSequence", "PerformedProtocolCodeSequence"):
        codes = source.concepts(keyword)
        if len(codes) > 1:
            source.context.note("info", keyword, "has several codes; Procedure.code is the first")
        if codes:
            return replace(codes[0], text=description or codes[0].text)
    return Concept(text=description) if description else None


def _period(source: MappingSource) -> Resource | None:
    start, end = source.moment(*_START), source.moment(*_END)
    if start and end and is_before(end, start):
        source.note(_END[0], "is before the start of the procedure step; left out")
        end = None
    return {key: moment for key, moment in (("start", start), ("end", end)) if moment} or None


def _performers(source: MappingSource) -> list[Resource]:
    """The people of each series, each once, and the station."""
    series = [replace(source, attrs=item) for item in source.items(_SERIES)]
    actors = [
        (function, person)
        for function, names, identifications in _PEOPLE
        for one in series
        for person in related.practitioners(one, names, identifications)
    ]
    # a resource that the element cannot refer to must not be contained: nothing would refer to it (dom-3)
    if "Device" in source.context.dialect.elements["Procedure.performer"].types:
        name = source.text("PerformedStationName") or source.text("PerformedStationAETitle")
        if station := related.equipment(replace(source, attrs={"StationName": name})):
            actors.append(("DEV", station))
    distinct = {(function, repr(actor)): actor for function, actor in actors}
    return with_functions([(function, actor) for (function, _), actor in distinct.items()])


def _orders(source: MappingSource) -> list[Resource]:
    scheduled = source.items("ScheduledStepAttributesSequence")
    return identification.orders(replace(source, attrs={"RequestAttributesSequence": scheduled}))


def _encounter(source: MappingSource) -> Resource | None:
    return related.encounter(replace(source, attrs=source.context.study.attrs))


def _study(source: MappingSource) -> Resource | None:
    return study_reference(source.context, source.context.study.uid)


def sources(context: MappingContext) -> Iterator[MappingSource]:
    """Each step of which a Procedure is written, in a context of its own."""
    return (MappingSource(context.for_other_resource(), step, step.attrs) for step in procedure_steps(context))


PROCEDURE_RULES = (
    Rule(
        "Procedure.identifier",
        ("SOPInstanceUID",),
        lambda source: own_identifier(_step_of(source)),
        "the UID of the procedure step as urn:oid:",
    ),
    Rule(
        "Procedure.basedOn",
        ("ScheduledStepAttributesSequence",),
        _orders,
        "the order of each accession number in it",
    ),
    Rule(
        "Procedure.status",
        ("PerformedProcedureStepStatus",),
        _status,
        "IN PROGRESS `in-progress`, COMPLETED `completed`, DISCONTINUED `stopped` (STU3: `aborted`)",
    ),
    Rule(
        "Procedure.statusReason",
        ("PerformedProcedureStepDiscontinuationReasonCodeSequence",),
        _status_reason,
        "the first code, if DISCONTINUED",
    ),
    Rule(
        "Procedure.code",
        ("ProcedureCodeSequence", "PerformedProtocolCodeSequence", "PerformedProcedureStepDescription"),
        _code,
        "the first code of the first of these that has one; the description as its text",
    ),
    Rule("Procedure.subject", (), subject, "as the study's"),
    Rule("Procedure.encounter", ("AdmissionID", "IssuerOfAdmissionIDSequence"), _encounter, "as the study's"),
    Rule(
        "Procedure.performed",
        (*_START, *_END, "TimezoneOffsetFromUTC"),
        _period,
        "start and end; with their times if the zone is known",
    ),
    Rule(
        "Procedure.performer",
        (_SERIES, "PerformedStationName", "PerformedStationAETitle"),
        _performers,
        "Performing Physician's Name PRF and Operators' Name SPRF of each series; from R4 on the station DEV, by its "
        "name, else by its AE title",
    ),
    Rule("Procedure.location", ("PerformedLocation",), related.location, "the room"),
    Rule(
        "Procedure.reason",
        ("ReasonForPerformedProcedureCodeSequence",),
        lambda source: source.concepts("ReasonForPerformedProcedureCodeSequence"),
        "each code",
    ),
    Rule("Procedure.study", ("StudyInstanceUID",), _study, "the ImagingStudy"),
)

RULES: Mapping[str, tuple[Rule, ...]] = {"Procedure": PROCEDURE_RULES}
"""As :data:`dicom2fhir.fhir.mapping.rules.RULES`."""
