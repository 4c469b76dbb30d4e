"""The elements of each type of secondary resource in one FHIR version.

Those of other versions are differences, in :mod:`dicom2fhir.fhir.version.dialects`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom2fhir.fhir.version.dialect import Element

IMAGING_SELECTION: Mapping[str, Element] = {
    "ImagingSelection.identifier": Element("identifier", many=True),
    "ImagingSelection.status": Element("status"),
    "ImagingSelection.subject": Element("subject", "Reference", types=frozenset({"Patient", "Device"})),
    "ImagingSelection.issued": Element("issued"),
    "ImagingSelection.performer": Element("performer", "performer", many=True),
    "ImagingSelection.basedOn": Element("basedOn", "Reference", many=True),
    "ImagingSelection.category": Element("category", "CodeableConcept", many=True),
    "ImagingSelection.code": Element("code", "CodeableConcept"),
    "ImagingSelection.studyUid": Element("studyUid"),
    "ImagingSelection.derivedFrom": Element("derivedFrom", "Reference", many=True),
    "ImagingSelection.endpoint": Element("endpoint", "Reference", many=True),
    "ImagingSelection.seriesUid": Element("seriesUid"),
    "ImagingSelection.seriesNumber": Element("seriesNumber"),
    "ImagingSelection.bodySite": Element("bodySite", "CodeableReference"),
    "ImagingSelection.instance": Element("instance", many=True),
    "ImagingSelection.instance.uid": Element("uid"),
    "ImagingSelection.instance.number": Element("number"),
    "ImagingSelection.instance.sopClass": Element("sopClass", "Coding of oid"),
    "ImagingSelection.instance.subset": Element("subset", many=True),
}
"""Of R5."""
MEASURED_IMAGES: Mapping[str, Element] = {
    "ImagingSelection.frameOfReference": Element("frameOfReferenceUid"),
    "ImagingSelection.instance.region": Element("imageRegion2D", many=True),
    "ImagingSelection.instance.region.kind": Element("regionType"),
    "ImagingSelection.instance.region.coordinate": Element("coordinate", many=True),
}
"""Of R5, for what was measured; only R6 has regions in space outside an instance."""

_AUTHORS = frozenset({"Practitioner", "Device"})
_ONLY_PATIENT = frozenset({"Patient"})

IMAGING_MANIFEST: Mapping[str, Element] = {
    "ImagingManifest.identifier": Element("identifier"),
    "ImagingManifest.patient": Element("patient", "Reference", types=_ONLY_PATIENT),
    "ImagingManifest.authoringTime": Element("authoringTime"),
    "ImagingManifest.author": Element("author", "Reference", types=_AUTHORS),
    "ImagingManifest.description": Element("description"),
    "ImagingManifest.study": Element("study", many=True),
    "ImagingManifest.study.uid": Element("uid", "oid"),
    "ImagingManifest.study.imagingStudy": Element("imagingStudy", "Reference"),
    "ImagingManifest.study.endpoint": Element("endpoint", "Reference", many=True),
    "ImagingManifest.study.series": Element("series", many=True),
    "ImagingManifest.study.series.uid": Element("uid", "oid"),
    "ImagingManifest.study.series.instance": Element("instance", many=True),
    "ImagingManifest.study.series.instance.sopClass": Element("sopClass", "oid"),
    "ImagingManifest.study.series.instance.uid": Element("uid", "oid"),
}
"""Of STU3."""

IMAGING_OBJECT_SELECTION: Mapping[str, Element] = {
    "ImagingObjectSelection.uid": Element("uid", "oid"),
    "ImagingObjectSelection.patient": Element("patient", "Reference", types=_ONLY_PATIENT),
    "ImagingObjectSelection.title": Element("title", "CodeableConcept"),
    "ImagingObjectSelection.description": Element("description"),
    "ImagingObjectSelection.author": Element("author", "Reference", types=_AUTHORS),
    "ImagingObjectSelection.authoringTime": Element("authoringTime"),
    "ImagingObjectSelection.study": Element("study", many=True),
    "ImagingObjectSelection.study.uid": Element("uid", "oid"),
    "ImagingObjectSelection.study.url": Element("url"),
    "ImagingObjectSelection.study.imagingStudy": Element("imagingStudy", "Reference"),
    "ImagingObjectSelection.study.series": Element("series", many=True),
    "ImagingObjectSelection.study.series.uid": Element("uid", "oid"),
    "ImagingObjectSelection.study.series.url": Element("url"),
    "ImagingObjectSelection.study.series.instance": Element("instance", many=True),
    "ImagingObjectSelection.study.series.instance.sopClass": Element("sopClass", "oid"),
    "ImagingObjectSelection.study.series.instance.uid": Element("uid", "oid"),
    "ImagingObjectSelection.study.series.instance.url": Element("url"),
    "ImagingObjectSelection.study.series.instance.frames": Element("frame", many=True),
    "ImagingObjectSelection.study.series.instance.frames.number": Element("number", many=True),
}
"""Of 1.4.0."""

DOCUMENT_REFERENCE: Mapping[str, Element] = {
    "DocumentReference.masterIdentifier": Element("masterIdentifier"),
    "DocumentReference.identifier": Element("identifier", many=True),
    "DocumentReference.status": Element("status"),
    "DocumentReference.docStatus": Element("docStatus"),
    "DocumentReference.type": Element("type", "CodeableConcept"),
    "DocumentReference.subject": Element("subject", "Reference", types=frozenset({"Patient", "Device"})),
    "DocumentReference.date": Element("date"),
    "DocumentReference.author": Element("author", "Reference", many=True),
    "DocumentReference.custodian": Element("custodian", "Reference"),
    "DocumentReference.relatesTo": Element("relatesTo", many=True),
    "DocumentReference.relatesTo.code": Element("code", "code"),
    "DocumentReference.relatesTo.target": Element("target", "Reference"),
    "DocumentReference.description": Element("description"),
    "DocumentReference.content": Element("content", many=True),
    "DocumentReference.context": Element("context"),
    "DocumentReference.context.encounter": Element("encounter", "Reference", many=True),
    "DocumentReference.context.related": Element("related", "Reference", many=True),
}
"""Of R4."""

OBSERVATION: Mapping[str, Element] = {
    "Observation.profile": Element("meta"),
    "Observation.identifier": Element("identifier", many=True),
    "Observation.basedOn": Element("basedOn", "Reference", many=True),
    "Observation.partOf": Element("partOf", "Reference", many=True),
    "Observation.status": Element("status"),
    "Observation.code": Element("code", "CodeableConcept"),
    "Observation.subject": Element("subject", "Reference"),
    "Observation.focus": Element("focus", "Reference", many=True),
    "Observation.effective": Element("effectiveDateTime"),
    "Observation.issued": Element("issued"),
    "Observation.performer": Element("performer", "Reference", many=True),
    "Observation.text": Element("valueString"),
    "Observation.imaging": Element("category", "CodeableConcept", many=True),
    "Observation.quantity": Element("valueQuantity"),
    "Observation.concept": Element("valueCodeableConcept", "CodeableConcept"),
    "Observation.absent": Element("dataAbsentReason", "CodeableConcept"),
    "Observation.interpretation": Element("interpretation", "CodeableConcept", many=True),
    "Observation.bodySite": Element("bodySite", "CodeableConcept"),
    "Observation.method": Element("method", "CodeableConcept"),
    "Observation.referenceRange": Element("referenceRange", many=True),
    "Observation.hasMember": Element("hasMember", "Reference", many=True),
    "Observation.device": Element("device", "Reference"),
    "Observation.derivedFrom": Element("derivedFrom", "Reference", many=True),
    "Observation.component": Element("component", many=True),
    "Observation.component.code": Element("code", "CodeableConcept"),
    "Observation.component.quantity": Element("valueQuantity"),
    "Observation.component.concept": Element("valueCodeableConcept", "CodeableConcept"),
    "Observation.component.absent": Element("dataAbsentReason", "CodeableConcept"),
}
"""Of R4, for which the profile is."""

DIAGNOSTIC_REPORT: Mapping[str, Element] = {
    "DiagnosticReport.identifier": Element("identifier", many=True),
    "DiagnosticReport.basedOn": Element("basedOn", "Reference", many=True),
    "DiagnosticReport.status": Element("status"),
    "DiagnosticReport.code": Element("code", "CodeableConcept"),
    "DiagnosticReport.subject": Element("subject", "Reference", types=frozenset({"Patient", "Device"})),
    "DiagnosticReport.encounter": Element("encounter", "Reference"),
    "DiagnosticReport.issued": Element("issued"),
    "DiagnosticReport.resultsInterpreter": Element("resultsInterpreter", "Reference", many=True),
    "DiagnosticReport.study": Element("imagingStudy", "Reference", many=True),
    "DiagnosticReport.presentedForm": Element("presentedForm", many=True),
}
"""Of R4."""

PROCEDURE: Mapping[str, Element] = {
    "Procedure.identifier": Element("identifier", many=True),
    "Procedure.basedOn": Element("basedOn", "Reference", many=True),
    "Procedure.status": Element("status"),
    "Procedure.statusReason": Element("statusReason", "CodeableConcept"),
    "Procedure.code": Element("code", "CodeableConcept"),
    "Procedure.subject": Element("subject", "Reference", types=_ONLY_PATIENT),
    "Procedure.encounter": Element("encounter", "Reference"),
    "Procedure.performed": Element("performedPeriod"),
    "Procedure.performer": Element("performer", "performer", many=True, types=_AUTHORS),
    "Procedure.location": Element("location", "Reference"),
    "Procedure.reason": Element("reasonCode", "CodeableConcept", many=True),
}
"""Of R4."""
