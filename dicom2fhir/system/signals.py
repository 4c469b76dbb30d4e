"""Signals to a daemon."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_signals(flags: Mapping[signal.Signals, threading.Event]) -> Iterator[None]:
    """Signals only set a flag; the former handlers are restored afterwards."""

    def handle(number: int, _frame: FrameType | None) -> None:
        flags[signal.Signals(number)].set()

    before = {number: signal.signal(number, handle) for number in flags}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, flags)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
