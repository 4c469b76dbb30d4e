"""A client of the web page of a daemon, and the daemon behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from ssl import SSLContext
from typing import Any
from urllib.parse import urlencode, urlsplit

from dicom2fhir import config
from dicom2fhir.daemon import Daemon

TOKEN = "a-token-for-tests-only"
WITHIN_S = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Sends requests as they are given, each over a connection of its own."""

    def __init__(self, url: str, context: SSLContext | None = None) -> None:
        self.url = url
        self.address = urlsplit(url).netloc
        self._context = context

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        kind = HTTPSConnection(self.address, timeout=WITHIN_S, context=self._context) if self._context else None
        connection = kind or HTTPConnection(self.address, timeout=WITHIN_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=_named(headers))

    def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        return self.ask(
            "POST",
            path,
            urlencode(form or {}).encode(),
            {"content-type": "application/x-www-form-urlencoded", **_named(headers)},
        )

    def change(self, path: str, form: Mapping[str, str] | None = None) -> Answer:
        """With the token."""
        return self.post(path, form, authorization=f"Bearer {TOKEN}")

    def log_in(self) -> str:
        """The cookie of a new session."""
        answer = self.post("/login", {"token": TOKEN})
        assert answer.status == 303, answer.text
        return answer.headers["set-cookie"].partition(";")[0]


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def settings_in(folder: Path, **sections: Any) -> dict[str, Any]:
    """A daemon that watches ``folder/inbox``, which is made, and delivers to ``folder/out``."""
    (folder / "inbox").mkdir()
    return {
        "receiver": {"port": 0},
        "web": {"port": 0, "token": TOKEN},
        "folders": {"inbox": {"path": str(folder / "inbox"), "stable_s": 0.1, "rescan_s": 1}},
        "store": {"directory": str(folder / "state"), "quiet_period_s": 0, "min_free_bytes": 0},
        "destinations": {"files": {"type": "file", "directory": str(folder / "out")}},
        **sections,
    }


@contextmanager
def serving(settings: Mapping[str, Any]) -> Iterator[tuple[Daemon, Browser]]:
    """A daemon whose page is served."""
    daemon = Daemon(config.load(overrides=settings, environ={}))
    try:
        daemon.start()
        assert daemon.web
        assert daemon.web.wait_until_listening(WITHIN_S)
        yield daemon, Browser(daemon.web.url)
    finally:
        daemon.stop()
