"""File system events of a folder; they are hints and may be incomplete."""

from __future__ import annotations

import os
import threading

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

_MOST = 10_000

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Without those that reading a file causes."""


class FolderEvents(FileSystemEventHandler):
    """Collects the paths of events below a folder.

    Parameters
    ----------
    arrived
        Set when there are paths to take.
    """

    def __init__(self, folder: str, arrived: threading.Event) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._overflow = False
        self._observer: BaseObserver = Observer()
        self._observer.schedule(self, folder, recursive=True, event_filter=_EVENTS)

    def start(self) -> None:
        """Start to collect events.

        Raises
        ------
        OSError
            The system has no watches left, or cannot watch this folder.
        """
        self._observer.start()

    def stop(self) -> None:
        """Stop collecting events; return when the observer has ended."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()

    def is_alive(self) -> bool:
        """Whether events can still arrive."""
        return self._observer.is_alive() and all(emitter.is_alive() for emitter in self._observer.emitters)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Remember one path; called by watchdog's thread."""
        path = os.fsdecode(event.dest_path or event.src_path)
        with self._lock:
            if len(self._paths) < _MOST:
                self._paths.add(path)
            else:
                self._overflow = True
        self._arrived.set()

    def take(self) -> tuple[set[str], bool]:
        """The paths since the last call, and whether some are missing."""
        with self._lock:
            taken = self._paths, self._overflow
            self._paths, self._overflow = set(), False
        return taken
