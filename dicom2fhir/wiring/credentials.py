"""Builds what identifies the bridge to a FHIR server, from the options of its destination."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import SecretStr

from dicom2fhir.config import FhirDestinationSettings, Settings
from dicom2fhir.config.secret_files import read_secret
from dicom2fhir.errors import ConfigError
from dicom2fhir.fhir.send.access_tokens import AccessTokens
from dicom2fhir.fhir.send.auth import Basic, Bearer, Credentials, Headers
from dicom2fhir.fhir.send.http import Http
from dicom2fhir.fhir.send.scopes import missing_scopes
from dicom2fhir.fhir.send.tls_and_proxy import TlsFiles
from dicom2fhir.fhir.send.token_endpoint import MAX_ANSWER_BYTES, TokenEndpoint, TokenRequest

if TYPE_CHECKING:
    from dicom2fhir.fhir.send.client_key import ClientKey

_TOKEN_EXCHANGES = 6
"""The most that one request to the FHIR server may last, in exchanges: discovery and token, the request, and all three
again after 401."""


def tls_files(destination: FhirDestinationSettings) -> TlsFiles:
    """The files for TLS with the FHIR server."""
    return TlsFiles(destination.ca_file, destination.tls_certificate, destination.tls_key)


def credentials(destination: FhirDestinationSettings) -> Credentials | None:
    """What is added to each request."""
    own = _own(destination)
    values: dict[str, Callable[[], str]] = {
        **{name: partial(SecretStr.get_secret_value, value) for name, value in destination.headers.items()},
        **{name: partial(read_secret, path, f"header_files.{name}") for name, path in destination.header_files.items()},
    }
    return Headers(values, own) if values else own


def _own(destination: FhirDestinationSettings) -> Credentials | None:
    match destination.auth:
        case "basic":
            return Basic(destination.username, destination.secret)
        case "bearer":
            return Bearer(destination.secret)
        case "oauth2":
            return AccessTokens(_token_endpoint(destination).fetch)
        case "none":
            return None


def token_facts(destination: FhirDestinationSettings) -> dict[str, str]:
    """What ``check-config`` says of an access token, which is requested: how long it is valid, and for what.

    Raises
    ------
    ServerUnavailable
        There is none.
    """
    token = _token_endpoint(destination).fetch()
    lifetime = f"valid for {token.lifetime_s:g} s" if math.isfinite(token.lifetime_s) else "of unknown lifetime"
    scope = f", scope: {token.scope}" if token.scope else ", scope as requested"
    missing = missing_scopes(destination.oauth2.scope, token.scope) if token.scope else []
    warning = f"the access token is granted without {' '.join(missing)}; ask for it where the client is registered"
    return {"token": f"access token {lifetime}{scope}", "warning": warning if missing else ""}


def _token_endpoint(destination: FhirDestinationSettings) -> TokenEndpoint:
    options = destination.oauth2
    tls = TlsFiles(options.ca_file or destination.ca_file, destination.tls_certificate, destination.tls_key)
    http = Http(auth=None, timeout_s=destination.timeout_s, tls=tls, max_response_bytes=MAX_ANSWER_BYTES)
    request = TokenRequest(
        client_id=options.client_id,
        authentication=options.authentication,
        secret=options.secret,
        assert_client=lambda client_id, audience: client_key(destination).assertion(client_id, audience),
        url=options.token_url,
        scope=options.scope,
        audience=options.audience,
        resource=options.resource,
        assertion_audience=options.assertion_audience,
    )
    return TokenEndpoint(destination.url, request, http)


def client_key(destination: FhirDestinationSettings) -> ClientKey:
    """The private key of a destination that has one.

    Raises
    ------
    ConfigError
        Authlib is not installed.
    """
    require_authlib()
    from dicom2fhir.fhir.send.client_key import ClientKey  # here, because it may not be installed

    path = destination.oauth2.private_key_file
    assert path is not None  # noqa: S101 (checked with the settings)
    return ClientKey(path, destination.oauth2.key_id)


def require_authlib() -> None:
    """Check that private keys can be used.

    Raises
    ------
    ConfigError
        Authlib is not installed.
    """
    if find_spec("authlib") is None:
        raise ConfigError("private_key_file needs Authlib; install it: pip install 'dicom2fhir-bridge[oauth]'")


def require_extras(settings: Settings, name: str) -> None:
    """Check that what the credentials of a destination need is installed.

    Raises
    ------
    ConfigError
        It is not.
    """
    destination = settings.destinations[name]
    if isinstance(destination, FhirDestinationSettings) and destination.oauth2.private_key_file:
        try:
            require_authlib()
        except ConfigError as error:
            raise ConfigError(f"destinations.{name}.oauth2: {error}") from None


def longest_request_s(destination: FhirDestinationSettings) -> float:
    """The most that one request to the FHIR server may last, tokens included."""
    return destination.timeout_s * (_TOKEN_EXCHANGES if destination.auth == "oauth2" else 1)
