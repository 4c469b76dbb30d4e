"""The resources of a study beside its ImagingStudy, each with a lifetime of its own: those for its key objects,
encapsulated documents, radiation dose reports, measurement reports and procedure steps.

They are not needed for the ImagingStudy: what a version or a server cannot hold is left out, and noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping import dose_report_rules, measurement_rules, procedures
from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource, Node
from dicom2fhir.fhir.mapping.document_rules import RULES as DOCUMENT_RULES
from dicom2fhir.fhir.mapping.documents import documents_of, is_report, master_identifier
from dicom2fhir.fhir.mapping.dose_reports import dose_reports_of
from dicom2fhir.fhir.mapping.key_object_rules import RULES, selection_id
from dicom2fhir.fhir.mapping.key_objects import key_objects_of, title
from dicom2fhir.fhir.mapping.measured import writes_images
from dicom2fhir.fhir.mapping.measurement_reports import (
    MeasurementReport,
    image_id,
    measurement_reports_of,
    observation_id,
)
from dicom2fhir.fhir.mapping.related import search_by
from dicom2fhir.fhir.mapping.rule import Trace, apply
from dicom2fhir.fhir.mapping.selection import KeyObjects
from dicom2fhir.fhir.version.cross_version import as_basic
from dicom2fhir.fhir.version.datatypes import deterministic_id, oid
from dicom2fhir.mapped_resources import Entry, SecondaryResource, Write
from dicom2fhir.model import Resource

Traces = list[Trace] | None
_OF_PARTS = {**RULES, **measurement_rules.RULES}


def secondary_resources(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """The resources of a study, as far as the version has them and the options ask for them."""
    yield from _for_key_objects(context, traces)
    yield from _for_documents(context, traces)
    yield from _diagnostic_reports(context, traces)
    yield from _for_dose_reports(context, traces)
    yield from _for_measurements(context, traces)
    yield from _procedures(context, traces)


def _for_key_objects(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    dialect, choice = context.dialect, context.options.key_objects
    make = _MAKERS.get(dialect.key_objects)
    if make is None or choice == "never" or (choice == "auto" and dialect.key_objects == "Basic"):
        return
    for document in key_objects_of(context):
        try:
            yield from make(document, context, traces)
        except NotExpressible as error:
            context.note("warning", dialect.key_objects, f"is not written: {error}")
        traces = None


def _for_documents(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """A DocumentReference for each encapsulated document."""
    if "DocumentReference.status" not in context.dialect.elements or context.options.documents == "never":
        return
    for source in documents_of(context):
        try:
            yield _document_reference(source, traces)
        except NotExpressible as error:
            context.note("warning", "DocumentReference", f"is not written: {error}")
        traces = None


def _document_reference(source: MappingSource, traces: Traces) -> SecondaryResource:
    type_, inner = "DocumentReference", source.context
    body: Resource = {}
    apply(DOCUMENT_RULES[type_], source, body, traces)
    surroundings: Resource = {}
    apply(DOCUMENT_RULES[f"{type_}.context"], source, surroundings, traces)
    if surroundings:
        inner.dialect.put(body, f"{type_}.context", surroundings)
    resource = _whole(type_, deterministic_id(type_, source.node.uid), body, inner)
    return _secondary(resource, search_by(master_identifier(source)), inner)


def _diagnostic_reports(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """A DiagnosticReport for each document that is one."""
    type_ = "DiagnosticReport"
    if f"{type_}.status" not in context.dialect.elements or context.options.diagnostic_reports == "never":
        return
    for source in filter(is_report, documents_of(context)):
        body: Resource = {}
        apply(DOCUMENT_RULES[type_], source, body, traces)
        resource = _whole(type_, deterministic_id(type_, source.node.uid), body, source.context)
        yield _secondary(resource, search_by(master_identifier(source)), source.context)
        traces = None


def _imaging_selections(document: KeyObjects, context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """An ImagingSelection for each series: it holds instances of one series only."""
    for series in (series for study in document.studies for series in study.series):
        inner = context.for_other_resource()
        body: Resource = {}
        apply(RULES["ImagingSelection"], MappingSource(inner, series, document.attrs), body, traces)
        instances = _each("ImagingSelection.instance", inner, series.instances, traces)
        inner.dialect.put(body, "ImagingSelection.instance", instances)
        resource = _whole("ImagingSelection", selection_id(document.uid, series), body, inner)
        if inner.dialect.key_objects == "Basic":
            resource = as_basic(resource)
        yield _secondary(resource, search_by(body["identifier"][1]), inner)
        traces = None


def _imaging_manifest(document: KeyObjects, context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    inner = context.for_other_resource()
    body = _document("ImagingManifest", document, inner, traces)
    if any(one.frames for study in document.studies for series in study.series for one in series.instances):
        inner.lacks("ImagingManifest.study.series.instance", "element for the selected frames")
    resource = _whole("ImagingManifest", deterministic_id("ImagingManifest", document.uid), body, inner)
    yield _secondary(resource, search_by(body["identifier"]), inner)


def _object_selection(document: KeyObjects, context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    inner = context.for_other_resource()
    codes = {code.code for code in title(MappingSource(inner, document, document.attrs)).codings}
    if not codes & inner.dialect.selection_titles:
        context.lacks("ImagingObjectSelection.title", "code for the title of the key objects: they are not written")
        return
    if not context.options.dicomweb_url:
        context.note("info", "ImagingObjectSelection", "is not written: it requires pacs.dicomweb_url")
        return
    body = _document("ImagingObjectSelection", document, inner, traces)
    resource = _whole("ImagingObjectSelection", deterministic_id("ImagingObjectSelection", document.uid), body, inner)
    search = f"identifier={quote(oid(document.uid), safe='')}"
    yield _secondary(resource, search, inner)


def _for_dose_reports(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """An Observation for each dose report."""
    if context.options.dose_reports == "never" or "Observation.code" not in context.dialect.elements:
        return
    rules = dose_report_rules.RULES
    for report in dose_reports_of(context):
        inner = context.for_other_resource()
        body: Resource = {}
        apply(rules["Observation"], MappingSource(inner, report, report.attrs), body, traces)
        components: list[Resource] = []
        for value in report.values:
            components.append({})
            apply(rules["Observation.component"], MappingSource(inner, value, {}), components[-1], traces)
            traces = None
        inner.dialect.put(body, "Observation.component", components)
        resource = _whole("Observation", deterministic_id("Observation", report.uid), body, inner)
        yield _secondary(resource, search_by(body["identifier"][0]), inner)


def _for_measurements(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """An Observation for each measurement, evaluation and group, after an ImagingSelection for each of their images."""
    dialect = context.dialect
    if context.options.measurements == "never" or "Observation.hasMember" not in dialect.elements:
        return
    for report in measurement_reports_of(context):
        if writes_images(dialect.elements):
            yield from _measured_images(report, context, traces)
        elif report.images:
            context.lacks("Observation.derivedFrom", "resource for what was measured: image regions are not written")
        for observation in report.observations:
            inner = context.for_other_resource()
            body: Resource = {}
            source = MappingSource(inner, observation, observation.attrs)
            apply(measurement_rules.MEASURED_RULES, source, body, traces)
            resource = _whole("Observation", observation_id(observation), body, inner)
            yield _secondary(resource, search_by(body["identifier"][-1]), inner)
            traces = None


def _measured_images(report: MeasurementReport, context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    for images in report.images:
        inner = context.for_other_resource()
        body: Resource = {}
        apply(measurement_rules.IMAGES_RULES, MappingSource(inner, images, report.attrs), body, traces)
        if images.regions and "ImagingSelection.region" not in inner.dialect.elements:
            inner.lacks("ImagingSelection.instance", "element for a region in space without an image")
        path = "ImagingSelection of a measurement report.instance"
        instances = _each(path, inner, images.instances, traces)
        inner.dialect.put(body, "ImagingSelection.instance", instances)
        resource = _whole("ImagingSelection", image_id(images), body, inner)
        yield _secondary(resource, search_by(body["identifier"][-1]), inner)
        traces = None


def _procedures(context: MappingContext, traces: Traces) -> Iterator[SecondaryResource]:
    """A Procedure for each procedure step."""
    type_ = "Procedure"
    for source in procedures.sources(context):
        body: Resource = {}
        apply(procedures.RULES[type_], source, body, traces)
        resource = _whole(type_, deterministic_id(type_, source.node.uid), body, source.context)
        yield _secondary(resource, search_by(body["identifier"][0]), source.context)
        traces = None


_MAKERS: Mapping[str, Callable[[KeyObjects, MappingContext, Traces], Iterator[SecondaryResource]]] = MappingProxyType(
    {
        "ImagingSelection": _imaging_selections,
        "Basic": _imaging_selections,
        "ImagingManifest": _imaging_manifest,
        "ImagingObjectSelection": _object_selection,
    }
)
"""By :attr:`dicom2fhir.fhir.version.dialect.Dialect.key_objects`."""


def _document(type_: str, document: KeyObjects, context: MappingContext, traces: Traces) -> Resource:
    """A resource that holds everything that a document selects, by study and series."""
    body: Resource = {}
    apply(RULES[type_], MappingSource(context, document, document.attrs), body, traces)
    studies = []
    for study in document.studies:
        of_study = _applied(f"{type_}.study", context, study, traces)
        of_series = []
        for series in study.series:
            of_series.append(_applied(f"{type_}.study.series", context, series, traces))
            instances = _each(f"{type_}.study.series.instance", context, series.instances, traces)
            context.dialect.put(of_series[-1], f"{type_}.study.series.instance", instances)
            traces = None
        context.dialect.put(of_study, f"{type_}.study.series", of_series)
        studies.append(of_study)
    context.dialect.put(body, f"{type_}.study", studies)
    return body


def _each(path: str, context: MappingContext, nodes: Sequence[Node], traces: Traces) -> list[Resource]:
    """The result for each node, with a trace of the first."""
    first = (_applied(path, context, node, traces) for node in nodes[:1])
    return [*first, *(_applied(path, context, node, None) for node in nodes[1:])]


def _applied(path: str, context: MappingContext, node: Node, traces: Traces) -> Resource:
    target: Resource = {}
    apply(_OF_PARTS[path], MappingSource(context, node, {}), target, traces)
    return target


def _whole(type_: str, resource_id: str, body: Resource, context: MappingContext) -> Resource:
    head: Resource = {"resourceType": type_, "id": resource_id}
    if context.contained:
        head["contained"] = list(context.contained.values())
    return head | body


def _secondary(resource: Resource, search: str, context: MappingContext) -> SecondaryResource:
    """The resource, with those that only it refers to."""
    return SecondaryResource((Entry(resource, Write.OWN, search), *context.entries.values()))
