"""Mark a resource that is no longer made as entered in error."""

from __future__ import annotations

from dicom2fhir.fhir.version.cross_version import extension_url
from dicom2fhir.model import Resource

_ENTERED_IN_ERROR = "entered-in-error"
_STATUS = extension_url("ImagingSelection.status")


def retracted(resource: Resource) -> Resource:
    """The resource with the status ``entered-in-error``.

    A Basic has it as a modifier extension, and so get the resources of versions that have no element for it: nobody may
    use a resource with a modifier extension that they do not know (https://hl7.org/fhir/R4/extensibility.html).
    """
    if "status" in resource:
        return {**resource, "status": _ENTERED_IN_ERROR}
    others = [one for one in resource.get("modifierExtension", ()) if one.get("url") != _STATUS]
    return {**resource, "modifierExtension": [*others, {"url": _STATUS, "valueCode": _ENTERED_IN_ERROR}]}
