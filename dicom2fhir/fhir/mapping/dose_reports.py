"""The meaning of radiation dose reports (PS3.3 A.35.8 and A.35.14; PS3.16 TID 10001, 10011 and 10021).

Only totals are read. Those of two reports are never added up: one may be of the whole study, the other of a part of it.
:mod:`dicom2fhir.fhir.mapping.dose_report_rules` lists the element of each value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dicom2fhir.fhir.mapping import related
from dicom2fhir.fhir.mapping.content import ContentItem, dcm, replaced_by_others
from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.date_times import earliest
from dicom2fhir.fhir.mapping.document_nodes import DoseReport, DoseValue
from dicom2fhir.fhir.mapping.measured_values import absent_reason, quantity
from dicom2fhir.fhir.mapping.sr_documents import authored, observing_device
from dicom2fhir.fhir.version.datatypes import (
    DCM,
    SNOMED_CT,
    Coding,
    Concept,
    date_time_of_dt,
    one,
)
from dicom2fhir.fhir.version.dialect import words_of
from dicom2fhir.model import Attrs, Instance, Resource, Series
from dicom2fhir.sop_classes import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENHANCED_SR,
    RADIOPHARMACEUTICAL_RADIATION_DOSE_SR,
    X_RAY_RADIATION_DOSE_SR,
)

_X_RAY = Coding("113701", DCM, "X-Ray Radiation Dose Report")
_RADIOPHARMACEUTICAL_REPORT = Coding("113500", DCM, "Radiopharmaceutical Radiation Dose Report")
TITLES: Mapping[str, tuple[Coding, ...]] = MappingProxyType(
    {
        X_RAY_RADIATION_DOSE_SR: (_X_RAY,),
        RADIOPHARMACEUTICAL_RADIATION_DOSE_SR: (_RADIOPHARMACEUTICAL_REPORT,),
        **dict.fromkeys((ENHANCED_SR, COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR), (_X_RAY, _RADIOPHARMACEUTICAL_REPORT)),
    }
)
"""SOP class -> document titles."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A container of totals: the numbers and codes that are read of it, each with the names of the standard."""

    container: Coding
    numbers: tuple[Coding, ...]
    codes: tuple[Coding, ...] = ()


_RADIOPHARMACEUTICAL = Coding("349358000", SNOMED_CT, "Radiopharmaceuticals")
_RADIOISOTOPE = Coding("89457008", SNOMED_CT, "Radioisotope")
_ROUTE = Coding("410675002", SNOMED_CT, "Route of administration")
TOTALS = (
    Totals(
        dcm("113811"),
        (
            Coding("113813", DCM, "CT Dose Length Product Total"),
            Coding("113812", DCM, "Total Number of Irradiation Events"),
        ),
    ),
    Totals(
        dcm("113702"),
        (
            Coding("113722", DCM, "Dose Area Product Total"),
            Coding("113725", DCM, "Dose (RP) Total"),
            Coding("113726", DCM, "Fluoro Dose Area Product Total"),
            Coding("113727", DCM, "Acquisition Dose Area Product Total"),
            Coding("113730", DCM, "Total Fluoro Time"),
            Coding("113731", DCM, "Total Number of Radiographic Frames"),
            Coding("111637", DCM, "Accumulated Average Glandular Dose"),
        ),
    ),
    Totals(
        dcm("113502"),
        (
            Coding("113507", DCM, "Administered activity"),
            Coding("123005", DCM, "Radiopharmaceutical Volume"),
        ),
        (_RADIOPHARMACEUTICAL, _RADIOISOTOPE, _ROUTE),
    ),
)
"""PS3.16 TID 10012; TID 10002, 10004, 10005 and 10007; TID 10022. The names are those of the value set
component-radiation-dose-summary-vs, which has all but the number of events."""

_ACQUISITION_PLANE = dcm("113764")
_LATERALITY = Coding("272741003", SNOMED_CT)
_SCOPE = Coding("113705", DCM, "Scope of Accumulation")
_PROCEDURE_REPORTED = dcm("121058")
_PERSON_NAME, _ROLE_IN_PROCEDURE, _AUTHORIZING = dcm("113870"), dcm("113875"), "113850"
_START_OF_IRRADIATION, _START_OF_ADMINISTRATION = dcm("113809"), dcm("123003")
_EVENTS = (dcm("113706"), dcm("113819"))
_NO_UNIT = "1"
"""Of UCUM, for a number that counts."""

# The reports of a study ---------------------------------------------------------------------------------------------


def dose_reports_of(context: MappingContext) -> Iterator[DoseReport]:
    """The dose reports of a study that have totals and that no later report of the study replaces."""
    found = [
        (series, instance)
        for series in context.study.series
        for instance in series.instances
        if _title(instance.attrs, context)
    ]
    replaced = replaced_by_others(instance for _, instance in found)
    for series, instance in found:
        if instance.uid in replaced:
            context.note("info", "PredecessorDocumentsSequence", "names a dose report, which is no longer written")
        elif report := _report(series, instance, context):
            yield report
        else:
            context.note("info", "ContentSequence", "has no dose totals: no dose summary is written")


def _title(attrs: Attrs, context: MappingContext) -> Coding | None:
    """The title of a dose report; None if it is none."""
    root = ContentItem(attrs, context.schemes)
    return next(filter(root.is_named, TITLES.get(one(attrs.get("SOPClassUID")), ())), None)


