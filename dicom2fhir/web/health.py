"""``/healthz`` and ``/readyz``, for supervisors and load balancers. They tell nothing else, and need no token."""

from __future__ import annotations

import time

from starlette.responses import PlainTextResponse, Response

from dicom2fhir.ops import status as bridge
from dicom2fhir.web.call import Call


def is_alive(_call: Call) -> Response:
    """Whether the process answers."""
    return PlainTextResponse("ok\n")


def is_ready(call: Call) -> Response:
    """Whether the bridge receives. FHIR servers do not matter: what arrives while they are down is stored."""
    reason = bridge.not_receiving(bridge.daemon_of(call.store, time.time()))
    return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)
