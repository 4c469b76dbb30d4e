"""A resource as bytes: JSON or XML."""

from __future__ import annotations

from typing import Literal

import orjson

from dicom2fhir.model import Resource

Format = Literal["json", "xml"]


def dump(resource: Resource, version: str, format_: Format, indent: bool = False) -> bytes:
    """A resource as bytes that end with a line end; on one line unless ``indent``.

    Parameters
    ----------
    version
        Name of its FHIR version, such as ``R4``.

    Raises
    ------
    NotExpressible
        As :func:`dicom2fhir.fhir.version.xml.dump_xml`.
    """
    if format_ == "xml":
        from dicom2fhir.fhir.version.xml import dump_xml  # here, because XML is rarely used

        return dump_xml(resource, version, indent) + b"\n"
    return orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0))


def media_type(of_json: str, format_: Format) -> str:
    """The media type of a format, from that of JSON in the same FHIR version: they differ only in that word."""
    return of_json.replace("json", format_)
