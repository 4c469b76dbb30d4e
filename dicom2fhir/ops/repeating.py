"""Threads that do a thing again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeating:
    """Calls ``do``, which raises nothing and returns the seconds until the next call, until it is stopped."""

    def __init__(self, name: str, do: Callable[[], float]) -> None:
        self._do = do
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; once only."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the call that runs; does nothing if the thread was not started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = self._do()
