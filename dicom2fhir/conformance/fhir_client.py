"""What the bridge asks of a FHIR server, as a CapabilityStatement of requirements."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir import __version__
from dicom2fhir.errors import ConfigError
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.mapping.measured import writes_images
from dicom2fhir.fhir.version.dialect import Dialect
from dicom2fhir.fhir.version.formats import media_type
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Resource

_LOOK_UP = ("read", "search-type")
_INTERACTIONS: dict[Write, tuple[str, ...]] = {
    Write.OWN: (*_LOOK_UP, "create", "update", "history-instance"),
    Write.UPSERT: (*_LOOK_UP, "create", "update", "history-instance"),
    Write.ENSURE: (*_LOOK_UP, "create", "update"),
    Write.LINK: _LOOK_UP,
}
"""What is done with a resource. A creation under an id of the bridge is an update (``updateCreate``)."""
_KEY_OBJECTS = (frozenset({"auto", "always"}), frozenset({"always"}))
"""Choices with which key objects are written: in a type of their own, and as Basic."""
_WHY: dict[Write, str] = {
    Write.OWN: "Written by the bridge, and merged with what others add.",
    Write.UPSERT: "Created if it does not exist, else updated.",
    Write.ENSURE: "Created if it does not exist, never changed.",
    Write.LINK: "Looked up and referred to, never written.",
}


def written_types(dialect: Dialect, options: MappingOptions) -> dict[str, Write]:
    """Resource type -> how the bridge writes it in a FHIR version with these options."""
    return dict(_types(dialect, options))


def _types(dialect: Dialect, options: MappingOptions) -> Iterator[tuple[str, Write]]:
    yield "ImagingStudy", Write.OWN
    yield "Patient", options.patient
    if "Endpoint.address" in dialect.elements:
        yield "Endpoint", Write.UPSERT
    yield from ((type_, Write.ENSURE) for type_ in sorted(options.referenced))
    if "order" in options.linked:
        yield dialect.order_type, Write.LINK
    if "encounter" in options.linked:
        yield "Encounter", Write.LINK
    if dialect.key_objects and options.key_objects in _KEY_OBJECTS[dialect.key_objects == "Basic"]:
        yield dialect.key_objects, Write.OWN
    if writes_images(dialect.elements) and options.measurements != "never":
        yield "ImagingSelection", Write.OWN
    parts = {
        "DocumentReference": (options.documents,),
        "DiagnosticReport": (options.diagnostic_reports,),
        "Observation": (options.dose_reports, options.measurements),
        "Procedure": (options.procedures,),
    }
    for type_, choices in parts.items():
        if f"{type_}.status" in dialect.elements and set(choices) != {"never"}:
            yield type_, Write.OWN


def capability_statement(dialect: Dialect, options: MappingOptions, date: str) -> Resource:
    """The requirements that a server meets for everything that the bridge does (``kind`` is ``requirements``).

    Parameters
    ----------
    date
        Of the statement, such as ``2026-01-31``.

    Raises
    ------
    ConfigError
        The version has no CapabilityStatement of this form.
    """
    if dialect.fhir_version < "4":
        raise ConfigError(
            f"A CapabilityStatement is written for FHIR R4 and later, not for {dialect.name}; choose one with --fhir."
        )
    return {
        "resourceType": "CapabilityStatement",
        "id": "dicom2fhir-client",
        "url": "urn:uuid:5d0a2b33-6c5f-4b3e-9c0e-6b1d1c1f2a70",
        "version": __version__,
        "name": "Dicom2FhirClient",
        "title": f"What dicom2fhir {__version__} asks of a FHIR server",
        "status": "active",
        "date": date,
        "description": "The interactions of the bridge with a FHIR server, as it is configured. A server that does not"
        " offer a resource type gets none of that type, except ImagingStudy.",
        "kind": "requirements",
        "fhirVersion": dialect.fhir_version,
        "format": [dialect.media_type, media_type(dialect.media_type, "xml")],
        "rest": [
            {
                "mode": "client",
                "resource": [
                    _resource(type_, write, dialect) for type_, write in written_types(dialect, options).items()
                ],
                "interaction": [
                    {"code": "transaction", "documentation": "One for a study, one for its secondary resources."},
                    {"code": "batch", "documentation": "Look-ups; sent one by one to a server without batches."},
                ],
            }
        ],
    }


def _resource(type_: str, write: Write, dialect: Dialect) -> Resource:
    parameter = dialect.search_by if type_ == "ImagingStudy" else "identifier"
    offered: Resource = {
        "type": type_,
        "documentation": _WHY[write],
        "interaction": [{"code": code} for code in _INTERACTIONS[write]],
        "searchParam": [{"name": parameter, "type": "token"}],
    }
    if write is not Write.LINK:
        offered |= {"updateCreate": True, "conditionalCreate": True, "conditionalUpdate": True}
    return offered
