"""The bytes of one connection: blocking reads into one buffer that is used again and again.

Nothing here looks at a clock while it waits. A thread that reads or writes says until when it may wait, and the
listener's thread, which looks around several times a second, wakes it when that time has come. So a read is one
system call, and a peer that takes no answers is bounded in the same way as a silent one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

_FIRST_BUFFER_BYTES = 8 * 1024
"""Enough for most association requests; a connection that never becomes an association costs no more."""
BUFFER_BYTES = 128 * 1024

NEVER = float("inf")

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Two minutes until a peer whose machine is gone is noticed; seconds, seconds, probes."""


class Ended(Exception):
    """The peer closed the connection, or somebody here wants it to end."""


class Wire:
    """One connection; read and written by one thread, ended by any.

    Attributes
    ----------
    since
        When it was accepted.
    expires_at
        By :func:`time.monotonic`; for the listener to watch, who calls :meth:`expire` when it has come.
    received_bytes
        Everything so far.
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
        """Take the buffer for data sets, once the peer has shown who it is."""
        wide = memoryview(bytearray(BUFFER_BYTES))
        left = self._end - self._start
        wide[:left] = self._buffer[self._start : self._end]
        self._buffer, self._start, self._end = wide, 0, left

    @property
    def has_more(self) -> bool:
        """Whether bytes wait in the buffer already."""
        return self._start < self._end

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        if _QUICK_ACK is not None:
            # Senders that leave Nagle's algorithm on hold the data set back until the command is acknowledged, and
            # the system would do that after 40 ms. It forgets this option, so it is set before each wait.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        count = self._socket.recv_into(self._buffer[self._end :])
        if not count or self._woken:
            raise Ended
        self._end += count
        self.received_bytes += count

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next bytes as ``layout`` says; few, because they must fit into the buffer together.

        Raises
        ------
        Ended
            They do not come.
        """
        while self._end - self._start < layout.size:
            self._fill()
        start = self._start
        self._start += layout.size
        return layout.unpack_from(self._buffer, start)

    def wait(self) -> None:
        """Until there are bytes to take.

        Raises
        ------
        Ended
            There will be none.
        """
        if self._start == self._end:
            self._fill()

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next bytes as they come; a piece is good until the next one is asked for.

        Raises
        ------
        Ended
            They do not come.
        """
        while count:
            if self._start == self._end:
                self._fill()
            start = self._start
            self._start = min(start + count, self._end)
            count -= self._start - start
            yield self._buffer[start : self._start]

    def skip(self, count: int) -> None:
        """Read and drop bytes.

        Raises
        ------
        Ended
            They do not come.
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
            The connection is gone.
        """
        self._socket.sendall(data)

    def expire(self) -> None:
        """End the present wait because it took too long; the thread that waits says goodbye."""
        self.expired = True
        self.wake()

    def wake(self) -> None:
        """Let a read end with :class:`Ended`, now or when it comes to that; writing still works."""
        self._woken = True
        self._shut_down(socket.SHUT_RD)

    def cut(self) -> None:
        """End everything that waits."""
        self._woken = self.is_cut = True
        self._shut_down(socket.SHUT_RDWR)

    def see_off(self) -> None:
        """Wait for the peer to close, so that it can read what was sent last (PS3.8 section 9.2, state 13)."""
        with contextlib.suppress(OSError):
            while self._socket.recv_into(self._buffer):
                pass

    def close(self) -> None:
        """Give the connection back to the system."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _shut_down(self, how: int) -> None:
        # not by the method of SSLSocket, which lets go of TLS while the other thread is within it
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)
