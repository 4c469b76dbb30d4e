"""Who may do what over HTTP: host names, the token, sessions of browsers, and requests that other sites forge."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

COOKIE = "dicom2fhir_session"
CSRF_HEADER = "x-csrf-token"
SESSION_S = 12 * 3600.0
_MAX_SESSIONS = 100
_SAFE = ("GET", "HEAD")
_OPEN = ("/healthz", "/readyz", "/login")
_STATIC = "/static/"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers of proxies: the peer is not the one who asks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered, and the HTTP status for it."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has shown the token."""

    key: str
    csrf: str
    until: float
    token_digest: bytes
    """Of the token that it has shown; another token ends the session."""


class Sessions:
    """The sessions, in memory: a restart ends them.

    Parameters
    ----------
    steady
        A clock that is never set, in seconds.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def begin(self, token: str) -> Session:
        """A new session for somebody who has shown ``token``; the oldest ends if there are too many."""
        session = Session(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._steady() + SESSION_S, _digest(token)
        )
        with self._lock:
            while len(self._open) >= _MAX_SESSIONS:
                del self._open[next(iter(self._open))]
            self._open[session.key] = session
        return session

    def find(self, key: str, token: str) -> Session | None:
        """The session with this key, if it has not ended and the token is still the same."""
        with self._lock:
            session = self._open.get(key)
            if session is None:
                return None
            if session.until < self._steady() or session.token_digest != _digest(token):
                del self._open[key]
                return None
            return session

    def end(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(key, None)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the decision about a request depends on; names of headers are in lower case."""

    method: str
    path: str
    peer: str
    headers: Mapping[str, str]
    session_key: str = ""


class Gate:
    """Decides whether a request is answered.

    Parameters
    ----------
    names
        Host names that are accepted, in lower case; addresses always are, because no name leads to them.
    token
        As :attr:`dicom2fhir.web.options.Face.token`.
    """

    def __init__(self, names: Collection[str], token: Callable[[], str], sessions: Sessions) -> None:
        self._names = names
        self._token = token
        self._sessions = sessions

    def session(self, key: str) -> Session | None:
        """The session with this key."""
        token = self._token()
        return self._sessions.find(key, token) if key and token else None

    def begin(self, shown: str) -> Session | None:
        """A new session if the token that was shown is right."""
        token = self._token()
        return self._sessions.begin(token) if token and _same(shown, token) else None

    def end(self, key: str) -> None:
        """End a session."""
        self._sessions.end(key)

    def refusal(self, asked: Asked) -> Refusal | None:
        """Why a request is refused; None if it is answered.

        Raises
        ------
        ConfigError
            The token cannot be read.
        """
        host = asked.headers.get("host", "")
        if not self._is_known(host):
            return Refusal(
                421,
                "This server does not have the name that the request asks for. Use its address, or add the name to"
                " web.server_names.",
            )
        if asked.method not in _SAFE and not _comes_from_here(asked.headers, host):
            return Refusal(403, "Another site sent this request. Open the page itself.")
        if asked.path in _OPEN or asked.path.startswith(_STATIC):
            return None
        return self._without_right(asked)

    def _without_right(self, asked: Asked) -> Refusal | None:
        token = self._token()
        is_reading = asked.method in _SAFE
        if "authorization" in asked.headers:
            scheme, _, shown = asked.headers["authorization"].partition(" ")
            if scheme.lower() == "bearer" and token and _same(shown.strip(), token):
                return None
            return Refusal(401, "The token is wrong.")
        session = self._sessions.find(asked.session_key, token) if asked.session_key and token else None
        if session:
            if is_reading or _same(asked.headers.get(CSRF_HEADER, ""), session.csrf):
                return None
            return Refusal(403, "The request does not come from the page as it is now. Reload the page.")
        if is_reading and _is_local(asked):
            return None
        if not token:
            return Refusal(403, "Changes are disabled, because no token is set. Set web.token_file and reload.")
        return Refusal(401, "The token is needed: log in, or send it as a bearer token.")

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def _name_of(host: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _comes_from_here(headers: Mapping[str, str], host: str) -> bool:
    """Whether no browser says that a page of another origin sends the request."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == host.lower()


def _is_local(asked: Asked) -> bool:
    try:
        peer = ipaddress.ip_address(asked.peer.partition("%")[0])
    except ValueError:
        return False
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    return (mapped or peer).is_loopback and not any(name in asked.headers for name in _FORWARDED)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
