"""Check resources against the models of fhir.resources before they are sent.

A finding is a fault of the mapping, not of the study: it is reported and does not stop the delivery.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from itertools import count
from typing import Literal

from pydantic import BaseModel, ValidationError

from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Note, Resource

ValidationMode = Literal["sample", "always", "never"]

_MODELS: Mapping[str, str] = {
    "STU3": "fhir.resources.STU3",
    "R4": "fhir.resources.R4B",
    "R4B": "fhir.resources.R4B",
    "R5": "fhir.resources",
}
"""Dialect -> package. fhir.resources has no R4, but R4B does not differ from it in the resources that we write. It has
no models of the other versions: those are not checked."""


def _model(dialect_name: str, resource_type: str) -> type[BaseModel]:
    # imported on first use: the models are slow to load, and most commands do not check resources
    model: type[BaseModel] = import_module(_MODELS[dialect_name]).get_fhir_model_class(resource_type)
    return model


def check(resource: Resource, dialect_name: str) -> list[Note]:
    """Validate a resource with fhir.resources.

    Each finding is reported once for all series and instances, as the path of the element and pydantic's type of
    error; its messages would quote values.
    """
    resource_type: str = resource["resourceType"]
    if dialect_name not in _MODELS:
        return []
    try:
        _model(dialect_name, resource_type).model_validate(resource)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return list(dict.fromkeys(_note(resource_type, finding["loc"], finding["type"]) for finding in found))
    return []


def _note(resource_type: str, location: tuple[int | str, ...], kind: str) -> Note:
    path = ".".join([resource_type, *(part for part in location if isinstance(part, str))])
    return Note("warning", path, f"is not valid: {kind}")


class Validator:
    """Decides which studies to check; thread-safe.

    Parameters
    ----------
    mode
        ``"sample"`` checks every ``every``-th study.
    first
        Whether ``"sample"`` starts with the first study: a mistake in the configuration then shows at once.
    """

    def __init__(self, mode: ValidationMode, every: int = 100, first: bool = True) -> None:
        self._every = {"always": 1, "sample": every, "never": 0}[mode]
        self._studies = count(0 if first else 1)

    def findings(self, mapped: Mapped, dialect_name: str) -> list[Note]:
        """Check all resources of a study, if this study is to be checked."""
        if not self._every or next(self._studies) % self._every:
            return []
        written = (entry.resource for entry in mapped.everything if entry.may_be_written)
        return [note for resource in written for note in check(resource, dialect_name)]
