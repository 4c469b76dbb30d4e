"""Every supported FHIR version as a value: the names and datatypes of its elements.

The rules (:mod:`dicom2fhir.fhir.mapping.rules`) use *concepts* such as ``reason``; the dialect defines that R4 has
``reasonCode``, a list of CodeableConcept, and R5 ``reason``, a list of CodeableReference. A version has no other
elements than those that its dialect lists. Each version is defined by its differences from the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from dicom2fhir.fhir.version.datatypes import (
    CONNECTION_TYPE,
    DCM,
    ENDPOINT_PAYLOAD_TYPE,
    SNOMED_CT,
    V2_0203,
    V3_PARTICIPATION,
    Coding,
)
from dicom2fhir.fhir.version.dialect import Dialect, Element, codeable_concept
from dicom2fhir.fhir.version.secondary_elements import (
    DIAGNOSTIC_REPORT,
    DOCUMENT_REFERENCE,
    IMAGING_MANIFEST,
    IMAGING_OBJECT_SELECTION,
    IMAGING_SELECTION,
    MEASURED_IMAGES,
    OBSERVATION,
    PROCEDURE,
)

__all__ = ["DIALECTS", "Dialect", "Element", "by_fhir_version", "codeable_concept"]

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
}
"""PS3.16 CID 244, the example binding from R5 on. No laterality of DICOM is its "Unilateral"; see
:mod:`dicom2fhir.fhir.mapping.imaging_study`."""

_OID_OF_R4 = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_OID_OF_STU3 = re.compile(r"urn:oid:(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")

_STU3_EXTENSION = "http://hl7.org/fhir/3.0/StructureDefinition/extension-ImagingStudy"
"""Prefix of extensions for elements of STU3 in later versions (https://hl7.org/fhir/R4/versions.html#extensions)."""

_STATUS_REASON = "http://hl7.org/fhir/StructureDefinition/workflow-statusReason"
"""Of the extensions pack for R5; R4 has no extension for it that an ImagingStudy may have."""

_KOS_TITLES = frozenset(
    f"{code}" for code in (*range(113000, 113011), 113013, 113018, 113020, 113021, *range(113030, 113040))
)
"""Value set kos-title of DSTU2 and 1.4.0."""

_Changes = Mapping[str, Element | None]


def _changed(elements: Mapping[str, Element], changes: _Changes) -> Mapping[str, Element]:
    return {concept: element for concept, element in {**elements, **changes}.items() if element is not None}


def _without(type_: str, elements: Mapping[str, Element]) -> _Changes:
    """Leave out all elements of a resource type that is not written in these versions."""
    return {concept: None for concept in elements if concept.startswith(f"{type_}.")}


_R4 = Dialect(
    name="R4",
    fhir_version="4.0.1",
    elements={
        "identifier": Element("identifier", many=True),
        "status": Element("status"),
        "statedAvailability": Element("extension", "code extension", many=True, url=f"{_STU3_EXTENSION}.availability"),
        "modality": Element("modality", "Coding", many=True),
        "subject": Element("subject", "Reference", types=frozenset({"Patient", "Device"})),
        "encounter": Element("encounter", "Reference"),
        "started": Element("started"),
        "basedOn": Element("basedOn", "Reference", many=True),
        "performedProcedure": Element("procedureReference", "Reference"),
        "referrer": Element("referrer", "Reference"),
        "interpreter": Element("interpreter", "Reference", many=True),
        "endpoint": Element("endpoint", "Reference", many=True),
        "numberOfSeries": Element("numberOfSeries"),
        "numberOfInstances": Element("numberOfInstances"),
        "procedure": Element("procedureCode", "CodeableConcept", many=True),
        "location": Element("location", "Reference"),
        "reason": Element("reasonCode", "CodeableConcept", many=True),
        "note": Element("note", "Annotation", many=True),
        "description": Element("description"),
        "series": Element("series", many=True),
        "series.uid": Element("uid"),
        "series.number": Element("number"),
        "series.modality": Element("modality", "Coding"),
        "series.description": Element("description"),
        "series.numberOfInstances": Element("numberOfInstances"),
        "series.endpoint": Element("endpoint", "Reference", many=True),
        "series.statedAvailability": Element(
            "extension", "code extension", many=True, url=f"{_STU3_EXTENSION}.series.availability"
        ),
        "series.bodySite": Element("bodySite", "Coding"),
        "series.laterality": Element("laterality", "Coding"),
        "series.specimen": Element("specimen", "Reference", many=True),
        "series.started": Element("started"),
        "series.performer": Element("performer", "performer", many=True),
        "series.instance": Element("instance", many=True),
        "instance.uid": Element("uid"),
        "instance.sopClass": Element("sopClass", "Coding of oid"),
        "instance.number": Element("number"),
        "instance.title": Element("title"),
        "Patient.identifier": Element("identifier", many=True),
        "Patient.name": Element("name", "HumanName", many=True),
        "Patient.gender": Element("gender"),
        "Patient.birthDate": Element("birthDate"),
        "Patient.extension": Element("extension", many=True),
        "Practitioner.name": Element("name", many=True),
        "Device.identifier": Element("identifier", many=True),
        "Device.type": Element("type", "CodeableConcept"),
        "Device.manufacturer": Element("manufacturer"),
        "Device.name": Element("deviceName", many=True),
        "Device.name.value": Element("name"),
        "Device.name.type": Element("type", "code"),
        "Device.model": Element("modelNumber"),
        "Device.serialNumber": Element("serialNumber"),
        "Device.version": Element("version", many=True),
        "Endpoint.identifier": Element("identifier", many=True),
        "Endpoint.status": Element("status"),
        "Endpoint.connectionType": Element("connectionType", "Coding"),
        "Endpoint.name": Element("name"),
        "Endpoint.address": Element("address"),
        "Endpoint.payloadType": Element("payloadType", "CodeableConcept", many=True),
        "Endpoint.payloadMimeType": Element("payloadMimeType", many=True),
        # written as extensions of a Basic; CodeableReference is not a datatype of R4
        **_changed(IMAGING_SELECTION, {"ImagingSelection.bodySite": None}),
        **DOCUMENT_REFERENCE,
        **DIAGNOSTIC_REPORT,
        **OBSERVATION,
        **PROCEDURE,
    },
    lateralities=_UNILATERAL,
    identifiers=("uid", "accession", "study id"),
    oid=_OID_OF_R4,
    acquisition_only=True,
    rejected={
        "113001": "cancelled",
        "113037": "entered-in-error",
        "113038": "entered-in-error",
        "113039": "registered",
    },
    key_objects="Basic",
)

_R4B = replace(_R4, name="R4B", fhir_version="4.3.0")

_R5 = replace(
    _R4,
    name="R5",
    fhir_version="5.0.0",
    elements=_changed(
        _R4.elements,
        {
            "statusReason": Element("extension", "concept extension", many=True, url=_STATUS_REASON),
            "modality": Element("modality", "CodeableConcept", many=True),
            "performedProcedure": Element("partOf", "Reference", many=True),
            "interpreter": None,
            "procedure": Element("procedure", "CodeableReference", many=True),
            "reason": Element("reason", "CodeableReference", many=True),
            "series.modality": Element("modality", "CodeableConcept"),
            "series.bodySite": Element("bodySite", "CodeableReference"),
            "series.laterality": Element("laterality", "CodeableConcept"),
            "Device.type": Element("type", "CodeableConcept", many=True),
            "Device.name": Element("name", many=True),
            "Device.name.value": Element("value"),
            "Endpoint.connectionType": Element("connectionType", "CodeableConcept", many=True),
            "Endpoint.payloadType": None,
            "Endpoint.payloadMimeType": None,
            "Endpoint.payload": Element("payload", many=True),
            **IMAGING_SELECTION,
            **MEASURED_IMAGES,
            "Observation.imaging": None,
            "Observation.category": Element("category", "CodeableConcept", many=True),
            "Observation.bodyStructure": Element("bodyStructure", "Reference"),
            "DocumentReference.masterIdentifier": None,
            "DocumentReference.context": None,
            "DocumentReference.context.encounter": None,
            "DocumentReference.context.related": None,
            "DiagnosticReport.study": Element("study", "Reference", many=True),
            "DocumentReference.relatesTo.code": Element("code", "CodeableConcept"),
            "DocumentReference.encounter": Element("context", "Reference", many=True),
            "DocumentReference.event": Element("event", "CodeableReference by reference", many=True),
            "Observation.profile": None,
            "Procedure.subject": Element("subject", "Reference"),
            "Procedure.performed": Element("occurrencePeriod"),
            "Procedure.reason": Element("reason", "CodeableReference", many=True),
            "Procedure.study": Element("supportingInfo", "Reference", many=True),
        },
    ),
    lateralities=_CID_244,
    identifiers=("uid", "accession if asked for", "study id"),
    acquisition_only=False,
    key_objects="ImagingSelection",
    has_sizes=False,
)

_R6 = replace(
    _R5,
    name="R6",
    fhir_version="6.0.0-ballot3",
    elements=_changed(
        _R5.elements,
        {
            "instance.sopClass": Element("sopClass", "oid"),
            "Device.name.type": Element("type", "CodeableConcept"),
            "Device.version": Element("deviceVersion", many=True),
            "ImagingSelection.derivedFrom": Element("derivedFrom", "Reference"),
            "ImagingSelection.region": Element("imageRegion3D", many=True),
            "ImagingSelection.region.kind": Element("regionType"),
            "ImagingSelection.region.coordinate": Element("coordinate", many=True),
            "ImagingSelection.bodySite": Element("bodySite", "CodeableReference", many=True),
            "ImagingSelection.instance.sopClass": Element("sopClass", "oid"),
        },
    ),
    unavailable="inactive",
    rejected={**_R5.rejected, "113001": "inactive", "113039": "inactive"},
)
"""The third ballot only: later ones differ, for example in series.instance.numberOfFrames (FHIR-55483)."""

_3_2_0 = replace(
    _R4,
    name="3.2.0",
    fhir_version="3.2.0",
    elements=_changed(
        _R4.elements,
        {
            "uid": Element("uid", "oid"),
            "accession": Element("accession"),
            "availability": Element("availability"),
            "statedAvailability": None,
            "series.statedAvailability": None,
            "status": None,
            "modality": Element("modalityList", "Coding", many=True),
            "encounter": Element("context", "Reference"),
            "performedProcedure": None,
            "reason": Element("reason", "CodeableConcept"),
            "location": None,
            "note": None,
            "series.uid": Element("uid", "oid"),
            "series.availability": Element("availability"),
            "series.performer": Element(
                "performer", "actor", many=True, types=frozenset({"Practitioner", "Organization"})
            ),
            "instance.uid": Element("uid", "oid"),
            "instance.sopClass": Element("sopClass", "oid"),
            **_without("Device", _R4.elements),
            **_without("ImagingSelection", _R4.elements),
            **_without("DocumentReference", _R4.elements),
            **_without("DiagnosticReport", _R4.elements),
            **_without("Observation", _R4.elements),
            **_without("Procedure", _R4.elements),
        },
    ),
    identifiers=("further accession", "study id"),
    oid=_OID_OF_STU3,
    systems={
        V2_0203: "http://hl7.org/fhir/v2/0203",
        V3_PARTICIPATION: "http://hl7.org/fhir/v3/ParticipationType",
        CONNECTION_TYPE: "http://hl7.org/fhir/endpoint-connection-type",
        ENDPOINT_PAYLOAD_TYPE: "http://hl7.org/fhir/endpoint-payload-type",
    },
    reference_parts=frozenset({"reference", "identifier", "display"}),
    discontinued="aborted",
    search_by="study",
    key_objects="",
)
"""A ballot between STU3 and R4. Only its ImagingStudy page is known, so the other resources are those of STU3."""

_STU3 = replace(
    _3_2_0,
    name="STU3",
    fhir_version="3.0.2",
    elements=_changed(
        _3_2_0.elements,
        {
            "subject": Element("patient", "Reference", types=frozenset({"Patient"})),
            "series.specimen": None,
            "series.performer": Element("performer", "actor", many=True, types=frozenset({"Practitioner"})),
            "Patient.extension": None,
            "Patient.animal": Element("animal"),
            **IMAGING_MANIFEST,
            **DOCUMENT_REFERENCE,
            "DocumentReference.date": None,
            "DocumentReference.author": None,  # the equipment: of its Device nothing is written in this version
            "DocumentReference.created": Element("created"),
            "DocumentReference.indexed": Element("indexed"),
            "DocumentReference.context.encounter": Element("encounter", "Reference"),
            "DocumentReference.context.related": Element("related", "Reference in ref", many=True),
            "performedProcedure": Element("procedureReference", "Reference", many=True),
            **_changed(PROCEDURE, {"Procedure.statusReason": None}),
            "Procedure.encounter": Element("context", "Reference"),
            "Procedure.performer": Element(
                "performer", "performer in role", many=True, types=frozenset({"Practitioner"})
            ),
        },
    ),
    order_type="ProcedureRequest",
    key_objects="ImagingManifest",
)

_1_4_0 = replace(
    _STU3,
    name="1.4.0",
    fhir_version="1.4.0",
    elements=_changed(
        _STU3.elements,
        {
            "encounter": None,
            "performedProcedure": None,
            "basedOn": Element("order", "Reference", many=True, types=frozenset({"DiagnosticOrder"})),
            "interpreter": Element("interpreter", "Reference"),
            "endpoint": None,
            **_without("Endpoint", _STU3.elements),
            "series.endpoint": None,
            "url": Element("url"),
            "procedure": Element("procedure", "Reference by display", many=True),
            "reason": None,
            "series.url": Element("url"),
            "series.performer": None,
            "instance.type": Element("type"),
            "instance.content": Element("content", many=True),
            **_without("ImagingManifest", _STU3.elements),
            **_without("DocumentReference", _STU3.elements),
            **_without("Procedure", _STU3.elements),
            **IMAGING_OBJECT_SELECTION,
        },
    ),
    order_type="DiagnosticOrder",
    key_objects="ImagingObjectSelection",
    selection_titles=_KOS_TITLES,
    systems={**_STU3.systems, DCM: "http://nema.org/dicom/dicm"},
    reference_parts=frozenset({"reference", "display"}),
    families_repeat=True,
    media_type="application/json+fhir",
)

_DSTU2 = replace(
    _1_4_0,
    name="DSTU2",
    fhir_version="1.0.2",
    elements=_changed(
        _1_4_0.elements,
        {
            "Practitioner.name": Element("name"),
            "ImagingObjectSelection.study.series.instance.frames": Element("frames", many=True),
            "ImagingObjectSelection.study.series.instance.frames.number": Element("frameNumbers", many=True),
        },
    ),
)

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (_DSTU2, _1_4_0, _STU3, _3_2_0, _R4, _R4B, _R5, _R6)
}
"""Every supported FHIR version by name, the oldest first."""


def by_fhir_version(fhir_version: str) -> Dialect | None:
    """The dialect for the ``fhirVersion`` of a CapabilityStatement; None if it is not supported.

    Only the major and minor numbers are compared: 4.0.0 and 4.0.1 are both R4.
    """
    release = fhir_version.split("-")[0].split(".")[:2]
    return next((d for d in DIALECTS.values() if d.fhir_version.split(".")[:2] == release), None)
