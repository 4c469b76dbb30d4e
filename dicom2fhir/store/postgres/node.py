"""A daemon among those that share the store: its heartbeat, and the commits of the others that it hears of."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable

import psycopg
import structlog

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.postgres.schema import Connection
from dicom2fhir.store.postgres.statements import DUE_CHANNEL

log = structlog.get_logger(__name__)

BEAT_S = 5.0
"""Between two heartbeats."""
DEAD_AFTER_S = 20.0
"""A daemon whose last heartbeat is older is dead: what it sent and received is released to the others."""
_AGAIN_S = 1.0
"""Before the next attempt to reach the server."""


def node_name() -> str:
    """What a person finds this process by."""
    return f"{socket.gethostname()}:{os.getpid()}"


class NodeThread(threading.Thread):
    """Keeps the heartbeat of this daemon, and listens for the commits of others.

    Parameters
    ----------
    process
        The number of this process.
    open_
        Opens a connection.
    on_beat
        Called with the connection after each heartbeat.
    on_buried
        Called when the others have taken this daemon for dead, and released what it had.
    on_due
        Called when another process has made a study due earlier.
    own_backend
        The number of the server's process that this daemon writes with; its notifications are ignored.
    """

    def __init__(
        self,
        process: int,
        open_: Callable[[], Connection],
        on_beat: Callable[[Connection], None],
        on_buried: Callable[[], None],
        on_due: Callable[[], None],
        own_backend: Callable[[], int],
    ) -> None:
        super().__init__(name="store-node", daemon=True)
        self._process = process
        self._open = open_
        self._on_beat = on_beat
        self._on_buried = on_buried
        self._on_due = on_due
        self._own_backend = own_backend
        self._ending, self._end = socket.socketpair()
        self._is_lost = False

    def stop(self) -> None:
        """End the thread."""
        self._end.close()
        self.join()
        self._ending.close()

    def run(self) -> None:
        """Beat and listen until it is stopped."""
        while not self._ends_within(0):
            try:
                with self._open() as connection:
                    connection.execute(f"LISTEN {DUE_CHANNEL}")
                    if self._is_lost:
                        self._is_lost = False
                        log.info("store.reconnected")
                        self._on_due()  # it may have missed something
                    self._beat_and_listen(connection)
            except (psycopg.Error, StoreUnavailable) as error:
                if not self._is_lost:
                    log.error("store.connection_lost", reason=str(error))
                self._is_lost = True
                self._ends_within(_AGAIN_S)

    def _beat_and_listen(self, connection: Connection) -> None:
        while True:
            self._beat(connection)
            select.select([connection.fileno(), self._ending.fileno()], [], [], BEAT_S)
            if self._ends_within(0):
                return
            if any(notice.pid != self._own_backend() for notice in connection.notifies(timeout=0)):
                self._on_due()

    def _beat(self, connection: Connection) -> None:
        beat = connection.execute("UPDATE node SET seen_at = clock_timestamp() WHERE id = %s", (self._process,))
        if not beat.rowcount:
            self._on_buried()
        self._on_beat(connection)

    def _ends_within(self, timeout_s: float) -> bool:
        return bool(select.select([self._ending], [], [], timeout_s)[0])
