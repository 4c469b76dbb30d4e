"""Signals to a daemon."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class SignalInbox:
    """Signals to the process, for a loop in its main thread that other threads can wake.

    A handler in Python runs in the main thread between any two of its instructions. If it took a lock, such as that of
    a :class:`threading.Event`, the thread could wait for itself. So the handler only notes the signal, and the
    interpreter writes a byte to a socket (:func:`signal.set_wakeup_fd`), which ends the wait.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._received: set[signal.Signals] = set()

    @contextmanager
    def receives(self, numbers: Collection[signal.Signals]) -> Iterator[None]:
        """Receive these signals; the former handlers are restored afterwards, and the inbox is closed."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self._received.add(signal.Signals(number))

        before = {number: signal.signal(number, handle) for number in numbers}
        wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._reader.close()
            self._writer.close()

    def wait(self, timeout_s: float) -> set[signal.Signals]:
        """The signals since the last call; returns early if there is one, and when :meth:`wake` is called."""
        select.select([self._reader], [], [], timeout_s)
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        received, self._received = self._received, set()
        return received

    def wake(self) -> None:
        """End :meth:`wait`, from any thread."""
        with suppress(OSError):  # it is full, so that `wait` ends anyway, or closed
            self._writer.send(b"\0")
