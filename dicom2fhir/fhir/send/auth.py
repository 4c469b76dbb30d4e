"""HTTP authentication: none, user and password, or a bearer token; and other headers that a server requires."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping

from requests import PreparedRequest
from requests.auth import AuthBase

from dicom2fhir.errors import ConfigError, NotAuthorised


class Credentials(AuthBase):
    """What is added to each request."""

    def expired(self, request: PreparedRequest, status: int) -> bool:
        """Whether a request that was answered with this status may succeed with new credentials."""
        return False


class Basic(Credentials):
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
        request.headers["Authorization"] = basic(self.user, _read(self.password, "password"))
        return request


def basic(user: str, password: str) -> str:
    """The value of ``Authorization``."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"  # requests would send Latin-1


class Bearer(Credentials):
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
        if not is_bearer_token(token):
            raise NotAuthorised("the bearer token is empty or contains invalid characters (RFC 6750 section 2.1)")
        request.headers["Authorization"] = f"Bearer {token}"
        return request


def is_bearer_token(text: str) -> bool:
    """Whether a text can be sent as a bearer token (RFC 6750 section 2.1)."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


class Headers(Credentials):
    """Other headers, such as the API key of a gateway, beside the credentials of the server.

    Parameters
    ----------
    values
        Name -> its value; each is called for each request, like the token of :class:`Bearer`.

    Raises
    ------
    NotAuthorised
        A request is sent and a value cannot be read, or cannot be sent.
    """

    def __init__(self, values: Mapping[str, Callable[[], str]], others: Credentials | None) -> None:
        self.values = values
        self.others = others

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the headers."""
        for name, value in self.values.items():
            text = _read(value, f"value of the header {name}").strip()
            if not text or not text.isascii() or not text.isprintable():
                raise NotAuthorised(f"the value of the header {name} is empty or contains invalid characters")
            request.headers[name] = text
        return request if self.others is None else self.others(request)

    def expired(self, request: PreparedRequest, status: int) -> bool:
        """Whether those of the server have expired."""
        return self.others is not None and self.others.expired(request, status)


def _read(secret: Callable[[], str], name: str) -> str:
    try:
        return secret()
    except ConfigError as error:  # names the option and its file
        raise NotAuthorised(f"there is no {name}: {error}") from None
    except (OSError, ValueError) as error:
        raise NotAuthorised(f"the {name} cannot be read ({type(error).__name__})") from None
