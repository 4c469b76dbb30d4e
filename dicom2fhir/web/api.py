"""The HTTP API: a table of operations, from which the routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from dicom2fhir.ops import status as bridge
from dicom2fhir.store.statuses import State
from dicom2fhir.web.all_of_a_kind import OF_A_KIND
from dicom2fhir.web.call import Call
from dicom2fhir.web.explain import EXPLAIN
from dicom2fhir.web.operation import Operation, changed, json_response, named_destination, number, state_of
from dicom2fhir.web.studies import STUDY_OPERATIONS

ROOT = "/api/v1"
_LIMIT = 20
_MAX_LIMIT = 1000


def read_status(call: Call) -> Response:
    """The document of ``status --json``."""
    query = call.request.query_params
    state = state_of(query.get("state"))
    limit = number(query.get("limit"), "limit", _LIMIT, _MAX_LIMIT)
    seen = bridge.overview(call.store, state, limit)
    return json_response(bridge.as_json(seen))


def pause(call: Call) -> Response:
    """``dicom2fhir pause``."""
    name = named_destination(call)
    was_changed = call.store.pause(name)
    call.audit("pause", destination=name, changed=was_changed)
    return changed(call, {"destination": name, "paused": True, "changed": was_changed})


def resume(call: Call) -> Response:
    """``dicom2fhir resume``."""
    name = named_destination(call)
    was_changed = call.store.resume(name)
    call.audit("resume", destination=name, changed=was_changed)
    return changed(call, {"destination": name, "paused": False, "changed": was_changed})


def retry(call: Call) -> Response:
    """``dicom2fhir retry --all --destination NAME``."""
    name = named_destination(call)
    count = call.store.requeue(None, name)
    call.audit("retry", destination=name, changed=bool(count))
    return changed(call, {"destination": name, "due": count})


def acknowledge(call: Call) -> Response:
    """``dicom2fhir status --acknowledge``."""
    count = len(call.store.damages)
    call.store.acknowledge_damages()
    call.audit("acknowledge", changed=bool(count))
    return changed(call, {"acknowledged": count})


OPERATIONS: Sequence[Operation] = (
    Operation(
        "GET",
        "/status",
        "status",
        "The state of the daemon, of reception and deliveries: the same document as `dicom2fhir status --json`.",
        read_status,
        "The document.",
        {
            "state": {"type": "string", "enum": list(State), "description": "Only studies in this state."},
            "limit": {
                "type": "integer",
                "minimum": 0,
                "maximum": _MAX_LIMIT,
                "default": _LIMIT,
                "description": "Number of studies and of rejections.",
            },
        },
    ),
    Operation(
        "POST",
        "/destinations/{name}/pause",
        "pause",
        "Send nothing to a destination until it is resumed, also after a restart.",
        pause,
        "Whether this changed anything.",
    ),
    Operation(
        "POST",
        "/destinations/{name}/resume",
        "resume",
        "Send to a paused destination again.",
        resume,
        "Whether this changed anything.",
    ),
    Operation(
        "POST",
        "/destinations/{name}/retry",
        "retry",
        "Send every study again now that is refused by a destination or waits for it.",
        retry,
        "The number of deliveries that are due now.",
    ),
    Operation(
        "POST",
        "/damages/acknowledge",
        "acknowledge",
        "Acknowledge the damages of the store; they are not shown again.",
        acknowledge,
        "The number of damages.",
    ),
    *STUDY_OPERATIONS,
    *OF_A_KIND,
    EXPLAIN,
)
