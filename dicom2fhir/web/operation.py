"""An operation of the HTTP API, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response

from dicom2fhir.store.statuses import State
from dicom2fhir.web.call import Call, Handler, RequestRefused


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    Attributes
    ----------
    path
        Below :data:`dicom2fhir.web.api.ROOT`, with its parameters in braces.
    query
        Parameter -> its JSON schema with a description.
    """

    method: str
    path: str
    name: str
    summary: str
    run: Handler
    answer: str
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def json_response(document: object, status: int = 200) -> Response:
    """A document as JSON."""
    return Response(orjson.dumps(document), status, media_type="application/json")


def changed(call: Call, document: object, then: str = "") -> Response:
    """The answer to a change; the page that asked for it loads again, or goes to the page ``then``."""
    response = json_response(document)
    if "hx-request" in call.request.headers:
        name, value = ("hx-redirect", then) if then else ("hx-refresh", "true")
        response.headers[name] = value
    return response


def state_of(given: str | None) -> State | None:
    """A state of deliveries among the parameters."""
    if given is None:
        return None
    if given not in list(State):
        raise RequestRefused(400, f"state must be one of {', '.join(State)}.")
    return State(given)


def require_destination(call: Call, name: str) -> None:
    """Check that there is a destination."""
    if all(one.name != name for one in call.store.destinations()):
        raise RequestRefused(404, "There is no such destination.")


def named_destination(call: Call) -> str:
    """The destination in the path."""
    name: str = call.request.path_params["name"]
    require_destination(call, name)
    return name


def number(given: str | None, name: str, default: int, most: int) -> int:
    """A number from 0 to ``most`` among the parameters."""
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 9 and int(given) <= most):
        raise RequestRefused(400, f"{name} must be a number from 0 to {most}.")
    return int(given)
