"""Apply the mapping rules to a study to make its FHIR resources."""

from __future__ import annotations

from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.losses import note_losses
from dicom2fhir.fhir.mapping.options import MappingOptions
from dicom2fhir.fhir.mapping.rule import Trace, apply
from dicom2fhir.fhir.mapping.rules import RULES
from dicom2fhir.fhir.mapping.secondary import secondary_resources
from dicom2fhir.fhir.mapping.study_reference import found_by, imaging_study_id
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource, Study

__all__ = ["MAPPING_REVISION", "MappingOptions", "imaging_study_id", "map_study", "trace_study"]

MAPPING_REVISION = 6
"""Revision of the mapping code, profiles included. Raise it with a change after which the same study and options may
give other resources: ``status`` then shows which deliveries were made before. Options and the content of profiles are
included automatically (:func:`dicom2fhir.wiring.options.mapping_fingerprint`)."""


def map_study(study: Study, dialect: Dialect, options: MappingOptions) -> Mapped:
    """Map a study to the resources of one FHIR version.

    The ImagingStudy is first, then the resources that it references and that are not contained in it; the other
    resources of the study are apart. The same study always gives byte-identical resources.
    """
    return _map(study, dialect, options, None)


def trace_study(study: Study, dialect: Dialect, options: MappingOptions) -> tuple[Mapped, list[Trace]]:
    """:func:`map_study` with a trace of each element (of the first series and its first instance)."""
    traces: list[Trace] = []
    return _map(study, dialect, options, traces), traces


def _map(study: Study, dialect: Dialect, options: MappingOptions, traces: list[Trace] | None) -> Mapped:
    context = MappingContext(study, dialect, options)
    entries = _imaging_study(context, traces)
    secondary = tuple(secondary_resources(context, traces))
    rejected = study.rejection.instances if study.rejection else ()
    return Mapped(entries, tuple(context.notes), secondary=secondary, rejected=rejected)


def _imaging_study(context: MappingContext, traces: list[Trace] | None) -> tuple[Entry, ...]:
    """The ImagingStudy and the resources that it refers to."""
    study, dialect, options = context.study, context.dialect, context.options
    head: Resource = {"resourceType": "ImagingStudy", "id": imaging_study_id(study.uid)}
    body: Resource = {}
    apply(RULES["ImagingStudy"], MappingSource(context, study, study.attrs), body, traces)
    total = sum(len(series.instances) for series in study.series)
    with_instances = options.max_instances is None or total <= options.max_instances
    if not with_instances:
        context.note("info", "ImagingStudy.series.instance", "left out: more instances than fhir.max_instances")
    series_rules, instance_rules = RULES["ImagingStudy.series"], RULES["ImagingStudy.series.instance"]
    series_list = []
    for series in study.series:
        mapped: Resource = {}
        apply(series_rules, MappingSource(context, series, series.attrs), mapped, traces)
        if with_instances:
            instances = []
            for instance in series.instances:
                target: Resource = {}
                apply(instance_rules, MappingSource(context, instance, instance.attrs, series.uid), target, traces)
                instances.append(target)
                traces = None
            dialect.put(mapped, "series.instance", instances)
        traces = None
        series_list.append(mapped)
    if series_list:
        dialect.put(body, "series", series_list)
    note_losses(context)
    if context.contained:
        head["contained"] = list(context.contained.values())
    return (Entry(head | body, Write.OWN, found_by(study.uid, dialect)), *context.entries.values())
