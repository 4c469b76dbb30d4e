"""Requests access tokens with the grant of client credentials (RFC 6749 section 4.4).

Where the token endpoint is not configured, the FHIR server names it
(https://hl7.org/fhir/smart-app-launch/conformance.html).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode, urlsplit

import orjson

from dicom2fhir.errors import ConfigError, NotAuthorised, ServerUnavailable
from dicom2fhir.fhir.send.access_tokens import AccessToken
from dicom2fhir.fhir.send.auth import basic, is_bearer_token
from dicom2fhir.fhir.send.client_authentication import ClientAuthentication
from dicom2fhir.fhir.send.http import Answer, Http, retry_after_s
from dicom2fhir.fhir.send.operation_outcome import cleaned
from dicom2fhir.fhir.send.tls_and_proxy import origin_of

MAX_ANSWER_BYTES = 64 * 1024
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
_MOST_AFTER_S = 3600.0
_WORDS = {
    "invalid_request": "the request is not accepted; check audience, resource and scope",
    "invalid_client": "the client is unknown or its credentials are not accepted; check client_id and its secret, or"
    " that the public key is registered (`dicom2fhir jwks` prints it)",
    "invalid_grant": "the client is not allowed to have a token; check its registration",
    "unauthorized_client": "the client may not use client credentials; allow that grant in its registration",
    "unsupported_grant_type": "the server does not support client credentials; check token_url",
    "invalid_scope": "the scope is unknown or not granted to this client; check scope",
    "invalid_target": "the resource is unknown; check resource (RFC 8707)",
}
"""The meaning of an ``error`` (RFC 6749 section 5.2) for the operator."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is sent to the token endpoint, and where it is.

    Attributes
    ----------
    url
        Token endpoint; empty: the FHIR server names it.
    secret
        Read for each request, as ``assert_client``; which one is used follows from ``authentication``.
    assert_client
        Makes the signed statement of the client for an audience.
    assertion_audience
        Its ``aud``; empty: the URL of the token endpoint.
    """

    client_id: str
    authentication: ClientAuthentication
    secret: Callable[[], str]
    assert_client: Callable[[str, str], str]
    url: str = ""
    scope: str = ""
    audience: str = ""
    resource: str = ""
    assertion_audience: str = ""


class TokenEndpoint:
    """The token endpoint for one FHIR server.

    Parameters
    ----------
    http
        Without credentials, and with a limit on the size of answers. It follows no redirects.
    """

    def __init__(self, base_url: str, request: TokenRequest, http: Http) -> None:
        self._base_url = base_url
        self._request = request
        self._http = http
        self._found = ""

    def fetch(self) -> AccessToken:
        """Request a token.

        Raises
        ------
        NotAuthorised
            It is refused, or there is nothing to identify ourselves with.
        ServerUnavailable
            There is no usable answer.
        """
        url = self._request.url or self._found or self._discovered()
        try:
            headers, form = self._form(url)
        except ConfigError as error:
            raise NotAuthorised(f"no access token can be requested: {error}") from None
        try:
            token = _token_in(self._exchange("POST", url, headers, urlencode(form).encode()), _where(url))
        except ServerUnavailable:
            self._found = ""  # it may have moved
            raise
        if not self._request.url:
            self._found = url
        return token

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
        try:
            return self._http.exchange(method, url, headers, body)
        except ServerUnavailable as error:
            # no study was sent, so none is the cause
            raise ServerUnavailable(f"token endpoint: {error}" if body else f"discovery: {error}") from None

    def _form(self, url: str) -> tuple[dict[str, str], dict[str, str]]:
        """The headers and the parameters of the request."""
        asked = self._request
        named = {"scope": asked.scope, "audience": asked.audience, "resource": asked.resource}
        form = {"grant_type": "client_credentials", **{name: value for name, value in named.items() if value}}
        match asked.authentication:
            case "client_secret_basic":
                # encoded first (RFC 6749 section 2.3.1)
                pair = quote_plus(asked.client_id), quote_plus(asked.secret())
                return {**_FORM, "Authorization": basic(*pair)}, form
            case "client_secret_post":
                return _FORM, {**form, "client_id": asked.client_id, "client_secret": asked.secret()}
            case "private_key_jwt":
                assertion = asked.assert_client(asked.client_id, asked.assertion_audience or url)
                return _FORM, {**form, "client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}
            case "tls_client_auth":  # RFC 8705 section 2.1
                return _FORM, {**form, "client_id": asked.client_id}

    def _discovered(self) -> str:
        """The token endpoint that the FHIR server names."""
        url = f"{self._base_url}/.well-known/smart-configuration"
        answer = self._exchange("GET", url, {"Accept": "application/json"})
        found = _object_in(answer).get("token_endpoint") if answer.status == 200 else None
        if not isinstance(found, str) or not found.isascii() or not found.isprintable() or " " in found:
            raise NotAuthorised(
                f"{url}: HTTP {answer.status}, without a token_endpoint; set token_url, the server does not name it"
            )
        if urlsplit(found).scheme != "https" and urlsplit(found).scheme != urlsplit(self._base_url).scheme:
            raise NotAuthorised(
                f"{url}: the token_endpoint ({origin_of(found, url)}) does not use https, so no credentials are sent;"
                " set token_url"
            )
        return found


def _where(url: str) -> str:
    return url.partition("?")[0]


def _object_in(answer: Answer) -> dict[str, object]:
    """The JSON object of an answer; empty if it is anything else."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _token_in(answer: Answer, where: str) -> AccessToken:
    """The token (RFC 6749 section 5.1)."""
    found = _object_in(answer)
    if answer.status != 200:
        raise _failure(answer, found, where)
    token, kind = found.get("access_token"), found.get("token_type")
    if not isinstance(token, str) or not is_bearer_token(token):
        raise ServerUnavailable(f"{where}: the answer has no access_token; check that token_url is a token endpoint")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise ServerUnavailable(f"{where}: the token is no bearer token (token_type), and no other can be used")
    scope = found.get("scope")
    return AccessToken(token, _lifetime_s(found.get("expires_in")), cleaned(scope) if isinstance(scope, str) else "")


def _lifetime_s(stated: object) -> float:
    """``expires_in`` in seconds; some servers send it as text."""
    try:
        seconds = float(stated) if isinstance(stated, str | int | float) and not isinstance(stated, bool) else math.inf
    except ValueError:
        return math.inf
    return max(seconds, 0.0) if not math.isnan(seconds) else math.inf


def _failure(answer: Answer, found: dict[str, object], where: str) -> ServerUnavailable:
    status, code = answer.status, found.get("error")
    if 300 <= status < 400:
        target = origin_of(answer.headers.get("Location", ""), where)
        return ServerUnavailable(
            f"{where}: HTTP {status}, a redirect to {target}, which is not followed with credentials; set token_url"
        )
    said = found.get("error_description")
    issues = (cleaned(said),) if isinstance(said, str) and said else ()
    if isinstance(code, str) and code in _WORDS:
        return NotAuthorised(f"{where}: HTTP {status}, {code}: {_WORDS[code]}", issues=issues)
    if status in (400, 401, 403):
        return NotAuthorised(f"{where}: HTTP {status}: no access token is given; check client_id and its secret or key")
    does = "check token_url" if status < 500 and status != 429 else "the authorization server is not available"
    after_s = min(retry_after_s(answer.headers), _MOST_AFTER_S)
    return ServerUnavailable(f"{where}: HTTP {status} instead of an access token; {does}", after_s, issues=issues)
