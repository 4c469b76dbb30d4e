"""One request as the handlers see it, and how they are run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.responses import Response

from dicom2fhir.errors import BridgeError, BridgeFault, Transient, log_fields
from dicom2fhir.ops.previews import Previewer
from dicom2fhir.system.memory_budget import HeaderSpace, Share
from dicom2fhir.web.access import COOKIE, Gate, Refusal, Session
from dicom2fhir.web.facts import WebStore
from dicom2fhir.web.middleware import Refuse, peer_of

_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A request with what handlers need to answer it.

    Attributes
    ----------
    body
        At its begin.
    form
        The fields of its body, if that is a form.
    shows_identifiers
        Whether identifiers of patients may be shown.
    """

    request: Request
    body: BytesIO
    form: Mapping[str, str]
    store: WebStore
    previewer: Previewer
    shows_identifiers: bool
    gate: Gate

    @property
    def session(self) -> Session | None:
        """The session of the browser."""
        return self.gate.session(self.request.cookies.get(COOKIE, ""))

    def audit(self, change: str, **what: object) -> None:
        """Log a change that was made."""
        log.info("web.changed", change=change, peer=peer_of(self.request), **what)


class RequestRefused(Exception):
    """A handler does not do what is asked."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, reason)


Handler = Callable[[Call], Response]
"""Runs in a thread of the pool, because the store and the mapping are synchronous."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs handlers in a pool of threads; failures become responses."""

    pool: ThreadPoolExecutor
    store: WebStore
    previewer: Previewer
    shows_identifiers: bool
    gate: Gate
    refuse: Refuse
    space: HeaderSpace

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler for Starlette."""

        async def answer(request: Request) -> Response:
            share = Share(self.space)
            try:
                body = await _body_of(request, share)
            except Transient as error:
                return self.refuse(request, Refusal(503, f"{error} Try again later."))
            except BaseException:
                share.let_go()
                raise
            form = _form_of(request, body)
            call = Call(request, body, form, self.store, self.previewer, self.shows_identifiers, self.gate)
            # not Starlette's own pool: the time limit could not end the wait for a thread of that one
            answering = self.pool.submit(self._answer, handler, call)
            answering.add_done_callback(
                lambda _: share.let_go()
            )  # the body is held until then, whatever the client does
            return await asyncio.wrap_future(answering)

        return answer

    def _answer(self, handler: Handler, call: Call) -> Response:
        try:
            return handler(call)
        except RequestRefused as error:
            return self.refuse(call.request, error.refusal)
        except BridgeError as error:
            log.error("web.failed", **log_fields(error))
            return self.refuse(call.request, Refusal(503, str(error)))
        except Exception as error:
            fault = BridgeFault(error)
            log.error("web.failed", **log_fields(fault))
            return self.refuse(call.request, Refusal(500, f"{fault} See the log."))


async def _body_of(request: Request, share: Share) -> BytesIO:
    """The body, held once: pieces are added as they come.

    Raises
    ------
    Transient
        There is no memory for it.
    """
    body = BytesIO()
    async for piece in request.stream():
        share.hold(body.tell() + len(piece))
        body.write(piece)
    body.seek(0)
    return body


def _form_of(request: Request, body: BytesIO) -> Mapping[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    try:
        return dict(
            parse_qsl(body.getvalue().decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        )
    except ValueError:  # more fields than any form has
        return {}
