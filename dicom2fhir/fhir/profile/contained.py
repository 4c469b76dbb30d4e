"""The contained resources that the references of a resource keep."""

from __future__ import annotations

from dicom2fhir.fhir.version.references import references
from dicom2fhir.model import Resource


def referred_to(study: Resource, contained: dict[str, Resource]) -> list[Resource]:
    """The contained resources that something still refers to (dom-3), those that they refer to among them."""
    found: set[str] = set()
    waiting = set(references(study))
    while waiting:
        reference = waiting.pop()
        if reference.startswith("#") and reference[1:] in contained and reference not in found:
            found.add(reference)
            waiting |= set(references(contained[reference[1:]]))
    return [resource for name, resource in contained.items() if f"#{name}" in found]
