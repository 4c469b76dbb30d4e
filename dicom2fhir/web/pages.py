"""The pages for people."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import HTMLResponse, RedirectResponse, Response

from dicom2fhir.ops import status as bridge
from dicom2fhir.web.access import COOKIE, SESSION_S
from dicom2fhir.web.call import Call, Handler, log
from dicom2fhir.web.middleware import peer_of
from dicom2fhir.web.templates import Templates

_LATEST = 10
"""Studies and rejections on the overview."""


class Pages:
    """Makes the pages from the templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Method and path -> handler."""
        return {
            ("GET", "/"): self.overview,
            ("GET", "/login"): self.ask_for_token,
            ("POST", "/login"): self.log_in,
            ("POST", "/logout"): self.log_out,
        }

    def overview(self, call: Call) -> Response:
        """What an operator must see first."""
        seen = bridge.overview(call.store, None, _LATEST)
        standings = [(one, seen.daemon.destination(one.name)) for one in seen.destinations]
        studies = [
            (study, [(delivery, bridge.why(delivery, study, seen.daemon, seen.at)) for delivery in study.deliveries])
            for study in seen.studies
        ]
        return self._page("overview", call, seen=seen, standings=standings, studies=studies)

    def ask_for_token(self, call: Call) -> Response:
        """The form for the token."""
        return self._page("login", call, reason="")

    def log_in(self, call: Call) -> Response:
        """Begin a session for the token in the form."""
        session = call.gate.begin(call.form.get("token", "").strip())
        if session is None:
            log.warning("web.login_refused", peer=peer_of(call.request))
            return self._page("login", call, status=401, reason="This is not the token.")
        call.audit("login")
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            session.key,
            max_age=int(SESSION_S),
            secure=call.request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    def log_out(self, call: Call) -> Response:
        """End the session."""
        if session := call.session:
            call.gate.end(session.key)
        response = Response(headers={"hx-redirect": "/login"})
        response.delete_cookie(COOKIE)
        return response

    def _page(self, name: str, call: Call, status: int = 200, **facts: object) -> HTMLResponse:
        path = call.request.url.path
        return self._templates.page(name, status, session=call.session, path=path, **facts)
