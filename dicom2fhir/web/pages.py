"""The pages for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import orjson
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dicom2fhir.ops import settlement
from dicom2fhir.ops import status as bridge
from dicom2fhir.ops.status import Overview
from dicom2fhir.store.statuses import State, StudyStatus
from dicom2fhir.web import one_study, studies
from dicom2fhir.web.access import COOKIE, SESSION_S
from dicom2fhir.web.activity import activity, full_in_days
from dicom2fhir.web.all_of_a_kind import kind_of
from dicom2fhir.web.call import Call, Handler, log
from dicom2fhir.web.explain import explained
from dicom2fhir.web.middleware import MAX_FILE_BYTES, peer_of
from dicom2fhir.web.templates import Templates

_LATEST = 10
"""Studies and rejections on the overview."""


_PROBLEMS = 25
"""Of each kind on one page."""


class Pages:
    """Makes the pages from the templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Method and path -> handler."""
        return {
            ("GET", "/"): self.overview,
            ("GET", "/studies"): self.studies,
            ("GET", "/studies/{study_uid}"): self.study,
            ("GET", "/problems"): self.problems,
            ("GET", "/explain"): self.explain,
            ("POST", "/explain"): self.explained,
            ("GET", "/login"): self.ask_for_token,
            ("POST", "/login"): self.log_in,
            ("POST", "/logout"): self.log_out,
        }

    def overview(self, call: Call) -> Response:
        """What an operator must see first."""
        seen = bridge.overview(call.store, None, _LATEST)
        standings = [(one, seen.daemon.destination(one.name)) for one in seen.destinations]
        waiting = [(study, _why_it_waits(study, seen)) for study in seen.studies]
        day = activity(call.store, seen.at)
        said = seen.daemon.said
        days_left = (
            full_in_days(said.disk, Path(seen.store).stat().st_size, seen.stats.instances, day.received_day)
            if said and said.disk
            else None
        )
        return self._page(
            "overview",
            call,
            seen=seen,
            standings=standings,
            why_oldest=seen.oldest and bridge.why_undelivered(seen.oldest, seen, words=False),
            studies=waiting,
            day=day,
            days_left=days_left,
            check_of_store=bridge.check_of_store,
        )

    def studies(self, call: Call) -> Response:
        """Search."""
        found, following = studies.search(call, studies.PAGE)
        given = {name: value for name, value in call.request.query_params.items() if value and name != "after"}
        return self._page(
            "studies",
            call,
            found=[(one, studies.accession_numbers(one, call)) for one in found],
            filters=studies.filters_for(call),
            given=given,
            states=list(State),
            destinations=[one.name for one in call.store.destinations()],
            following=urlencode(given | {"after": following}) if following else "",
        )

    def study(self, call: Call) -> Response:
        """One study."""
        asked = one_study.asked_study(call)
        view, destined = one_study.view_of(asked, call), one_study.destined(asked, call)
        resources = [
            [
                (resource["resourceType"], orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode())
                for resource in one.preview.resources
            ]
            for one in destined
        ]
        shown = list(zip(view.document["deliveries"], destined, resources, strict=True))
        return self._page("study", call, view=view, deliveries=shown, masked=not call.shows_identifiers)

    def problems(self, call: Call) -> Response:
        """What a person must decide."""
        refused, is_more = studies.refused(call, _PROBLEMS)
        conflicts = studies.conflicting(call, _PROBLEMS)
        alike = Counter(kind_of(patients) for _, patients in conflicts)
        return self._page(
            "problems",
            call,
            seen=bridge.overview(call.store, None, _PROBLEMS),
            conflicts=[
                (one, settlement.described(patients, call.shows_identifiers), alike[kind_of(patients)])
                for one, patients in conflicts
            ],
            refused=refused,
            counts=sorted(Counter(name for _, reasons in refused for name, _ in reasons).items()),
            is_more=is_more,
        )

    def explain(self, call: Call) -> Response:
        """The form for a file."""
        versions, profiles = call.previewer.choices()
        return self._page("explain", call, versions=versions, profiles=profiles, most=MAX_FILE_BYTES)

    def explained(self, call: Call) -> Response:
        """The part of the page that shows what a file becomes."""
        return self._templates.page("explained", document=explained(call))

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


def _why_it_waits(study: StudyStatus, seen: Overview) -> list[tuple[str, State, str]]:
    """Destination, state, and why it waits; the words of a server may name the patient, and are left out."""
    return [
        (one.destination, one.state, bridge.why(one, study, seen.daemon, seen.at, words=False))
        for one in study.deliveries
    ]
