"""What a DICOM file becomes: the file is read, mapped and forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from dicom2fhir.errors import BridgeError, Transient
from dicom2fhir.web.call import Call, RequestRefused
from dicom2fhir.web.operation import Operation, json_response


def explained(call: Call) -> Mapping[str, Any]:
    """What the file in the body becomes in the FHIR version and the profile that the parameters name."""
    query = call.request.query_params
    if not call.body.getbuffer().nbytes:
        raise RequestRefused(400, "The body must be a DICOM file.")
    try:
        return call.previewer.explain(call.body, query.get("fhir") or "R4", query.get("profile") or "none")
    except Transient:
        raise
    except BridgeError as error:
        raise RequestRefused(400, str(error)) from None


def explain(call: Call) -> Response:
    """``dicom2fhir explain FILE --json``."""
    return json_response(explained(call))


EXPLAIN = Operation(
    "POST",
    "/explain",
    "explain",
    "What becomes of a DICOM file (the body), element by element: the document of `dicom2fhir explain --json`. Nothing"
    " is kept.",
    explain,
    "Each rule with its value, and what was left out and why.",
    {
        "fhir": {"type": "string", "default": "R4", "description": "FHIR version."},
        "profile": {"type": "string", "default": "none", "description": "Name of a profile."},
    },
)
