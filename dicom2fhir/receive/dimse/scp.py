"""The listener for associations, with its limits on peers, connections and time."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, BridgeFault, ConfigError, NotReady, log_fields
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse.association import Association
from dicom2fhir.receive.dimse.connection import Ended, Wire
from dicom2fhir.receive.dimse.operation import Callbacks
from dicom2fhir.receive.dimse.options import Listen, is_within, plain
from dicom2fhir.receive.dimse.pending_connections import PendingConnection, PendingConnections
from dicom2fhir.receive.dimse.refusal_counts import Refusals
from dicom2fhir.receive.dimse.tls import server_context
from dicom2fhir.system.memory_budget import HeaderSpace

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.1
_LAST_WAIT_S = 2.0
_HANDSHAKE_THREADS = 2
"""Threads for TLS handshakes. OpenSSL computes without the interpreter's lock; more threads do not help."""
_BACKLOG = 4096
"""Connections that the system completes before they are accepted; the system's own limit may be lower."""
_MAX_AE_TITLE_CHARACTERS = 16
_LAST_PORT = 65535


class StorageSCP:
    """Accepts C-ECHO, C-STORE for every storage SOP class, and the normalized SOP classes that the options name.

    Every transfer syntax is accepted.

    Parameters
    ----------
    on_received
        Called with one instance and the reader that decodes it, from one thread per association. Success (0000) is sent
        when it returns, and the status for its error (see :mod:`dicom2fhir.receive.dimse.command_set`) when it raises.
    on_created, on_set
        The same for the data set of an N-CREATE and of an N-SET.
    on_rejected
        Called for data sets that are refused before any of them, with the error.
    on_association_ended
        Called once for each accepted association, however it ended, after its last ``on_received``; with the
        ``Origin.association`` of its instances.
    """

    def __init__(
        self,
        listen: Listen,
        *,
        on_received: Callable[[Received, InstanceReader], object],
        on_created: Callable[[Received], object],
        on_set: Callable[[Received], object],
        on_rejected: Callable[[Origin, BridgeError], None],
        on_association_ended: Callable[[str], None],
    ) -> None:
        self._listen = listen
        self._callbacks = Callbacks(on_received, on_created, on_set, on_rejected, on_association_ended)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._pending: PendingConnections | None = None
        self._thread: threading.Thread | None = None
        self._handshakers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._space = HeaderSpace(listen.max_held_bytes)
        self._refusals = Refusals()
        self._open: dict[Association, threading.Thread] = {}
        self._address = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the receiver listens on, once started."""
        if self._listener is None:
            raise RuntimeError("not started")
        return self._address

    @property
    def associations(self) -> int:
        """Number of open associations, including those in negotiation."""
        with self._lock:
            open_ = sum(not association.is_leaving for association in self._open)
        return open_ + (len(self._pending) if self._pending else 0)

    @property
    def senders(self) -> Mapping[tuple[str, str], int]:
        """Calling AE title and peer -> number of open associations, after negotiation; most first."""
        with self._lock:
            open_ = [each for each in self._open if each.is_associated and not each.is_leaving]
        return dict(Counter(each.sender for each in open_).most_common())

    @property
    def space(self) -> HeaderSpace:
        """The memory of ``max_held_bytes``; others who read data sets may share it."""
        return self._space

    @property
    def refused(self) -> Mapping[str, int]:
        """Counts of refused connections, associations and instances since the start, by kind."""
        return self._refusals.counts()

    def is_alive(self) -> bool:
        """Whether connections are accepted."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    def start(self) -> None:
        """Start to listen.

        Raises
        ------
        ConfigError
            Listening on the address is not permitted, the AE title is invalid or the files for TLS are not usable.
        NotReady
            The port is in use, this machine does not have the address yet, or a file for TLS is missing.
        """
        listen = self._listen
        _require_ae_title(listen)
        if not 0 <= listen.port <= _LAST_PORT:
            raise ConfigError(f"Cannot listen on {listen.host}:{listen.port}: a port is a number from 0 to 65535.")
        if listen.tls is not None:
            self._tls = server_context(listen.tls)
        try:
            self._listener = _bound(listen)
        except OSError as error:
            forbidden = error.errno in (errno.EACCES, errno.EPERM)
            raise (ConfigError if forbidden else NotReady)(_why_not(listen, error)) from error
        host, port = self._listener.getsockname()[:2]
        self._address = (str(host), int(port))
        self._pending = PendingConnections(self._listener)
        self._thread = threading.Thread(target=self._accept, args=(self._pending,), name="storage SCP", daemon=True)
        self._thread.start()
        for number in range(_HANDSHAKE_THREADS):
            name = f"storage SCP handshakes {number}"
            self._handshakers.append(
                threading.Thread(target=self._shake_hands, args=(self._pending,), name=name, daemon=True)
            )
            self._handshakers[-1].start()
        log.info("scp.listening", host=host, port=port, ae_title=listen.ae_title, tls=listen.tls is not None)

    def take_over(self, listen: Listen) -> None:
        """Apply new options to connections from now on; the files for TLS are read again.

        Open associations keep the options that they began with. The address and the port do not change.

        Raises
        ------
        ConfigError, NotReady
            As :meth:`start`; then nothing has changed.
        """
        _require_ae_title(listen)
        tls = server_context(listen.tls) if listen.tls is not None else None
        self._space.resize(listen.max_held_bytes - self._listen.max_held_bytes)
        self._listen, self._tls = listen, tls

    # The listener's thread

    def _accept(self, pending: PendingConnections) -> None:
        look_at = 0.0
        while not self._stopping.is_set():
            pending.wait(_LOOK_EVERY_S)
            try:
                for connection, address in pending.arrivals():
                    self._take_connection(pending, connection, address)
            except OSError as error:
                # such as too many open files, until connections end; the wait prevents a busy loop
                log.warning("connection.not_accepted", **log_fields(error))
                self._stopping.wait(_LOOK_EVERY_S)
            if (now := time.monotonic()) >= look_at:
                look_at = now + _LOOK_EVERY_S
                for waiting in pending.connections():
                    if now >= waiting.since + self._listen.acse_timeout_s:
                        log.info("connection.expired", peer=waiting.peer)
                        pending.drop(waiting)
                self._watch(now)
        pending.close()

    def _watch(self, now: float) -> None:
        with self._lock:
            present = list(self._open)
        for association in present:
            association.watch(now)

    def _take_connection(self, pending: PendingConnections, connection: socket.socket, address: str) -> None:
        """Let a connection wait for its first bytes, or close it."""
        listen = self._listen
        if listen.networks and not is_within(address, listen.networks):
            log.warning("connection.refused", peer=address, reason="address not allowed")
            self._refusals.count("connection: address not allowed")
            connection.close()
            return
        peer = plain(address)
        if self._make_room(pending, peer):
            pending.add(PendingConnection(connection, peer, time.monotonic()))
        else:
            self._refusals.count("connection: too many waiting")
            connection.close()

    def _make_room(self, pending: PendingConnections, peer: str) -> bool:
        """Whether one more connection may wait; another one may be closed for it.

        The one that is closed has been silent longest, of the address with the most silent connections: a peer that
        opens many displaces its own. At most half of the places are for connections that wait for a thread here: a
        flood gets no more, and the connections that it would displace have time to answer.
        """
        listen = self._listen
        if len(pending) + len(self._open) < min(listen.max_waiting, listen.max_waiting_per_peer) // 2:
            return True
        with self._lock:
            idle = [each for each in self._open if each.is_leaving or not each.is_associated]
        silent: list[Association | PendingConnection] = [each for each in idle if not each.wire.is_cut]
        connections = pending.connections()
        silent += [each for each in connections if not each.is_ready]
        ready = [each for each in connections if each.is_ready]
        of_peer = [each for each in silent if each.peer == peer]
        ready_of_peer = sum(each.peer == peer for each in ready)
        if 2 * len(ready) >= listen.max_waiting or 2 * ready_of_peer >= listen.max_waiting_per_peer:
            return False
        if len(of_peer) + ready_of_peer >= listen.max_waiting_per_peer:
            silent = of_peer
        elif len(silent) + len(ready) < listen.max_waiting:
            return True
        by_peer = Counter([peer, *(each.peer for each in silent)])
        most = max(by_peer.values())
        first = min((each for each in silent if by_peer[each.peer] == most), key=_since)
        if isinstance(first, PendingConnection):
            pending.drop(first)
        else:
            first.wire.cut()
        return True

    # The threads of handshakes

    def _shake_hands(self, pending: PendingConnections) -> None:
        """Perform TLS handshakes step by step, and start the associations."""
        while (waiting := pending.next()) is not None:
            try:
                if waiting.step(self._tls):
                    self._begin(waiting)
                else:
                    pending.put_back(waiting)
            except Ended:
                waiting.connection.close()
            except Exception as error:  # the peer is gone, or no thread can start: go on with the next connection
                log.warning("connection.failed", peer=waiting.peer, **log_fields(error))
                waiting.connection.close()

    def _begin(self, waiting: PendingConnection) -> None:
        association = Association(
            Wire(waiting.connection, waiting.since, waiting.since + self._listen.acse_timeout_s),
            waiting.peer,
            self._listen,
            self._callbacks,
            admit=self._admit,
            stopping=self._stopping,
            space=self._space,
            refusals=self._refusals,
        )
        thread = threading.Thread(
            target=self._live, args=(association,), name=f"association {waiting.peer}", daemon=True
        )
        with self._lock:
            self._open[association] = thread
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            with self._lock:
                del self._open[association]
            raise

    # The associations' threads

    def _live(self, association: Association) -> None:
        try:
            association.run()
        except Exception as error:  # the end of the thread: internal errors must be logged
            log.error("association.failed", peer=association.peer, **log_fields(BridgeFault(error)))
        finally:
            with self._lock:
                del self._open[association]

    def _admit(self, newcomer: Association) -> bool:
        listen = self._listen
        with self._lock:
            present = [each for each in self._open if each.is_associated and not each.is_leaving]
            of_peer = sum(each.peer == newcomer.peer for each in present)
            if len(present) >= listen.max_associations or of_peer >= listen.max_associations_per_peer:
                return False
            newcomer.is_associated = True
            return True

    # The thread that stops the receiver

    def stop(self, timeout_s: float = 10.0) -> None:
        """Close the port, let current instances finish, abort the associations and wait for their end."""
        if self._listener is None or self._thread is None or self._stopping.is_set():
            return
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._thread.join()
        for thread in self._handshakers:
            thread.join()
        self._listener.close()
        with self._lock:
            present = dict(self._open)
        for association in present:
            if association.is_idle:
                # one that is not idle checks the flag before it begins the next message
                association.wire.wake()
        self._wait(deadline)
        with self._lock:
            late = list(self._open)
        for association in late:
            association.wire.cut()
        self._wait(time.monotonic() + _LAST_WAIT_S)
        log.info("scp.stopped", aborted=len(present), stuck=len(self._open))

    def _wait(self, deadline: float) -> None:
        """Wait until every association has ended or the deadline has passed; enforce their time limits meanwhile."""
        while (now := time.monotonic()) < deadline:
            with self._lock:
                threads = list(self._open.values())
            if not threads:
                return
            self._watch(now)
            threads[0].join(min(_LOOK_EVERY_S, deadline - now))


