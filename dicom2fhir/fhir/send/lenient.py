"""Read JSON from a server; a value of an unexpected type counts as absent.

:mod:`dicom2fhir.fhir.send.answer_shape` refuses such values.
"""

from __future__ import annotations

from dicom2fhir.model import Resource


def as_object(value: object) -> Resource:
    """The value if it is an object, else an empty object."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Resource]:
    """The objects in a list; none if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
