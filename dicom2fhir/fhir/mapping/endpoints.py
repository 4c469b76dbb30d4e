"""The Endpoints of a study: the archive's DICOMweb service, those that archives state (IAN), and the web viewer."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from urllib.parse import quote

from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.identification import accession_number
from dicom2fhir.fhir.mapping.imaging_study import UNAVAILABLE
from dicom2fhir.fhir.mapping.related import search_by
from dicom2fhir.fhir.mapping.rule import Rule, apply, text
from dicom2fhir.fhir.version.datatypes import (
    CONNECTION_TYPE,
    DCM,
    ENDPOINT_PAYLOAD_TYPE,
    URI,
    Coding,
    Concept,
    deterministic_id,
    identifier,
    oid,
    one,
)
from dicom2fhir.fhir.version.dialect import codeable_concept
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Resource, Series, Study


def _payload(type_: Concept, mime_type: str, said: str) -> tuple[Rule, ...]:
    """The rules for what an endpoint gives: in two elements, since R5 in one."""
    return (
        Rule("Endpoint.payloadType", (), lambda source: type_, said),
        Rule("Endpoint.payloadMimeType", (), lambda source: mime_type, mime_type),
        Rule(
            "Endpoint.payload",
            (),
            lambda source: {"type": [codeable_concept(type_)], "mimeType": [mime_type]},
            f"{said} as {mime_type}",
        ),
    )


ENDPOINT_RULES = (
    Rule(
        "Endpoint.identifier", ("RetrieveURL",), lambda source: identifier(source.text("RetrieveURL"), URI), "its URL"
    ),
    Rule("Endpoint.status", (), lambda source: "active", "active"),
    Rule(
        "Endpoint.connectionType",
        (),
        lambda source: Concept((Coding("dicom-wado-rs", CONNECTION_TYPE),)),
        "dicom-wado-rs",
    ),
    Rule("Endpoint.name", (), lambda source: source.context.options.endpoint_name, "`pacs.endpoint_name`"),
    *_payload(Concept((Coding("113014", DCM, "Study"),)), "application/dicom", "DCM 113014 Study"),
    Rule(
        "Endpoint.address",
        ("RetrieveURL",),
        text("RetrieveURL"),
        "`pacs.dicomweb_url`, or the Retrieve URL of a notification (IAN) up to `/studies`",
    ),
)


VIEWER_RULES = (
    Rule("Endpoint.status", (), lambda source: "active", "active"),
    Rule(
        "Endpoint.connectionType",
        (),
        lambda source: Concept(text="Web viewer"),
        "text: the code system has no code for a URL that a browser opens",
    ),
    *_payload(Concept((Coding("none", ENDPOINT_PAYLOAD_TYPE),)), "text/html", "none"),
    Rule(
        "Endpoint.address",
        ("StudyInstanceUID", "AccessionNumber"),
        lambda source: _viewer_url(source),
        "`pacs.viewer_url` with the values of the study",
    ),
)


def endpoints(source: MappingSource) -> list[Resource]:
    """References to those that are configured; none for a study that is rejected."""
    if source.context.study.rejected_for:
        return []
    return [*dicomweb(source), *_viewer(source)]


def dicomweb(source: MappingSource) -> list[Resource]:
    """A reference to the Endpoint of the archive's DICOMweb service, one for all studies, if one is configured."""
    url = source.context.options.dicomweb_url
    return [_dicomweb_endpoint(source, url)] if url else []


def _dicomweb_endpoint(source: MappingSource, url: str) -> Resource:
    resource: Resource = {"resourceType": "Endpoint", "id": deterministic_id("Endpoint", url)}
    apply(ENDPOINT_RULES, replace(source, attrs={"RetrieveURL": url}), resource)
    return source.context.add(Entry(resource, Write.UPSERT, search_by(identifier(url, URI))))


NUMBER_IN_TEMPLATE = "{accession}"


def _viewer(source: MappingSource) -> list[Resource]:
    """The Endpoint of the web viewer; it opens this study only, so it is contained in it."""
    resource: Resource = {"resourceType": "Endpoint"}
    if source.context.options.viewer_url:
        apply(VIEWER_RULES, source, resource)
    return [source.context.contain(resource)] if "address" in resource else []


def _viewer_url(source: MappingSource) -> str | None:
    """The URL that opens the study; None if it needs an accession number and the study has none."""
    url = viewer_url(source.context.options.viewer_url, source.context.study.uid, accession_number(source))
    if not url:
        source.context.note("info", "AccessionNumber", "is missing, and pacs.viewer_url needs it: no web viewer")
    return url or None


def viewer_url(template: str, study_uid: str, number: str) -> str:
    """The template with the values of a study; empty if it needs an accession number and there is none."""
    if NUMBER_IN_TEMPLATE in template and not number:
        return ""
    url = template.replace("{study_uid}", quote(study_uid, safe=""))
    return url.replace(NUMBER_IN_TEMPLATE, quote(number, safe=""))


class Place(NamedTuple):
    """Where an archive states that an instance can be retrieved; empty if it is not stated."""

    url: str
    location_uid: str
    ae_title: str


def _endpoint_at(source: MappingSource, place: Place) -> Resource | None:
    """A reference to an endpoint: to that of the DICOMweb service; else by Retrieve Location UID or AE title.

    Only DICOMweb has an address in FHIR, so no Endpoint is written for the other two.
    """
    display = {"display": place.ae_title} if place.ae_title else {}
    if place.url:
        return {**_dicomweb_endpoint(source, place.url), **display}
    if place.location_uid:
        return {"type": "Endpoint", "identifier": identifier(oid(place.location_uid), URI), **display}
    return {"type": "Endpoint", "identifier": {"value": place.ae_title}, **display} if place.ae_title else None


def _places(series: Series) -> list[Place]:
    """Where archives state that instances of a series can be retrieved, in a fixed order."""
    found = {
        Place(one(each.attrs.get("RetrieveURL")), one(each.attrs.get("RetrieveLocationUID")), each.retrieve_ae)
        for instance in series.instances
        for each in instance.stated
        if one(each.attrs.get("InstanceAvailability")) != UNAVAILABLE
    }
    return sorted(found)


def series_endpoints(source: MappingSource) -> list[Resource]:
    """The endpoints from which archives state that the series can be retrieved."""
    places = _places(source.node) if isinstance(source.node, Series) else []
    return [found for place in places if (found := _endpoint_at(source, place))]


def url(source: MappingSource) -> str | None:
    """The WADO-RS URL of a study or series (PS3.18 section 10.4): of the configured archive, else of the stated one."""
    base = "" if source.context.study.rejected_for else source.context.options.dicomweb_url
    if not base and isinstance(source.node, Series):
        base = next((place.url for place in _places(source.node) if place.url), "")
    if not base:
        return None
    place = f"{base}/studies/{source.context.study.uid}"
    return place if isinstance(source.node, Study) else f"{place}/series/{source.node.uid}"
