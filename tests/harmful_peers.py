"""``python -m tests.harmful_peers PORT KIND...``: connections to a receiver that mean harm, until standard input ends.

A process of its own, so that it does not share an interpreter's lock with who measures. Connections that the receiver
ends are opened again. Kinds are ``NAME=COUNT`` of :data:`HARM`, or ``flood=RATE`` for so many new connections in a
second, each of which begins a TLS handshake or, without TLS, says nothing.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import sys
import time

from tests.scripted_peer import associate_rq, command, p_data, pdv

_SOURCE = "127.0.0.2"
"""Another address than that of who measures, where the system lets it be chosen."""
_TICK_S = 0.02
_KEPT_OF_A_FLOOD = 300
_AT_ONCE = 100
"""New connections between two looks at the others."""


def client_hello() -> bytes:
    """The beginning of a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


REQUEST = associate_rq()
HARM: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "dribble": (b"", REQUEST),
    "half-tls": (client_hello()[:-1], b""),
    "giant-claim": (b"\x01\0\xff\xff\xff\xff", bytes(1000)),
    "endless-message": (REQUEST + p_data(pdv(1, 3, command())), p_data(pdv(1, 0, bytes(10))) * 10_000),
}
"""What is sent at once, and what is sent byte by byte afterwards."""


class Harmful:
    """One connection."""

    def __init__(self, port: int, kind: str) -> None:
        self.first, self.rest = HARM[kind]
        self.at = 0
        self.socket = socket.socket()
        self.socket.bind((_SOURCE, 0))
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def tick(self) -> bool:
        """Send the next byte; whether the connection still stands."""
        try:
            if self.first:
                self.first = self.first[self.socket.send(self.first) :]
            elif self.at < len(self.rest):
                self.at += self.socket.send(self.rest[self.at : self.at + 1])
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.socket.close()
        return False


def main() -> None:
    """Do harm."""
    port, wanted = int(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:])
    rate = int(wanted.pop("flood", 0)) + int(wanted.pop("tls-flood", 0))
    hello = client_hello() if "tls-flood=" in " ".join(sys.argv) else b""
    kinds = [kind for kind, count in wanted.items() for _ in range(int(count))]
    present = [Harmful(port, kind) for kind in kinds]
    held: list[socket.socket] = []
    sent, began = 0, time.monotonic()
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while not selector.select(_TICK_S):
            present = [each if each.tick() else Harmful(port, kind) for each, kind in zip(present, kinds, strict=True)]
            missing = int(rate * (time.monotonic() - began)) - sent
            for _ in range(min(missing, _AT_ONCE)):  # a machine that is too slow must notice the end, too
                with contextlib.suppress(OSError):
                    held.append(socket.create_connection(("127.0.0.1", port), 5.0, (_SOURCE, 0)))
                    held[-1].sendall(hello)
                sent += 1
            for one in held[:-_KEPT_OF_A_FLOOD]:
                one.close()
            del held[:-_KEPT_OF_A_FLOOD]
    print(sent, flush=True)


if __name__ == "__main__":
    main()
