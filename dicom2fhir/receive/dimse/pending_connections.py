"""Connections that wait for their association to begin, including the TLS handshake.

They wait without a thread, so that a flood of them costs little. One thread accepts them as fast as they arrive, even
only to close some: in the system's queue, a connection waits for all earlier ones. Other threads do what takes time, a
step of a handshake or the start of an association, and take turns between the addresses of the peers.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from dicom2fhir.receive.dimse.connection import Ended

_ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before the waiting ones are processed."""
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(slots=True, eq=False)
class PendingConnection:
    """A connection that has not begun an association.

    Attributes
    ----------
    since
        When it was accepted, by :func:`time.monotonic`.
    waits_for
        Events of :mod:`selectors`.
    is_ready
        Whether it can take a step: it waits for a thread here and not for its peer.
    has_begun, is_secure
        Whether it has taken a step; whether the TLS handshake is done.
    """

    connection: socket.socket
    peer: str
    since: float
    waits_for: int = _READ
    is_ready: bool = False
    has_begun: bool = False
    is_secure: bool = False

    def step(self, tls: ssl.SSLContext | None) -> bool:
        """Take a step without waiting; return whether an association may begin.

        Raises
        ------
        Ended
            The peer closed the connection.
        OSError
            The connection is broken, or the handshake failed.
        """
        if tls is not None and not self.is_secure:
            self._shake_hands(tls)
            return False
        # not SSLSocket.recv, which does not support flags
        if not socket.socket.recv(self.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            raise Ended
        return True

    def _shake_hands(self, tls: ssl.SSLContext) -> None:
        if not isinstance(self.connection, ssl.SSLSocket):
            self.connection = tls.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
        self.waits_for = _READ
        try:
            self.connection.do_handshake()
            self.is_secure = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self.waits_for = _WRITE


class PendingConnections:
    """Connections from their acceptance to the first byte of their association request.

    One thread calls :meth:`arrivals`, :meth:`add`, :meth:`wait` and :meth:`drop`; others :meth:`next` and
    :meth:`put_back`.
    """

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._wake_up, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, _READ)
        self._selector.register(self._woken, _READ)
        self._lock = threading.Condition()
        self._connections: dict[PendingConnection, None] = {}
        self._ready: dict[str, deque[PendingConnection]] = {}
        """Connections that can take a step, by the address of the peer; the next address is first."""
        self._returned: list[PendingConnection] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._connections)

    def connections(self) -> list[PendingConnection]:
        """The waiting connections."""
        with self._lock:
            return list(self._connections)

    def arrivals(self) -> Iterator[tuple[socket.socket, str]]:
        """Accept new connections; each with the address of its peer.

        Raises
        ------
        OSError
            The system cannot accept more of them now.
        """
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            yield connection, str(address[0])

    def add(self, waiting: PendingConnection) -> None:
        """Add a connection."""
        waiting.connection.setblocking(False)
        with self._lock:
            self._connections[waiting] = None
        self._selector.register(waiting.connection, waiting.waits_for, waiting)

    def wait(self, timeout_s: float) -> None:
        """Wait until a connection arrives or can take a step."""
        found = self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)  # before registering those that return, or one that returns now would wait long
        with self._lock:
            ready = [key.data for key, _ in found if key.data is not None]
            for waiting in ready:
                self._selector.unregister(waiting.connection)
                waiting.is_ready = True
                of_peer = self._ready.setdefault(waiting.peer, deque())
                # so that a flood of new connections does not delay those that have begun
                (of_peer.appendleft if waiting.has_begun else of_peer.append)(waiting)
            self._lock.notify(len(ready))
            for waiting in self._returned:
                if waiting in self._connections:
                    self._selector.register(waiting.connection, waiting.waits_for, waiting)
            self._returned.clear()

    def drop(self, waiting: PendingConnection) -> None:
        """Close a waiting connection; does nothing if it no longer waits."""
        with self._lock:
            if waiting not in self._connections:
                return
            del self._connections[waiting]
            with contextlib.suppress(KeyError):  # it can take a step, or returns from one
                self._selector.unregister(waiting.connection)
        waiting.connection.close()

    def next(self) -> PendingConnection | None:
        """Remove and return the next connection that can take a step; None after :meth:`close`."""
        with self._lock:
            while not self._is_closed:
                while self._ready:
                    peer = next(iter(self._ready))
                    of_peer = self._ready.pop(peer)
                    waiting = of_peer.popleft()
                    if of_peer:
                        self._ready[peer] = of_peer  # behind the others
                    if waiting in self._connections:
                        del self._connections[waiting]
                        return waiting
                self._lock.wait()
        return None

    def put_back(self, waiting: PendingConnection) -> None:
        """Add a connection again after a step."""
        with self._lock:
            if self._is_closed:
                waiting.connection.close()
                return
            waiting.is_ready, waiting.has_begun = False, True
            self._connections[waiting] = None
            self._returned.append(waiting)
            with contextlib.suppress(BlockingIOError):
                self._wake_up.send(b"\0", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close all waiting connections, and those that return."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        for waiting in self.connections():
            self.drop(waiting)
        self._selector.close()
        self._wake_up.close()
        self._woken.close()
