"""What the environment decides about HTTP: which certificates are trusted, and through which proxy requests go.

Nothing else comes from the environment: credentials in ``.netrc``, which requests would send to any host of that name,
stay unread.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
"""Where systems keep their store: an OpenSSL that came with Python and not with the system looks elsewhere."""

_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """What TLS connections are verified with.

    The first that is there: ``ca_file``; the file or folder that ``REQUESTS_CA_BUNDLE`` names; what ``SSL_CERT_FILE``
    and ``SSL_CERT_DIR`` name; the system's store; the authorities that come with certifi.

    Raises
    ------
    OSError
        The file cannot be read, or holds no certificates.
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
    """The proxies that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` (in either case) say for a URL.

    None for this machine itself, which another one could not reach.
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
    """Whom a request connects to, as ``host:port``: the proxy, or the server itself."""
    proxy = select_proxy(url, dict(proxies))
    return f"the proxy {address(proxy)}" if proxy else address(url)


def origin_of(url: str, base: str) -> str:
    """Scheme, host and port of a URL, which may be relative to ``base``: what else stands in it may name a patient."""
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
    """Host and port of a URL, and nothing of what else may stand in it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = parts.hostname or "?"
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