def _report(series: Series, instance: Instance, context: MappingContext) -> DoseReport | None:
    root = ContentItem(instance.attrs, context.schemes)
    totals = tuple(
        value
        for total in TOTALS
        for container in root.named(total.container, "CONTAINER")
        for value in _values(instance.uid, total, container, context)
    )
    if not totals:
        return None
    scopes = (DoseValue(instance.uid, Concept((_SCOPE,)), code=code) for code in root.coded(_SCOPE))
    return DoseReport(instance.uid, {**series.attrs, **instance.attrs}, (*totals, *scopes))


def _values(uid: str, total: Totals, container: ContentItem, context: MappingContext) -> Iterator[DoseValue]:
    planes = list(container.coded(_ACQUISITION_PLANE))
    for name in total.numbers:
        for item in container.named(name, "NUM"):
            named = _of_its_part(name, [*planes, *item.coded(_LATERALITY)])
            if (value := _measured(DoseValue(uid, named), item)) is not None:
                yield value
            else:
                context.note("warning", "MeasuredValueSequence", f"{name.display} has no number with a unit; left out")
    holders = [container, *container.named(_RADIOPHARMACEUTICAL, "CODE")]
    for name in total.codes:
        yield from (DoseValue(uid, Concept((name,)), code=code) for item in holders for code in item.coded(name))


def _of_its_part(name: Coding, parts: list[Concept]) -> Concept:
    """The name of a value, with its plane or breast as the text."""
    return Concept((name,), ", ".join((name.display, *map(words_of, parts))) if parts else "")


def _measured(value: DoseValue, item: ContentItem) -> DoseValue | None:
    """The value with its number and unit, or with the reason why there is no number; None if neither is known."""
    if found := quantity(item):
        return replace(value, quantity=found)
    reason = absent_reason(item)
    return replace(value, absent=reason) if reason else None


# Elements -----------------------------------------------------------------------------------------------------------


def status(source: MappingSource) -> str:
    """``final`` unless the report says that it is partial or preliminary."""
    open_ended = source.text("CompletionFlag") == "PARTIAL" or source.text("PreliminaryFlag") == "PRELIMINARY"
    return "preliminary" if open_ended else "final"


def started(source: MappingSource) -> str | None:
    """The start as the report states it, else that of the first event or administration, else the report's moment."""
    root = ContentItem(source.attrs, source.context.schemes)
    stated = _times(source, root.named(_START_OF_IRRADIATION, "DATETIME"))
    containers = [container for name in _EVENTS for container in root.named(name, "CONTAINER")]
    administrations = [item for total in root.named(dcm("113502"), "CONTAINER") for item in total.items]
    events = [item for container in containers for item in container.items]
    events += [item for item in administrations if item.is_named(_START_OF_ADMINISTRATION)]
    return stated or _times(source, iter(events)) or authored(source)


def _times(source: MappingSource, items: Iterator[ContentItem]) -> str | None:
    return earliest(date_time_of_dt(text, source.zone) for item in items for text in item.texts("DateTime"))


def performers(source: MappingSource) -> list[Resource]:
    """The person that authorized the irradiation (PS3.16 TID 1020), else the performing physicians."""
    root = ContentItem(source.attrs, source.context.schemes)
    people = [item for item in root.named(_PERSON_NAME, "PNAME") if _authorized(item)]
    names = [name for item in people for name in item.texts("PersonName")][:1]
    if names:
        return list(related.practitioners(replace(source, attrs={"PersonName": names}), "PersonName", ""))
    found = related.practitioners(source, "PerformingPhysicianName", "PerformingPhysicianIdentificationSequence")
    return [person for person in (next(found, None),) if person]


def _authorized(person: ContentItem) -> bool:
    codes = (own for role in person.coded(_ROLE_IN_PROCEDURE) for own in role.codings)
    return any((own.code, own.system) == (_AUTHORIZING, DCM) for own in codes)


def device(source: MappingSource) -> Resource | None:
    """The device that observed, else the equipment that made the report."""
    return observing_device(source) or related.equipment(source)


def summary(source: MappingSource) -> str:
    """The totals as a text."""
    report = report_of(source)
    procedures = ContentItem(report.attrs, source.context.schemes).coded(_PROCEDURE_REPORTED)
    title = _title(report.attrs, source.context)
    procedure = next(procedures, Concept(text=title.display if title else ""))
    return f"{words_of(procedure)}: {'; '.join(map(_words, report.values))}"


def _words(value: DoseValue) -> str:
    if value.quantity:
        unit = "" if value.quantity.get("code") == _NO_UNIT else f" {value.quantity['unit']}"
        return f"{words_of(value.name)} {value.quantity['value']}{unit}"
    return f"{words_of(value.name)}: {words_of(value.code) if value.code else 'not known'}"


def report_of(source: MappingSource) -> DoseReport:
    """The report of a rule that is applied to one."""
    if not isinstance(source.node, DoseReport):
        raise TypeError(source.node)
    return source.node


def value_of(source: MappingSource) -> DoseValue:
    """The value of a rule that is applied to one."""
    if not isinstance(source.node, DoseValue):
        raise TypeError(source.node)
    return source.node
