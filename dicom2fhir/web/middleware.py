"""Around every request: security headers, limits of size and time, and the decision whether it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom2fhir.errors import BridgeError, log_fields
from dicom2fhir.web.access import COOKIE, Asked, Gate, Refusal

_REQUEST_S = 30.0
_MAX_BODY_BYTES = 64 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024
"""Of a file to be explained."""
_FOR_FILES = ("/explain", "/api/v1/explain")
_SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_CACHE = {"cache-control": "no-store"}
"""Unless the response says otherwise."""

Refuse = Callable[[Request, Refusal], Response]
"""Makes the response to a request that is not answered."""

log = structlog.get_logger(__name__)


class SecurityHeaders:
    """Adds the headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY)
                for name, value in _CACHE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Limits:
    """Ends a request whose body is too large, or that takes too long."""

    def __init__(self, app: ASGIApp, refuse: Refuse) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started, size = False, 0
        most = MAX_FILE_BYTES if scope["path"] in _FOR_FILES else _MAX_BODY_BYTES
        refusal = Refusal(413, f"The request is too large: at most {most:,} bytes.")

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise HTTPException(refusal.status, refusal.reason)
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(_REQUEST_S):
                await self._app(scope, receive_some, send_and_note)
        except TimeoutError:
            if started:  # the connection cannot be used any more; the server closes it
                raise
            refusal = Refusal(503, f"The answer took longer than {_REQUEST_S:.0f} seconds. Try again later.")
            await self._refuse(Request(scope), refusal)(scope, receive, send)


class Guard:
    """Answers only requests that :class:`~dicom2fhir.web.access.Gate` lets pass."""

    def __init__(self, app: ASGIApp, gate: Gate, refuse: Refuse) -> None:
        self._app = app
        self._gate = gate
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        try:
            refusal = self._gate.refusal(asked_of(request))
        except BridgeError as error:
            log.error("web.token_unreadable", **log_fields(error))
            refusal = Refusal(503, str(error))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        log.warning("web.refused", status=refusal.status, reason=refusal.reason, peer=peer_of(request))
        await self._refuse(request, refusal)(scope, receive, send)


def peer_of(request: Request) -> str:
    """The address that the request came from."""
    return request.client.host if request.client else ""


def asked_of(request: Request) -> Asked:
    """What the gate looks at."""
    headers: Headers = request.headers
    return Asked(
        method=request.method,
        path=request.url.path,
        peer=peer_of(request),
        headers=dict(headers),
        session_key=request.cookies.get(COOKIE, ""),
    )
