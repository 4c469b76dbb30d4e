"""The threads of a destination: they repeat a piece of work until they are stopped, and wait between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields

STORE_PAUSE_S = 1.0
"""Pause after the store was unavailable."""

log = structlog.get_logger(__name__)


class WorkerThreads:
    """Threads that work for one destination.

    Parameters
    ----------
    name
        The destination's name.
    count
        How many threads.
    work
        One piece of work; returns the seconds to wait before the next, at most.
    clock
        Monotonic seconds.
    """

    def __init__(self, name: str, count: int, work: Callable[[], float], clock: Callable[[], float]) -> None:
        self.name = name
        self.stopping = False
        self._work = work
        self._clock = clock
        self._changed = threading.Condition()
        self._wakes = 0
        self._beats: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"deliver-{name}-{number}", daemon=True)
            for number in range(1, count + 1)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start the threads; once only."""
        for thread in self._threads:
            self._beat(thread.name)
            thread.start()

    def wake(self) -> None:
        """End the wait of each thread."""
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Wait for the work to end; False if it has not ended in time."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def beat(self) -> None:
        """Show that the calling thread makes progress."""
        self._beat(threading.current_thread().name)

    def heartbeats(self) -> Mapping[str, float]:
        """Last heartbeat of each thread, on ``clock``."""
        with self._changed:
            return dict(self._beats)

    def pause(self, error: StoreUnavailable) -> None:
        """Log why the store is unavailable, and wait; a wake-up does not end this."""
        log.error("store.unavailable", destination=self.name, **log_fields(error))
        self._wait(STORE_PAUSE_S, None)
        self.beat()

    def _run(self) -> None:
        while not self.stopping:
            self.beat()
            wakes = self._wakes  # before the work, so that a wake-up during it is not missed
            try:
                idle_s = self._work()
            except StoreUnavailable as error:
                self.pause(error)
            except Exception as error:  # a thread that ends would silently stop the destination
                log.error("worker.failed", destination=self.name, **log_fields(BridgeFault(error)))
                self._wait(STORE_PAUSE_S, None)
            else:
                if idle_s > 0:
                    self._wait(idle_s, wakes)

    def _wait(self, idle_s: float, wakes: int | None) -> None:
        """Wait for the time, for a stop, or (if ``wakes`` is given) for a wake-up."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping or wakes not in (None, self._wakes), idle_s)

    def _beat(self, name: str) -> None:
        with self._changed:
            self._beats[name] = self._clock()
