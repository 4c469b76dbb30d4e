"""HTTP settings from the environment: trusted certificates and proxies.

Nothing else comes from the environment: ``.netrc``, whose credentials requests would send to any host of that name, is
not read.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
"""The system's certificate store: an OpenSSL that was installed with Python uses other paths."""

_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")


class TlsFault(Exception):
    """A file that TLS needs cannot be used; the message names its option and the reason."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for connections to a server.

    Attributes
    ----------
    ca_file
        Certificates to trust instead of the system's.
    certificate
        Our own, for servers that require one (mutual TLS), with its chain.
    key
        Its private key; None if it is in the same file.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS context of connections; the files are read now.

        Raises
        ------
        TlsFault
            A file is not usable.
        """
        try:
            context = _verifying(self.ca_file)
        except OSError as error:
            named = f"ca_file {self.ca_file}" if self.ca_file else "the file that REQUESTS_CA_BUNDLE names"
            reason = _reason(error, "the file contains no certificates")
            raise TlsFault(f"{named} cannot be used: {reason}") from None
        if self.certificate is not None:
            try:
                # a key with a passphrase is refused: OpenSSL would ask for it on a terminal
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
            except (OSError, ValueError) as error:
                named = f"tls_certificate {self.certificate}" + (f" with tls_key {self.key}" if self.key else "")
                reason = _reason(error, "they must be PEM files that belong together, the key without a passphrase")
                raise TlsFault(f"{named} cannot be used: {reason}") from None
        return context


def _reason(error: OSError | ValueError, otherwise: str) -> str:
    """What the operating system says of a file; ``otherwise`` if it could be read but not used."""
    is_of_system = isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError)
    return (error.strerror if isinstance(error, OSError) and is_of_system else "") or otherwise


def _verifying(ca_file: Path | None) -> ssl.SSLContext:
    """A TLS context that verifies servers.

    The first that exists: ``ca_file``; the file or folder in ``REQUESTS_CA_BUNDLE``; ``SSL_CERT_FILE`` and
    ``SSL_CERT_DIR``; the system's store; the authorities of certifi.

    Raises
    ------
    OSError
        The file cannot be read, or contains no certificates.
    """
    named = str(ca_file or os.environ.get("REQUESTS_CA_BUNDLE", ""))
    if not named:
        paths = ssl.get_default_verify_paths()
        if paths.cafile or paths.capath:
            return ssl.create_default_context()
        named = next((bundle for bundle in _BUNDLES if os.path.exists(bundle)), DEFAULT_CA_BUNDLE_PATH)
    folder = os.path.isdir(named)
    return ssl.create_default_context(cafile=None if folder else named, capath=named if folder else None)


def proxies_for(url: str) -> Mapping[str, str]:
    """The proxies for a URL from ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` (in either case).

    None for loopback addresses, which a proxy could not reach.
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost") or _is_loopback(host):
        return {}
    return get_environ_proxies(url, no_proxy=None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def peer_of(url: str, proxies: Mapping[str, str]) -> str:
    """The ``host:port`` that a request connects to: the proxy, or the server itself."""
    proxy = select_proxy(url, dict(proxies))
    return f"the proxy {address(proxy)}" if proxy else address(url)


def origin_of(url: str, base: str) -> str:
    """Scheme, host and port of a URL, which may be relative to ``base``: its other parts may identify a patient."""
    try:
        parts = urlsplit(urljoin(base, url))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "what is no URL"
    if not _HOST.fullmatch(host):
        return "what is no URL"
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}"


def address(url: str) -> str:
    """Host and port of a URL, without its other parts."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = parts.hostname or "?"
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
