"""The options of the web page, with their defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Face:
    """The options of a :class:`~dicom2fhir.web.server.WebServer`.

    Attributes
    ----------
    host
        An address or name of this machine; ``::`` means all addresses, IPv4 too.
    port
        0 means any free port; :attr:`~dicom2fhir.web.server.WebServer.url` has the one in use.
    server_names
        Names in ``Host`` that are accepted, besides addresses and those of this machine.
    token
        Returns the token that gives access, or an empty text if none is set; called for each request. May raise
        ConfigError.
    show_identifiers
        Whether identifiers of patients are shown.
    tls
        Makes the TLS context when the server starts; without it connections are not encrypted.
    """

    host: str = "127.0.0.1"
    port: int = 8112
    server_names: tuple[str, ...] = ()
    token: Callable[[], str] = str
    show_identifiers: bool = False
    tls: Callable[[], SSLContext] | None = None
