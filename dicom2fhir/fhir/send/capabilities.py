"""The capabilities of a FHIR server (``GET [base]/metadata``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dicom2fhir.fhir.send.lenient import as_object, as_objects
from dicom2fhir.model import Resource

_VERSION = re.compile(r"\d{1,2}(\.\d{1,4}){1,2}(-(ballot|snapshot|cibuild|draft|preview)\d{0,2})?")
"""https://hl7.org/fhir/R5/valueset-FHIR-version.html."""
_TRANSACTION_MODES = {
    "batch": frozenset({"batch"}),
    "transaction": frozenset({"transaction"}),
    "both": frozenset({"batch", "transaction"}),
}
"""``Conformance.rest.transactionMode`` of FHIR 1.0.2 -> interactions in later versions."""


@dataclass(frozen=True, slots=True)
class TypeCapabilities:
    """The capabilities for one resource type (``CapabilityStatement.rest.resource``).

    Attributes
    ----------
    update_create
        Whether a ``PUT`` may create a resource under the client's id; None if the server does not say (HAPI).
    checks_versions
        Whether an update of another version than the current one fails (``versioning`` is ``versioned-update``).
    """

    update_create: bool | None = None
    conditional_create: bool = False
    conditional_update: bool = False
    checks_versions: bool = False

    @property
    def ids(self) -> str:
        """A text: who assigns the id of a new resource."""
        return {True: "ours", False: "the server's", None: "ours unless refused"}[self.update_create]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a server; a type that it does not list has the defaults of :class:`TypeCapabilities`.

    Attributes
    ----------
    batch
        Whether to try a batch. HAPI accepts batches, but lists only ``transaction``.
    """

    fhir_version: str
    software: str = ""
    software_version: str = ""
    transaction: bool = False
    batch: bool = False
    types: Mapping[str, TypeCapabilities] = field(default_factory=dict)

    @property
    def named_version(self) -> str:
        """``fhir_version`` in a form that is safe to log: a server may send any text."""
        return self.fhir_version if _VERSION.fullmatch(self.fhir_version) else "of unknown form"

    def of(self, resource_type: str) -> TypeCapabilities:
        """The capabilities for ``resource_type``."""
        return self.types.get(resource_type, TypeCapabilities())

    def may_have(self, resource_type: str) -> bool:
        """Whether the server may have resources of a type: it lists this type, or no types at all."""
        return not self.types or resource_type in self.types


def read_capabilities(statement: Resource) -> Capabilities:
    """Read a CapabilityStatement; elements of an unexpected JSON type count as absent."""
    software = as_object(statement.get("software"))
    types: dict[str, TypeCapabilities] = {}
    offered: set[str] = set()
    for rest in as_objects(statement.get("rest")):
        if rest.get("mode") == "client":
            continue
        offered |= {_text(item.get("code")) for item in as_objects(rest.get("interaction"))}
        offered |= _TRANSACTION_MODES.get(_text(rest.get("transactionMode")), frozenset())
        for item in as_objects(rest.get("resource")):
            update_create = item.get("updateCreate")
            types[_text(item.get("type"))] = TypeCapabilities(
                update_create=update_create if isinstance(update_create, bool) else None,
                conditional_create=item.get("conditionalCreate") is True,
                conditional_update=item.get("conditionalUpdate") is True,
                checks_versions=item.get("versioning") == "versioned-update",
            )
    return Capabilities(
        _text(statement.get("fhirVersion")),
        _text(software.get("name")),
        _text(software.get("version")),
        "transaction" in offered,
        not offered.isdisjoint(("batch", "transaction")),
        types,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
