"""A server of bytes for tests: a thread for each connection, and all of them end with it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class SocketServer:
    """Listens on a free port of 127.0.0.1 from the start."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Play a connection; what the peer does to it ends it in silence."""
        raise NotImplementedError

    def ends_with_us(self, opened: socket.socket) -> socket.socket:
        """A socket that is closed when the server is."""
        self._open.append(opened)
        return opened

    def close(self) -> None:
        """End all connections."""
        for opened in self._open:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.serve(connection)


def read_request(connection: socket.socket) -> bytes:
    """The next HTTP request of a connection, head and body; empty where it was closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
