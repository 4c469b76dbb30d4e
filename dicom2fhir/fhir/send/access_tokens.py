"""Access tokens of OAuth 2.0 (RFC 6749): kept until they end, and renewed once for all threads of a destination."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from requests import PreparedRequest

from dicom2fhir.errors import ServerUnavailable
from dicom2fhir.fhir.send.auth import Credentials

_EARLY = 0.1
_EARLIEST_S = 30.0
"""A token is renewed when a tenth of its lifetime is left, but not earlier than this before its end."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, which is never shown.

    Attributes
    ----------
    lifetime_s
        From the moment of the request; infinite if the server does not state it.
    scope
        Empty if the server does not state it: then it is the one that was requested (RFC 6749 section 5.1).
    """

    value: str = field(repr=False)
    lifetime_s: float = math.inf
    scope: str = ""


@dataclass(slots=True)
class _Kept:
    header: str = field(repr=False)
    renew_at: float
    end_at: float
    was_accepted: bool = False


class AccessTokens(Credentials):
    """Adds an access token to each request; thread-safe.

    Parameters
    ----------
    fetch
        Requests a token. Raises ServerUnavailable, or its subclass NotAuthorised. Called by one thread at a time.
    clock
        Monotonic seconds.

    Raises
    ------
    ServerUnavailable
        A request is sent and no token can be had. Threads that waited for the same token get the same error.
    """

    def __init__(self, fetch: Callable[[], AccessToken], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._failure: ServerUnavailable | None = None
        self._failed_at = -math.inf

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = self._current().header
        return request

    def expired(self, request: PreparedRequest, status: int) -> bool:
        """Whether the token of a request was accepted before and is not now (401).

        A token that was never accepted is not exchanged for another at once: the next would be refused, too.
        """
        sent = request.headers["Authorization"]
        with self._lock:
            kept = self._kept
            if kept is None or kept.header != sent:  # another thread has found that it has expired
                return status == 401
            if status != 401:
                kept.was_accepted = True
                return False
            self._kept = None
            return kept.was_accepted

    def _current(self) -> _Kept:
        asked_at = self._clock()
        with self._lock:
            kept, now = self._kept, self._clock()
            if kept is not None and now < kept.renew_at:
                return kept
            if self._failure is not None and self._failed_at > asked_at:  # of the thread that we waited for
                raise _copy(self._failure)
            try:
                self._kept = self._renewed(now)
            except ServerUnavailable as error:
                if kept is not None and self._clock() < kept.end_at:
                    kept.renew_at = kept.end_at
                    return kept
                self._kept, self._failure, self._failed_at = None, error, self._clock()
                raise
            return self._kept

    def _renewed(self, now: float) -> _Kept:
        token = self._fetch()
        early_s = min(token.lifetime_s * _EARLY, _EARLIEST_S)
        end_at = now + token.lifetime_s
        return _Kept(f"Bearer {token.value}", end_at - early_s, end_at)


def _copy(error: ServerUnavailable) -> ServerUnavailable:
    """Threads must not raise one exception together: each adds its own traceback."""
    return type(error)(str(error), error.after_s, issues=error.issues)
