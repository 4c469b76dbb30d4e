"""Where connections wait until they have something to say to an association, the TLS handshake included.

They wait without a thread, so that a flood of them costs next to nothing. One thread accepts them as fast as they come,
if only to turn some away: whoever waits in the system's queue is held up by all who came before. Others do what takes
time, a step of a handshake or starting an association, and take turns between the addresses of the peers.
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
"""Connections that are accepted before those that wait are looked after."""
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
        Whether it can take a step, so that it waits for us and not for its peer.
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
        """Do what can be done without waiting; whether an association may begin.

        Raises
        ------
        Ended
            The peer closed the connection.
        OSError
            It is broken, or the handshake failed.
        """
        if tls is not None and not self.is_secure:
            self._shake_hands(tls)
            return False
        # not by the method of SSLSocket, which has no flags
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
    """Connections from their acceptance to their first message.

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
        """Those who can take a step, by the addresses of their peers: the one whose turn it is first."""
        self._returned: list[Guest] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._guests)

    def guests(self) -> list[Guest]:
        """Those who wait."""
        with self._lock:
            return list(self._guests)

    def arrivals(self) -> Iterator[tuple[socket.socket, str]]:
        """Connections that have come, and the addresses of their peers.

        Raises
        ------
        OSError
            The system cannot give more of them now.
        """
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            yield connection, str(address[0])

    def take_in(self, guest: Guest) -> None:
        """Let a connection wait."""
        guest.connection.setblocking(False)
        with self._lock:
            self._guests[guest] = None
        self._selector.register(guest.connection, guest.waits_for, guest)

    def wait(self, timeout_s: float) -> None:
        """Until somebody comes or can take a step."""
        found = self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)  # before those who came back are looked at, or one who comes now would wait for long
        with self._lock:
            ready = [key.data for key, _ in found if key.data is not None]
            for guest in ready:
                self._selector.unregister(guest.connection)
                guest.is_ready = True
                of_peer = self._ready.setdefault(guest.peer, deque())
                # so that a flood of newcomers does not keep those from their next step who have begun
                (of_peer.appendleft if guest.has_begun else of_peer.append)(guest)
            self._lock.notify(len(ready))
            for guest in self._returned:
                if guest in self._guests:
                    self._selector.register(guest.connection, guest.waits_for, guest)
            self._returned.clear()

    def show_out(self, guest: Guest) -> None:
        """Close a connection that waits; nothing happens to one that waits no longer."""
        with self._lock:
            if guest not in self._guests:
                return
            del self._guests[guest]
            with contextlib.suppress(KeyError):  # it can take a step, or comes back from one
                self._selector.unregister(guest.connection)
        guest.connection.close()

    def next(self) -> Guest | None:
        """Who may take a step, which is a guest no longer; None once the lobby is closed."""
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
        """Let a connection wait that has taken a step."""
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
        """Close all that wait, and those that come back."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        for guest in self.guests():
            self.show_out(guest)
        self._selector.close()
        self._wake_up.close()
        self._woken.close()
