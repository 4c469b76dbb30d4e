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
class Guest:
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


class Lobby:
    """Connections from their acceptance to the first byte of their association request.

    One thread calls :meth:`arrivals`, :meth:`take_in`, :meth:`wait` and :meth:`show_out`; others :meth:`next` and
    :meth:`take_back`.
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
        self._guests: dict[Guest, None] = {}
        self._ready: dict[str, deque[Guest]] = {}
        """Connections that can take a step, by the address of the peer; the next address is first."""
        self._returned: list[Guest] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._guests)

    def guests(self) -> list[Guest]:
        """The waiting connections."""
        with self._lock:
            return list(self._guests)

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

    def take_in(self, guest: Guest) -> None:
        """Add a connection."""
        guest.connection.setblocking(False)
        with self._lock:
            self._guests[guest] = None
        self._selector.register(guest.connection, guest.waits_for, guest)

    def wait(self, timeout_s: float) -> None:
        """Wait until a connection arrives or can take a step."""
        found = self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)  # before registering those that return, or one that returns now would wait long
        with self._lock:
            ready = [key.data for key, _ in found if key.data is not None]
            for guest in ready:
                self._selector.unregister(guest.connection)
                guest.is_ready = True
                of_peer = self._ready.setdefault(guest.peer, deque())
                # so that a flood of new connections does not delay those that have begun
                (of_peer.appendleft if guest.has_begun else of_peer.append)(guest)
            self._lock.notify(len(ready))
            for guest in self._returned:
                if guest in self._guests:
                    self._selector.register(guest.connection, guest.waits_for, guest)
            self._returned.clear()

    def show_out(self, guest: Guest) -> None:
        """Close a waiting connection; does nothing if it no longer waits."""
        with self._lock:
            if guest not in self._guests:
                return
            del self._guests[guest]
            with contextlib.suppress(KeyError):  # it can take a step, or returns from one
                self._selector.unregister(guest.connection)
        guest.connection.close()

    def next(self) -> Guest | None:
        """Remove and return the next connection that can take a step; None once the lobby is closed."""
        with self._lock:
            while not self._is_closed:
                while self._ready:
                    peer = next(iter(self._ready))
                    waiting = self._ready.pop(peer)
                    guest = waiting.popleft()
                    if waiting:
                        self._ready[peer] = waiting  # behind the others
                    if guest in self._guests:
                        del self._guests[guest]
                        return guest
                self._lock.wait()
        return None

    def take_back(self, guest: Guest) -> None:
        """Add a connection again after a step."""
        with self._lock:
            if self._is_closed:
                guest.connection.close()
                return
            guest.is_ready, guest.has_begun = False, True
            self._guests[guest] = None
            self._returned.append(guest)
            with contextlib.suppress(BlockingIOError):
                self._wake_up.send(b"\0", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close all waiting connections, and those that return."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        for guest in self.guests():
            self.show_out(guest)
        self._selector.close()
        self._wake_up.close()
        self._woken.close()
