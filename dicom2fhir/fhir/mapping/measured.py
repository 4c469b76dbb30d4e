"""What each element of the Observation for a measurement, an evaluation or a group of them is.

What an item does not state is that of the items that it is in: the moment, the site, the method, the algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from dicom2fhir.fhir.mapping import related, sr_documents, subject
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.document_nodes import Measured, Site
from dicom2fhir.fhir.mapping.study_reference import study_reference
from dicom2fhir.fhir.version.datatypes import (
    DCM,
    DICOM_UID,
    Coding,
    Concept,
    date_time_of_dt,
    identifier,
    oid,
    one,
)
from dicom2fhir.fhir.version.dialect import codeable_concept, words_of
from dicom2fhir.model import Resource

_IDENTIFIER_TYPES = "http://hl7.org/fhir/uv/dicom-sr/CodeSystem/dicom-identifier-type"
_TRACKING_IDENTIFIER = Coding("112039", DCM, "Tracking Identifier")
_TRACKING_UID = Coding("112040", DCM, "Tracking Unique Identifier")
_STUDY_UID = Coding("110180", DCM, "Study Instance UID")
_IMAGING = Concept((Coding("imaging", "http://terminology.hl7.org/CodeSystem/observation-category", "Imaging"),))
_INTERPRETATIONS: Mapping[str, Coding] = MappingProxyType(
    {
        code: Coding(own, "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", display)
        for code, own, display in (
            ("17621005", "N", "Normal"),
            ("263654008", "A", "Abnormal"),
            ("371879000", "H", "High"),
            ("371880002", "L", "Low"),
            ("371934000", "IND", "Indeterminate"),
        )
    }
)
"""Normality (PS3.16 CID 222) -> code of the value set of the element."""


def measured_of(source: MappingSource) -> Measured:
    """The observation of a rule that is applied to one."""
    if not isinstance(source.node, Measured):
        raise TypeError(source.node)
    return source.node


def identifiers(source: MappingSource, own_id: str) -> list[Resource]:
    """That of the document, its own and that of the lesion, as far as stated, and one by which only it is found."""
    node = measured_of(source)
    found = [_typed(Coding("sop-instance-uid", _IDENTIFIER_TYPES, "SOP Instance UID"), oid(node.uid), DICOM_UID)]
    own = node.stated[0]
    if own.uid:
        found.append(_typed(Coding("observation-uid", _IDENTIFIER_TYPES, "Observation UID"), oid(own.uid), DICOM_UID))
    if own.tracking_uid:
        found.append(_typed(_TRACKING_UID, oid(own.tracking_uid), DICOM_UID))
    if own.tracking_text:
        found.append(_typed(_TRACKING_IDENTIFIER, own.tracking_text, ""))
    return [*found, related.identifier_of(own_id)]


def _typed(type_: Coding, value: str, system: str) -> Resource:
    return {"type": codeable_concept(Concept((type_,))), **identifier(value, system)}


def study(source: MappingSource) -> list[Resource]:
    """The ImagingStudy, also by its identifier."""
    uid = source.context.study.uid
    found = study_reference(source.context, uid)
    return [{**found, "identifier": _typed(_STUDY_UID, oid(uid), DICOM_UID)}] if found else []


def status(source: MappingSource) -> str:
    """``final`` if the report says so, or is verified."""
    flag, is_partial = source.text("PreliminaryFlag"), source.text("CompletionFlag") == "PARTIAL"
    is_final = flag == "FINAL" or (not flag and source.text("VerificationFlag") == "VERIFIED")
    return "final" if is_final and not is_partial else "preliminary"


def category(source: MappingSource) -> Concept | None:
    """The kind of observation, unless the code says the same."""
    node = measured_of(source)
    return node.category if node.category != node.name else None


def imaging(source: MappingSource) -> Concept:
    """The category of R4."""
    return _IMAGING


def moment(source: MappingSource) -> str | None:
    """The moment of the observation, else that of the content."""
    found = (date_time_of_dt(stated.moment, source.zone) for stated in measured_of(source).stated)
    return next(filter(None, found), None) or sr_documents.authored(source)


def issued(source: MappingSource) -> str | None:
    """The same, if its time and time zone are known."""
    found = moment(source)
    return found if found and "T" in found else None


def performers(source: MappingSource) -> list[Resource]:
    """The persons that observed, else those that verified the report."""
    names = [*next((stated.observers for stated in measured_of(source).stated if stated.observers), ())]
    names = names or [one(item.get("VerifyingObserverName")) for item in source.items("VerifyingObserverSequence")]
    return list(related.practitioners(replace(source, attrs={"PersonName": names}), "PersonName", ""))


def interpretations(source: MappingSource) -> list[Concept]:
    """Whether the value is normal, in the codes of the value set and as stated."""
    return [_interpretation(code) for code in measured_of(source).stated[0].normality]


def _interpretation(stated: Concept) -> Concept:
    own = [_INTERPRETATIONS[code.code] for code in stated.codings if code.code in _INTERPRETATIONS]
    return Concept((*own, *stated.codings), stated.text)


def method(source: MappingSource) -> Concept | None:
    """The method of the measurement."""
    return next((stated.method for stated in measured_of(source).stated if stated.method), None)


def device(source: MappingSource) -> Resource | None:
    """The algorithm, else the observing device, else the equipment that made the report."""
    stated = measured_of(source).stated
    found = (*(one.algorithm for one in stated), *(one.device for one in stated), source.attrs)
    devices = (related.equipment(replace(source, attrs=attrs)) for attrs in found if attrs)
    return next(filter(None, devices), None)


# The site -------------------------------------------------------------------------------------------------------------


def body_site(source: MappingSource) -> Concept | None:
    """The site; with laterality and other modifiers in its text, if the version has no element for them."""
    site = _site(source)
    if site is None:
        return None
    if not (parts := (*site.lateralities, *site.modifiers)):
        return site.structure
    if _patient(source):
        return None  # bodyStructure has them; bodySite may not be there as well (obs-8)
    return replace(site.structure, text=", ".join(map(words_of, (site.structure, *parts))))


def body_structure(source: MappingSource) -> Resource | None:
    """A contained BodyStructure for a site with laterality or another modifier."""
    site, patient = _site(source), _patient(source)
    if site is None or patient is None or not (site.lateralities or site.modifiers):
        return None
    structure: Resource = {"structure": codeable_concept(site.structure)}
    if site.lateralities:
        structure["laterality"] = codeable_concept(site.lateralities[0])
    if site.modifiers:
        structure["qualifier"] = [codeable_concept(code) for code in site.modifiers]
    resource = {"resourceType": "BodyStructure", "includedStructure": [structure], "patient": patient}
    return source.context.contain(resource)


def _patient(source: MappingSource) -> Resource | None:
    """The Patient, if the version has an element for a BodyStructure, which must have one."""
    if "Observation.bodyStructure" not in source.context.dialect.elements:
        return None
    found = subject.subject(source)
    return source.context.dialect.reference(found) if found.get("type") == "Patient" else None


def _site(source: MappingSource) -> Site | None:
    return next((stated.site for stated in measured_of(source).stated if stated.site), None)


# What it refers to ----------------------------------------------------------------------------------------------------


def members(source: MappingSource) -> list[Resource]:
    """The Observations in a group."""
    return [_secondary("Observation", own) for own in measured_of(source).members]


def derived_from(source: MappingSource) -> list[Resource]:
    """The ImagingSelections of what was measured; if the version has none, or there are none, the ImagingStudy."""
    images = measured_of(source).images
    if not images or not writes_images(source.context.dialect.elements):
        return study(source)
    return [_secondary("ImagingSelection", own) for own in images]


def writes_images(elements: Mapping[str, object]) -> bool:
    """Whether a version has ImagingSelections with regions."""
    return "ImagingSelection.instance.region" in elements


def _secondary(type_: str, resource_id: str) -> Resource:
    """A reference to another resource of the study, also by its identifier: the server may refuse that one."""
    return {"reference": f"urn:uuid:{resource_id}", "type": type_, "identifier": related.identifier_of(resource_id)}
