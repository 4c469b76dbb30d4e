"""TLS for the receiver by BCP 195 (RFC 9325) and the secure connection profiles of PS3.15 sections B.12 and B.13."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dicom2fhir.errors import BridgeError, ConfigError, NotReady

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption (RFC 9325 section 4.2). TLS 1.3 has no others."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files.

    Attributes
    ----------
    certificate
        The receiver's own, with the chain up to the root.
    key
        Its private key; None if it is in the same file.
    client_ca
        Certificates of the authorities that sign peers' certificates; None: peers need no certificate.
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None


def server_context(files: Tls) -> ssl.SSLContext:
    """The TLS context for incoming connections.

    Raises
    ------
    ConfigError
        A file is not usable.
    NotReady
        A file cannot be read now.
    """
    context = _restricted()
    try:
        # a key with a passphrase is refused: OpenSSL would ask for it on a terminal
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise _unusable(error)(
            f"tls_certificate = {str(files.certificate)!r}, tls_key = {str(files.key or '')!r}: {_reason(error)}; both"
            " must be readable PEM files that belong together, the key without a passphrase"
        ) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(error)(
                f"tls_client_ca = {str(files.client_ca)!r}: {_reason(error)}; must be a PEM file"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def cipher_suites() -> list[tuple[str, str]]:
    """The protocol version and the name of each cipher suite that is accepted, the preferred one first."""
    return [(str(suite["protocol"]), str(suite["name"])) for suite in _restricted().get_ciphers()]


def _restricted() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _unusable(error: Exception) -> type[BridgeError]:
    """The error class for an unusable file: a missing or unreadable one may be usable later (a mount, a renewal)."""
    return NotReady if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else ConfigError


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
