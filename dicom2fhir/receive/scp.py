"""The listener for C-ECHO and C-STORE. Callers see plain arguments, bytes and callbacks; pynetdicom stays behind it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any, cast

import structlog
from pynetdicom import AE, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom2fhir.errors import ConfigError
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.association import VERIFICATION, Acceptor, Callbacks

log = structlog.get_logger()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_POLL_S = 0.1
_LAST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and to whom a :class:`StorageSCP` listens.

    Attributes
    ----------
    port
        0 takes any free port; :attr:`StorageSCP.address` tells which.
    calling_ae_titles
        Who may open an association; everybody when empty.
    networks
        From where connections are taken, IPv4 and IPv6; from everywhere when empty.
    acse_timeout_s
        For the association request to come after the connection.
    dimse_timeout_s
        For one PDU to come, from its first byte to its last.
    network_timeout_s
        For anything to come over an open association.
    max_pdu_bytes
        Longest P-DATA-TF that peers are asked to send (PS3.8 D.1), and are allowed to.
    max_header_bytes
        Longest data set without its Pixel Data.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    ae_title: str = "DICOM2FHIR"
    require_called_ae_title: bool = True
    calling_ae_titles: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    max_associations: int = 64
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 30.0
    network_timeout_s: float = 60.0
    max_pdu_bytes: int = 128 * 1024
    max_header_bytes: int = 64 * 1024 * 1024


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address belongs to one of the networks; an IPv4-mapped IPv6 address counts as the IPv4 address."""
    peer = ipaddress.ip_address(address)
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


class Server(ThreadedAssociationServer):
    """The listening socket; starts an :class:`Acceptor` for each connection."""

    request_queue_size = 128

    def __init__(
        self, *args: Any, listen: Listen, callbacks: Callbacks, stopping: threading.Event, **kwargs: Any
    ) -> None:
        self.listen = listen
        self.callbacks = callbacks
        self.stopping = stopping
        super().__init__(*args, **{**kwargs, "request_handler": _Connection})

    def _bind_defaults(self) -> None:
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse peers from other networks before a byte of theirs is read."""
        if not self.listen.networks or is_within(client_address[0], self.listen.networks):
            return True
        log.warning("connection.refused", peer=client_address[0], reason="not within the allowed networks")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection, and go on."""
        log.exception("connection.failed", peer=client_address[0])

    def stop_listening(self) -> None:
        """Close the port; associations go on."""
        BaseServer.shutdown(self)
        self.server_close()


class _Connection(RequestHandler):
    """Turns a connection into an association."""

    def handle(self) -> None:
        connection = cast(socket.socket, self.request)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Acceptor(cast(Server, self.server), connection, self.local, self.remote).start()


class StorageSCP:
    """Accepts C-ECHO and C-STORE for every storage SOP class and every transfer syntax.

    Parameters
    ----------
    on_received
        Takes one instance; Success (0000) is sent when it returns, and the status for its error (see
        :mod:`dicom2fhir.receive.dimse`) when it raises. Called from one thread per association.
    on_rejected
        Told of instances that did not get as far as ``on_received``, and why.
    on_association_ended
        Told once of each association that was accepted, by the name in its instances' ``Origin.association``, whatever
        ended it, after its last ``on_received``.
    """

    def __init__(
        self,
        listen: Listen,
        *,
        on_received: Callable[[Received], object],
        on_rejected: Callable[[Origin, str], None],
        on_association_ended: Callable[[str], None],
    ) -> None:
        self._listen = listen
        self._callbacks = Callbacks(on_received, on_rejected, on_association_ended)
        self._stopping = threading.Event()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on, once started."""
        if self._server is None:
            raise RuntimeError("not started")
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def associations(self) -> int:
        """How many associations are open, those still in negotiation too."""
        return len(self._server.ae.active_associations) if self._server else 0

    def is_alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    def start(self) -> None:
        """Listen.

        Raises
        ------
        ConfigError
            The address cannot be listened on or the AE title is not one.
        """
        listen = self._listen
        try:
            ae = AE(listen.ae_title)
            ae.require_called_aet = listen.require_called_ae_title
            ae.require_calling_aet = list(listen.calling_ae_titles)
        except ValueError as error:
            raise ConfigError(f"AE title: {error}") from error
        ae.maximum_associations = listen.max_associations
        ae.maximum_pdu_size = listen.max_pdu_bytes
        ae.acse_timeout = listen.acse_timeout_s
        ae.dimse_timeout = listen.dimse_timeout_s
        ae.network_timeout = listen.network_timeout_s
        ae.add_supported_context(VERIFICATION)
        try:
            self._server = cast(
                Server,
                ae.make_server(
                    (listen.host, listen.port),
                    server_class=Server,
                    listen=listen,
                    callbacks=self._callbacks,
                    stopping=self._stopping,
                ),
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(_why_not(listen, error)) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="storage SCP", daemon=True
        )
        self._thread.start()
        host, port = self.address
        log.info("scp.listening", host=host, port=port, ae_title=listen.ae_title)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Close the port, let instances that are being stored finish, abort the associations and wait for their end."""
        server = self._server
        if server is None or self._stopping.is_set():
            return
        deadline = time.monotonic() + timeout_s
        server.stop_listening()
        self._stopping.set()
        associations = [each for each in server.ae.active_associations if isinstance(each, Acceptor)]
        for association in associations:
            # the answer to the instance being stored is queued before the lock is free, the abort after it
            free = association.serving.acquire(timeout=max(0.0, deadline - time.monotonic()))
            if association.is_established:
                association.abort(block=False)
            else:
                association.disconnect()
            if free:
                association.serving.release()
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))
        late = [association for association in associations if association.is_alive()]
        for association in late:
            association.disconnect()
        end = time.monotonic() + _LAST_WAIT_S
        for association in late:
            association.join(max(0.0, end - time.monotonic()))
        stuck = sum(association.is_alive() for association in late)
        log.info("scp.stopped", aborted=len(associations), stuck=stuck)


def _why_not(listen: Listen, error: Exception) -> str:
    where = f"Cannot listen on {listen.host}:{listen.port}"
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name cannot be resolved; name an address of this machine."
    if number == errno.EADDRINUSE:
        return f"{where}: another program uses the port; stop it or choose another port."
    if number == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address; use one of its own, or 0.0.0.0 or :: for all."
    if number in (errno.EACCES, errno.EPERM):
        return f"{where}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a port above."
    if isinstance(error, OverflowError):
        return f"{where}: a port is a number from 0 to 65535."
    return f"{where}: {error}"
