"""A small HTTP proxy: CONNECT, and requests with the whole URL; it may want credentials, or refuse."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from tests.socket_server import SocketServer


class Proxy(SocketServer):
    """Listens on 127.0.0.1 until closed.

    Parameters
    ----------
    user
        ``name:password`` that requests must have; others are answered with 407.
    refusal
        A status with which every CONNECT is answered.
    """

    def __init__(self, user: str = "", refusal: int = 0) -> None:
        self._wanted = b"Basic " + base64.b64encode(user.encode()) if user else b""
        self._refusal = refusal
        self.asked: list[str] = []
        """First lines of the requests."""
        super().__init__()
        self.address = f"127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := connection.recv(65536)):
                return
            head += part
        line = head.split(b"\r\n")[0].decode()
        self.asked.append(line)
        method, target, _ = line.split()
        if self._wanted and self._wanted not in head:
            connection.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif method == "CONNECT" and self._refusal:
            connection.sendall(f"HTTP/1.1 {self._refusal} No\r\nContent-Length: 0\r\n\r\n".encode())
        elif method == "CONNECT":
            host, _, port = target.rpartition(":")
            self._join(connection, host, int(port), b"", b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            url = urlsplit(target)
            path = head.replace(target.encode(), url.path.encode(), 1)
            self._join(connection, url.hostname or "", url.port or 80, path, b"")

    def _join(self, connection: socket.socket, host: str, port: int, request: bytes, answer: bytes) -> None:
        # names of the tests' own, which no name server knows, are this machine
        with socket.create_connection(("127.0.0.1" if host.endswith(".test") else host, port)) as server:
            self.ends_with_us(server)
            server.sendall(request)
            connection.sendall(answer)
            back = threading.Thread(target=_pump, args=(server, connection), daemon=True)
            back.start()
            _pump(connection, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
