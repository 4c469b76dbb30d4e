"""How a request proves who we are: nothing, a name and password, or a bearer token."""

from __future__ import annotations

from pathlib import Path

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from dicom2fhir.errors import NotAuthorised

_TOKEN_BYTES = 64 * 1024


class Basic(HTTPBasicAuth):
    """HTTP basic authentication (RFC 7617) in UTF-8."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(user.encode(), password.encode())  # as text, requests would send Latin-1


class Bearer(AuthBase):
    """A bearer token (RFC 6750) from a file that is read for each request, so that it may be replaced at any time.

    Raises
    ------
    NotAuthorised
        When a request is made while the file cannot be read or holds no usable token.
    """

    def __init__(self, token_file: Path) -> None:
        self.token_file = token_file

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        try:
            with self.token_file.open("rb") as file:
                token = file.read(_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotAuthorised(f"the bearer token file cannot be read ({type(error).__name__})") from None
        if not token or not token.isprintable() or " " in token:
            raise NotAuthorised("the bearer token file holds no token")
        request.headers["Authorization"] = f"Bearer {token}"
        return request
