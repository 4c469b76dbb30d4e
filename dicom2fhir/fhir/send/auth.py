"""HTTP authentication: none, user and password, or a bearer token."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from requests import PreparedRequest
from requests.auth import AuthBase

from dicom2fhir.errors import ConfigError, NotAuthorised


class Basic(AuthBase):
    """HTTP basic authentication (RFC 7617) in UTF-8.

    Parameters
    ----------
    password
        Called for each request, like the token of :class:`Bearer`.

    Raises
    ------
    NotAuthorised
        A request is sent and the password cannot be read.
    """

    def __init__(self, user: str, password: Callable[[], str]) -> None:
        self.user = user
        self.password = password

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        pair = f"{self.user}:{_read(self.password, 'password')}".encode()  # requests would send Latin-1
        request.headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        return request


class Bearer(AuthBase):
    """A bearer token (RFC 6750).

    Parameters
    ----------
    token
        Called for each request, so that a token that is replaced in its file is used at once. May raise ConfigError,
        OSError or ValueError.

    Raises
    ------
    NotAuthorised
        A request is sent and there is no usable token.
    """

    def __init__(self, token: Callable[[], str]) -> None:
        self.token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        token = _read(self.token, "bearer token").strip()
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise NotAuthorised("the bearer token is empty or contains invalid characters (RFC 6750 section 2.1)")
        request.headers["Authorization"] = f"Bearer {token}"
        return request


def _read(secret: Callable[[], str], name: str) -> str:
    try:
        return secret()
    except ConfigError as error:  # names the option and its file
        raise NotAuthorised(f"there is no {name}: {error}") from None
    except (OSError, ValueError) as error:
        raise NotAuthorised(f"the {name} cannot be read ({type(error).__name__})") from None
