"""Blocking reads and writes on one connection, with one reused buffer.

The socket has no timeout. A thread that reads or writes sets a deadline in :attr:`Wire.expires_at`. The listener's
thread checks it several times a second and wakes the other thread when it has passed. So a read is one system call, and
a peer that does not read its answers has the same time limit as a silent one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

_FIRST_BUFFER_BYTES = 8 * 1024
"""Enough for most association requests; a connection that never becomes an association uses no more."""
BUFFER_BYTES = 128 * 1024

NEVER = float("inf")

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds, seconds, probes: an unreachable peer is detected after two minutes."""


class Ended(Exception):
    """The peer closed the connection, or another thread ended it."""


class Wire:
    """One connection; one thread reads and writes, any thread may end it.

    Attributes
    ----------
    since
        When the connection was accepted.
    expires_at
        Deadline, by :func:`time.monotonic`; the listener calls :meth:`expire` when it has passed.
    received_bytes
        Number of bytes received so far.
    """

    def __init__(self, connection: socket.socket, since: float, expires_at: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.settimeout(None)
        self._socket = connection
        self._buffer = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._start = self._end = 0
        self.since = since
        self.expires_at = expires_at
        self.expired = self.is_cut = self._woken = False
        self.received_bytes = 0

    def widen(self) -> None:
        """Switch to the large buffer for data sets, once the association is accepted."""
        wide = memoryview(bytearray(BUFFER_BYTES))
        left = self._end - self._start
        wide[:left] = self._buffer[self._start : self._end]
        self._buffer, self._start, self._end = wide, 0, left

    @property
    def has_more(self) -> bool:
        """Whether the buffer holds unread bytes."""
        return self._start < self._end

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        if _QUICK_ACK is not None:
            # Senders with Nagle's algorithm hold back the data set until the command is acknowledged, which the system
            # would do after 40 ms. The system resets this option, so it is set before each read.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        count = self._socket.recv_into(self._buffer[self._end :])
        if not count or self._woken:
            raise Ended
        self._end += count
        self.received_bytes += count

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Read and unpack the next bytes, which must fit into the buffer together.

        Raises
        ------
        Ended
            The connection ended first.
        """
        while self._end - self._start < layout.size:
            self._fill()
        start = self._start
        self._start += layout.size
        return layout.unpack_from(self._buffer, start)

    def wait(self) -> None:
        """Wait until there are bytes to read.

        Raises
        ------
        Ended
            The connection ended.
        """
        if self._start == self._end:
            self._fill()

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next bytes as they arrive; a piece is valid until the next one is requested.

        Raises
        ------
        Ended
            The connection ended first.
        """
        while count:
            if self._start == self._end:
                self._fill()
            start = self._start
            self._start = min(start + count, self._end)
            count -= self._start - start
            yield self._buffer[start : self._start]

    def skip(self, count: int) -> None:
        """Read and discard bytes.

        Raises
        ------
        Ended
            The connection ended first.
        """
        while count > self._end - self._start:
            count -= self._end - self._start
            self._start = self._end
            self._fill()
        self._start += count

    def send(self, data: bytes) -> None:
        """Write everything.

        Raises
        ------
        OSError
            The connection is broken.
        """
        self._socket.sendall(data)

    def expire(self) -> None:
        """End the current wait because it took too long; the waiting thread ends the association."""
        self.expired = True
        self.wake()

    def wake(self) -> None:
        """Make the current or next read raise :class:`Ended`; writing still works."""
        self._woken = True
        self._shut_down(socket.SHUT_RD)

    def cut(self) -> None:
        """End all reads and writes."""
        self._woken = self.is_cut = True
        self._shut_down(socket.SHUT_RDWR)

    def await_close(self) -> None:
        """Wait for the peer to close the connection, so that it can read the last PDU (PS3.8 section 9.2, state 13)."""
        with contextlib.suppress(OSError):
            while self._socket.recv_into(self._buffer):
                pass

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _shut_down(self, how: int) -> None:
        # not SSLSocket.shutdown, which drops the TLS state while the other thread uses it
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)
