"""The OpenAPI description of the API."""

from __future__ import annotations

import re

from dicom2fhir import __version__
from dicom2fhir.web.access import CSRF_HEADER
from dicom2fhir.web.api import OPERATIONS, ROOT
from dicom2fhir.web.operation import Operation

_ERRORS = {
    "400": "A parameter is not valid.",
    "401": "The token is needed, or wrong.",
    "403": "The change is not allowed.",
    "404": "There is no such thing.",
    "421": "The host name is not known.",
    "503": "The store cannot be used now.",
}


def document() -> dict[str, object]:
    """The description, OpenAPI 3.1."""
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(ROOT + operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dicom2fhir",
            "version": __version__,
            "description": "Reads need no token on the machine of the bridge. From elsewhere they do, and every change"
            f" does. With a session instead of the token, changes also need the header {CSRF_HEADER}.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string", "description": "What is wrong, and what to do."}},
                }
            },
        },
    }


def _described(operation: Operation) -> dict[str, object]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    in_query = [
        {
            "name": name,
            "in": "query",
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in operation.query.items()
    ]
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{"token": []}, *([{}] if operation.method == "GET" else [])],
        "parameters": [*in_path, *in_query],
        "responses": {
            "200": {"description": operation.answer, "content": {"application/json": {"schema": {"type": "object"}}}},
            **{status: _error(text) for status, text in _ERRORS.items()},
        },
    }


def _error(text: str) -> dict[str, object]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