def _since(waiting: Association | PendingConnection) -> float:
    return waiting.since if isinstance(waiting, PendingConnection) else waiting.wire.since


def _require_ae_title(listen: Listen) -> None:
    title = listen.ae_title
    if not (1 <= len(title.strip()) <= _MAX_AE_TITLE_CHARACTERS and title.isascii() and title.isprintable()):
        raise ConfigError(f"{title!r} is not an AE title: 1 to 16 ASCII characters (PS3.5 6.2).")


def _bound(listen: Listen) -> socket.socket:
    """A listening socket.

    Raises
    ------
    OSError
        The system does not provide it.
    """
    family, _, _, _, where = socket.getaddrinfo(listen.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = listen.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        (str(where[0]), listen.port),
        family=family,
        backlog=_BACKLOG,
        reuse_port=listen.reuse_port,
        dualstack_ipv6=both,
    )


def _why_not(listen: Listen, error: OSError) -> str:
    where = f"Cannot listen on {listen.host}:{listen.port}"
    number = error.errno
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name cannot be resolved; use an address of this machine."
    if number == errno.EADDRINUSE:
        return f"{where}: another program uses the port; stop it or choose another port."
    if number == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address; use one of its own, or 0.0.0.0 or :: for all."
    if number in (errno.EACCES, errno.EPERM):
        return f"{where}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a port from 1024 on."
    return f"{where}: {error}"
