"""The application: routes, and what surrounds them."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dicom2fhir.ops.metrics import Metrics
from dicom2fhir.ops.previews import Previewer
from dicom2fhir.system.memory_budget import HeaderSpace
from dicom2fhir.web import api, health
from dicom2fhir.web.access import Gate, Refusal, Sessions
from dicom2fhir.web.call import Call, RequestRefused, Runner
from dicom2fhir.web.facts import WebStore
from dicom2fhir.web.metrics import page as metrics_page
from dicom2fhir.web.middleware import Guard, Limits, Refuse, SecurityHeaders
from dicom2fhir.web.openapi import document
from dicom2fhir.web.operation import json_response
from dicom2fhir.web.options import Face
from dicom2fhir.web.pages import Pages
from dicom2fhir.web.templates import Templates, static_files

_REASONS = {404: "There is no such page.", 405: "This method is not allowed here."}
"""Of refusals by Starlette."""
_FOR_PROGRAMS = ("/api/", "/healthz", "/readyz", "/metrics")


def make_app(
    face: Face,
    store: WebStore,
    previewer: Previewer,
    pool: ThreadPoolExecutor,
    metrics: Metrics,
    space: HeaderSpace,
) -> ASGIApp:
    """The application.

    Parameters
    ----------
    pool
        Threads for calls of the store.
    space
        As for :class:`~dicom2fhir.web.server.WebServer`.
    """
    templates = Templates()
    refuse = _refuser(templates)
    gate = Gate(_names(face), face.token, Sessions())
    runner = Runner(pool, store, previewer, face.show_identifiers, gate, refuse, space)

    async def refuse_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):  # Starlette calls it only with these
            raise error
        return refuse(request, Refusal(error.status_code, _REASONS.get(error.status_code, error.detail)))

    return Starlette(
        routes=_routes(runner, Pages(templates), metrics),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(Limits, refuse=refuse),
            Middleware(Guard, gate=gate, refuse=refuse),
        ],
        exception_handlers={HTTPException: refuse_error},
    )


def _routes(runner: Runner, pages: Pages, metrics: Metrics) -> list[Route]:
    static = static_files()

    def static_file(call: Call) -> Response:
        found = static.get(call.request.path_params["name"])
        if found is None:
            raise RequestRefused(404, "There is no such file.")
        content, media_type = found
        return Response(content, media_type=media_type, headers={"cache-control": "max-age=3600"})

    def openapi(_call: Call) -> Response:
        return json_response(document())

    handlers = {
        ("GET", "/healthz"): health.is_alive,
        ("GET", "/readyz"): health.is_ready,
        ("GET", "/metrics"): metrics_page(metrics),
        ("GET", "/static/{name}"): static_file,
        ("GET", f"{api.ROOT}/openapi.json"): openapi,
        **{(one.method, api.ROOT + one.path): one.run for one in api.OPERATIONS},
        **pages.handlers(),
    }
    return [Route(path, runner.endpoint(run), methods=[method]) for (method, path), run in handlers.items()]


def _refuser(templates: Templates) -> Refuse:
    def refuse(request: Request, refusal: Refusal) -> Response:
        if request.url.path.startswith(_FOR_PROGRAMS) or "hx-request" in request.headers:
            response: Response = json_response({"error": refusal.reason}, refusal.status)
        else:
            name = "login" if refusal.status == 401 else "refused"
            response = templates.page(name, refusal.status, session=None, path=request.url.path, reason=refusal.reason)
        if refusal.status == 401:
            response.headers["www-authenticate"] = "Bearer"
        return response

    return refuse


def _names(face: Face) -> frozenset[str]:
    own = ("localhost", socket.gethostname(), face.host, *face.server_names)
    return frozenset(name.lower() for name in own)
