"""Messages for network errors: which peer, what went wrong over DNS, TCP or TLS, and what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

_UNTRUSTED = {
    10: "its certificate has expired; renew it, unless the clock of this machine is wrong",
    9: "its certificate is not valid yet; check the clocks of both machines",
    62: "its certificate is for another name; use a name that the certificate contains",
    64: "its certificate is for another address; use a name that the certificate contains",
}
"""Results of certificate verification (OpenSSL, X509_STORE_CTX_get_error)."""
_NO_AUTHORITY = (
    "its certificate is signed by an authority that this machine does not trust; set ca_file to the certificate of the"
    " authority, or add it to the system's store"
)
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
_OLD_TLS = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}
"""Reasons of :class:`ssl.SSLError` if the peer does not support TLS, or only old versions."""
_REFUSED_BY_ALERT = "ALERT"

_SYSTEM = {
    errno.ECONNREFUSED: "connection refused; check that it is running, and that the port is right",
    errno.ENETUNREACH: "no route to the network; check the network of this machine",
    errno.EHOSTUNREACH: "no route to the host; check the network and its firewalls",
    errno.EPERM: "this machine blocks the connection; check its firewall and the unit's IPAddressDeny",
    errno.EACCES: "this machine blocks the connection; check its firewall and the unit's IPAddressDeny",
    errno.ETIMEDOUT: "no response; check the address and the firewalls on the path",
    errno.EADDRNOTAVAIL: "this machine has no address to connect from; check the address and its network",
}
_CUT = "it closed the connection before responding; check its log, and the proxies and firewalls on the path"


def failure(error: BaseException, where: str) -> str:
    """The message for a failed connection to a peer.

    Parameters
    ----------
    error
        The exception; its causes are examined, too, because libraries wrap them. None of their texts is used: they may
        quote values.
    where
        The peer, as ``host:port``.

    Returns
    -------
    str
        The peer, what went wrong, and what to do; empty if it is not a network error.
    """
    for link in _links(error):
        if words := _problem(link):
            return f"{where}: {words}"
    return ""


def _links(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes, and the exceptions among its arguments, as of urllib3's."""
    left, seen = [error], set[int]()
    while left:
        link = left.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            within = (link.__cause__, link.__context__, *link.args)
            left += [inner for inner in within if isinstance(inner, BaseException)]


def _problem(error: BaseException) -> str:
    match error:
        case socket.gaierror():
            return "its name cannot be resolved (DNS); check the spelling, and this machine's name servers"
        case ssl.SSLCertVerificationError(verify_code=int(code)):
            return f"TLS: {_UNTRUSTED.get(code, _NO_AUTHORITY)}"
        case ssl.SSLError():
            return _tls_problem(error.reason or "")
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return _CUT
        case TimeoutError():
            return _SYSTEM[errno.ETIMEDOUT]
        case OSError(errno=int(number)):
            return _SYSTEM.get(number, os.strerror(number) if number in errno.errorcode else "")
    return ""


def _tls_problem(reason: str) -> str:
    if reason in _NO_TLS:
        return "it does not use TLS on this port; check the port, and whether to use https or http"
    if reason in _OLD_TLS:
        return "TLS: it supports only outdated versions; 1.2 or later is required"
    if _REFUSED_BY_ALERT in reason:
        return "TLS: it refused the handshake; it may require a client certificate, or one of another authority"
    if not reason or "EOF" in reason:
        return "TLS: it closed the connection during the handshake; check its log"
    return f"TLS: the handshake failed ({reason.lower().replace('_', ' ')})"
