"""What one FHIR version calls things and how it shapes them; a version is a value, never a branch in the mapping.

The rules (:mod:`dicom2fhir.fhir.rules`) speak of *concepts* such as ``reason``; the dialect says that R4 has
``reasonCode``, a list of CodeableConcept, and R5 ``reason``, a list of CodeableReference. What a dialect does not list
does not exist in that version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from dicom2fhir.fhir.values import SNOMED_CT, Coding, Concept
from dicom2fhir.model import Resource

Shape = Literal["as is", "Coding", "CodeableConcept", "CodeableReference", "Annotation"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a FHIR version: its name, the datatype that a meaning takes there, and whether it repeats."""

    name: str
    shape: Shape = "as is"
    many: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """A FHIR version.

    Attributes
    ----------
    elements
        Concept -> element, for ImagingStudy (``modality``, ``series.modality``, ``instance.uid``...) and, with the
        type before it, for the other resources (``Device.name``).
    lateralities
        (0020,0060) Laterality and its kin -> code.
    accession_is_identifier
        Whether the study's own identifiers include the accession number (R5 left it to ``basedOn``).
    """

    name: str
    fhir_version: str
    elements: Mapping[str, Element]
    lateralities: Mapping[str, Coding]
    accession_is_identifier: bool

    def put(self, target: Resource, concept: str, meaning: Any) -> Any:
        """Set the concept's element in ``target``; the JSON that was set, or None when this version has no such
        element."""
        element = self.elements.get(concept)
        if element is None:
            return None
        if element.many:
            meanings = meaning if isinstance(meaning, list) else [meaning]
            shaped: Any = [_SHAPES[element.shape](one) for one in meanings]
        else:
            shaped = _SHAPES[element.shape](meaning[0] if isinstance(meaning, list) else meaning)
        target[element.name] = shaped
        return shaped


def _coding(meaning: Concept) -> Resource:
    if not meaning.codings:
        return {"display": meaning.text}
    coding = meaning.codings[0]
    return {
        key: value
        for key, value in (
            ("system", coding.system),
            ("version", coding.version),
            ("code", coding.code),
            ("display", coding.display),
        )
        if value
    }


def codeable_concept(meaning: Concept) -> Resource:
    """A CodeableConcept, the same in every version."""
    result: Resource = {}
    if meaning.codings:
        result["coding"] = [_coding(Concept((coding,))) for coding in meaning.codings]
    if meaning.text:
        result["text"] = meaning.text
    return result


_SHAPES: Mapping[Shape, Callable[[Any], Any]] = MappingProxyType(
    {
        "as is": lambda meaning: meaning,
        "Coding": _coding,
        "CodeableConcept": codeable_concept,
        "CodeableReference": lambda meaning: {"concept": codeable_concept(meaning)},
        "Annotation": lambda meaning: {"text": meaning},
    }
)

_UNILATERAL = {
    "L": Coding("419161000", SNOMED_CT, "Unilateral left"),
    "R": Coding("419465000", SNOMED_CT, "Unilateral right"),
    "B": Coding("51440002", SNOMED_CT, "Bilateral"),
}
"""Value set bodysite-laterality, the example binding up to R4B."""

_CID_244 = {
    "L": Coding("7771000", SNOMED_CT, "Left"),
    "R": Coding("24028007", SNOMED_CT, "Right"),
    "B": Coding("51440002", SNOMED_CT, "Bilateral"),
    "U": Coding("66459002", SNOMED_CT, "Unilateral"),
}
"""PS3.16 CID 244, the example binding from R5 on."""

_R4 = Dialect(
    name="R4",
    fhir_version="4.0.1",
    elements={
        "identifier": Element("identifier", many=True),
        "status": Element("status"),
        "modality": Element("modality", "Coding", many=True),
        "subject": Element("subject"),
        "encounter": Element("encounter"),
        "started": Element("started"),
        "basedOn": Element("basedOn", many=True),
        "referrer": Element("referrer"),
        "interpreter": Element("interpreter", many=True),
        "endpoint": Element("endpoint", many=True),
        "numberOfSeries": Element("numberOfSeries"),
        "numberOfInstances": Element("numberOfInstances"),
        "procedure": Element("procedureCode", "CodeableConcept", many=True),
        "location": Element("location"),
        "reason": Element("reasonCode", "CodeableConcept", many=True),
        "note": Element("note", "Annotation", many=True),
        "description": Element("description"),
        "series": Element("series", many=True),
        "series.uid": Element("uid"),
        "series.number": Element("number"),
        "series.modality": Element("modality", "Coding"),
        "series.description": Element("description"),
        "series.numberOfInstances": Element("numberOfInstances"),
        "series.bodySite": Element("bodySite", "Coding"),
        "series.laterality": Element("laterality", "Coding"),
        "series.specimen": Element("specimen", many=True),
        "series.started": Element("started"),
        "series.performer": Element("performer", many=True),
        "series.instance": Element("instance", many=True),
        "instance.uid": Element("uid"),
        "instance.sopClass": Element("sopClass", "Coding"),
        "instance.number": Element("number"),
        "instance.title": Element("title"),
        "Device.name": Element("deviceName", many=True),
        "Device.version": Element("version", many=True),
        "Endpoint.connectionType": Element("connectionType", "Coding"),
        "Endpoint.payloadType": Element("payloadType", "CodeableConcept", many=True),
        "Endpoint.payloadMimeType": Element("payloadMimeType", many=True),
    },
    lateralities=_UNILATERAL,
    accession_is_identifier=True,
)

_R5_CHANGES: Mapping[str, Element | None] = {
    "modality": Element("modality", "CodeableConcept", many=True),
    "interpreter": None,
    "procedure": Element("procedure", "CodeableReference", many=True),
    "reason": Element("reason", "CodeableReference", many=True),
    "series.modality": Element("modality", "CodeableConcept"),
    "series.bodySite": Element("bodySite", "CodeableReference"),
    "series.laterality": Element("laterality", "CodeableConcept"),
    "Device.name": Element("name", many=True),
    "Endpoint.connectionType": Element("connectionType", "CodeableConcept", many=True),
    "Endpoint.payloadType": None,
    "Endpoint.payloadMimeType": None,
    "Endpoint.payload": Element("payload", many=True),
}


def _changed(elements: Mapping[str, Element], changes: Mapping[str, Element | None]) -> Mapping[str, Element]:
    return {concept: element for concept, element in {**elements, **changes}.items() if element is not None}


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        _R4,
        replace(_R4, name="R4B", fhir_version="4.3.0"),
        replace(
            _R4,
            name="R5",
            fhir_version="5.0.0",
            elements=_changed(_R4.elements, _R5_CHANGES),
            lateralities=_CID_244,
            accession_is_identifier=False,
        ),
    )
}
"""Every FHIR version that can be written, by name."""


def by_fhir_version(fhir_version: str) -> Dialect | None:
    """The dialect that a server speaks by its CapabilityStatement's ``fhirVersion``; None for one that is not known.

    Only major and minor number count: 4.0.0 and 4.0.1 are both R4.
    """
    release = fhir_version.split("-")[0].split(".")[:2]
    return next((d for d in DIALECTS.values() if d.fhir_version.split(".")[:2] == release), None)
