"""A TCP proxy that can go away and come back, and lose answers, for tests of "the FHIR server is down"."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 65536


class OutageProxy:
    """Passes bytes to a server on, until it is told not to.

    Parameters
    ----------
    loses
        Asked once for each answer of the server: whether the connection is cut in place of it.

    Attributes
    ----------
    url
        The server's URL with the proxy's address in place of its own. The proxy rewrites nothing in what it passes on.
    lost
        Answers that were lost.
    """

    def __init__(self, base_url: str, loses: Callable[[], bool] = lambda: False) -> None:
        self._loses = loses
        self.lost = 0
        parts = urlsplit(base_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, tuple[socket.socket, socket.socket]] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._port = 0
        self.come_back()
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._port}"))

    def come_back(self) -> None:
        """Accept connections again, on the same port."""
        if self._listener is not None:
            return
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,))
        self._acceptor.start()

    def go_away(self) -> None:
        """Cut every connection and refuse new ones; returns when that is so."""
        listener, self._listener = self._listener, None
        if listener is None or self._acceptor is None:
            return
        listener.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
        self._acceptor.join()
        listener.close()
        with self._lock:
            connections = dict(self._connections)
            for pair in connections.values():
                for one in pair:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
        for thread in connections:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            thread = threading.Thread(target=self._pass_on, args=(client, server))
            with self._lock:
                self._connections[thread] = (client, server)
            thread.start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            for one in (client, server):
                selector.register(one, selectors.EVENT_READ)
            is_asked = False
            is_open = True
            while is_open:
                for key, _ in selector.select():
                    answers = key.fileobj is server
                    if answers and is_asked and self._is_lost():
                        is_open = False
                        break
                    is_asked = not answers
                    is_open &= self._pass_chunk(*((server, client) if answers else (client, server)))
        with self._lock:
            del self._connections[threading.current_thread()]
            client.close()
            server.close()

    def _is_lost(self) -> bool:
        is_lost = self._loses()
        with self._lock:
            self.lost += is_lost
        return is_lost

    @staticmethod
    def _pass_chunk(source: socket.socket, sink: socket.socket) -> bool:
        chunk = source.recv(_CHUNK_BYTES)
        sink.sendall(chunk)
        return bool(chunk)
