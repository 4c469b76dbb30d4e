"""How a request proves who we are: nothing, a name and password, or a bearer token."""

from __future__ import annotations

from collections.abc import Callable

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from dicom2fhir.errors import ConfigError, NotAuthorised


class Basic(HTTPBasicAuth):
    """HTTP basic authentication (RFC 7617) in UTF-8."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(user.encode(), password.encode())  # as text, requests would send Latin-1


class Bearer(AuthBase):
    """A bearer token (RFC 6750).

    Parameters
    ----------
    token
        Asked for each request, so that a token which is replaced in its file is used at once. May raise ConfigError,
        OSError or ValueError.

    Raises
    ------
    NotAuthorised
        When a request is made and there is no usable token.
    """

    def __init__(self, token: Callable[[], str]) -> None:
        self.token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        try:
            token = self.token().strip()
        except (ConfigError, OSError, ValueError) as error:
            raise NotAuthorised(f"the bearer token cannot be read ({type(error).__name__})") from None
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise NotAuthorised("the bearer token is none")
        request.headers["Authorization"] = f"Bearer {token}"
        return request
