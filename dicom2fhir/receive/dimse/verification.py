"""A service class user for C-ECHO, to check whether a receiver responds (PS3.4 annex A).

It does not use pynetdicom, which sometimes loses an answer and does not report why there is no association.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dicom2fhir.errors import CannotUnderstand, ServerUnavailable
from dicom2fhir.receive.dimse import command_set
from dicom2fhir.receive.dimse.negotiation import verification_request
from dicom2fhir.receive.dimse.options import IpNetwork, is_within
from dicom2fhir.system.network import failure

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA_TF, _RELEASE_RQ = 2, 3, 4, 5
"""PS3.8 section 9.3.1."""
_COMMAND_AND_LAST = 0x03
_CONTEXT = 1
_LONGEST_PDU = 64 * 1024

_REJECTED = {
    (1, 3): "calling AE title {calling} is not accepted; use one of receiver.calling_ae_titles (--calling-ae)",
    (1, 7): "called AE title {called} is not recognized; use the AE title of the receiver (--called-ae)",
    (3, 1): "it is busy; try again later",
    (3, 2): "its limit of associations is reached (receiver.max_associations); try again later",
}
"""Source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
_NO_REASON = "it rejected the association (source {source}, reason {reason} of PS3.8 table 9-21); see its log"
_SILENT = (
    "it closed the connection without a response; check that this machine is in receiver.networks, and"
    " whether TLS is required (--tls)"
)


@dataclass(frozen=True, slots=True)
class Secured:
    """The options for TLS.

    Attributes
    ----------
    authority
        Certificates (PEM); the receiver's must be one of them or be signed by one. None: the system's store.
    any_name
        Whether the certificate may be for another host name.
    certificate, key
        The client certificate and its key, for a receiver that requires them.
    """

    authority: Path | None
    any_name: bool
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS context for the connection.

        Raises
        ------
        ServerUnavailable
            A file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.authority) if self.authority else None)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # ``authority`` may be the receiver's own certificate
            context.check_hostname = not self.any_name
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
            raise ServerUnavailable(
                f"TLS: {self.authority or ''} {self.certificate or ''} {self.key or ''}:"
                f" {why or 'not matching PEM files'}"
            ) from None
        return context


def own_address(host: str, networks: tuple[IpNetwork, ...]) -> str:
    """The address at which this machine reaches its own receiver; one within ``networks`` if it listens on all."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 (it is compared)
        return host
    loopback = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    addresses = (loopback, *(_address_towards(network) for network in networks))
    return next((address for address in addresses if address and is_within(address, networks)), loopback)


def _address_towards(network: IpNetwork) -> str:
    """This machine's source address for a network; empty if there is no route. Nothing is sent."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((str(network.broadcast_address), 9))
            return str(asking.getsockname()[0])
    except OSError:
        return ""


def echo(
    host: str, port: int, called_ae: str, calling_ae: str, secured: Secured | None = None, timeout_s: float = 10.0
) -> float:
    """Send one C-ECHO; return the seconds from the connection to the answer.

    Raises
    ------
    ServerUnavailable
        There is no answer, or it is not Success; the message says what to check.
    """
    where = f"{called_ae} at [{host}]:{port}" if ":" in host else f"{called_ae} at {host}:{port}"
    context = secured.context() if secured else None
    started = time.monotonic()
    try:
        with closing(socket.create_connection((host, port), timeout_s)) as plain:
            _ask_over(plain, context, host, called_ae, calling_ae)
    except ServerUnavailable as error:
        raise ServerUnavailable(f"{where}: {error}") from error
    except OSError as error:
        raise ServerUnavailable(failure(error, where)) from error
    return time.monotonic() - started


def _ask_over(plain: socket.socket, context: ssl.SSLContext | None, host: str, called_ae: str, calling_ae: str) -> None:
    try:
        with context.wrap_socket(plain, server_hostname=host) if context else plain as connection:
            _ask(connection, called_ae, calling_ae)
    except (ConnectionError, ssl.SSLEOFError):
        raise ServerUnavailable(_SILENT) from None


def _ask(connection: socket.socket, called_ae: str, calling_ae: str) -> None:
    connection.sendall(verification_request(called_ae, calling_ae, _CONTEXT))
    kind, body = _receive(connection)
    if kind == _ASSOCIATE_RJ and len(body) >= 4:
        _, _, source, reason = body[:4]
        words = _REJECTED.get((source, reason), _NO_REASON)
        raise ServerUnavailable(words.format(called=called_ae, calling=calling_ae, source=source, reason=reason))
    if kind != _ASSOCIATE_AC:
        raise ServerUnavailable(
            "it did not respond to the association request; check that this is the port of a DICOM receiver"
        )
    command = command_set.encode_echo()
    connection.sendall(
        _PDU.pack(_P_DATA_TF, len(command) + 6) + _PDV.pack(len(command) + 2, _CONTEXT, _COMMAND_AND_LAST) + command
    )
    kind, body = _receive(connection)
    if kind != _P_DATA_TF or not _is_success(body):
        raise ServerUnavailable("C-ECHO failed; see its log")
    connection.sendall(_PDU.pack(_RELEASE_RQ, 4) + bytes(4))
    _receive(connection)


def _is_success(body: bytes) -> bool:
    try:
        return command_set.status_of(body[_PDV.size :]) == command_set.SUCCESS.code
    except CannotUnderstand:
        return False


def _receive(connection: socket.socket) -> tuple[int, bytes]:
    """The type and content of the next PDU."""
    kind, length = _PDU.unpack(_exactly(connection, _PDU.size))
    if length > _LONGEST_PDU:
        raise ServerUnavailable("no DICOM on this port; check the port, and whether TLS is required (--tls)")
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ServerUnavailable(_SILENT)
        data += part
    return data
