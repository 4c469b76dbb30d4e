"""A pool of connections that read; each is used by one caller at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.sql.writer import Connection

C = TypeVar("C", bound=Connection)


class ConnectionPool(Generic[C]):
    """The pool. There is not one connection per thread, because threads start and end with associations.

    Parameters
    ----------
    open_
        Opens a connection.
    """

    def __init__(self, open_: Callable[[], C]) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._closed = False

    def borrow(self) -> C:
        """A connection, to be given back.

        Raises
        ------
        StoreUnavailable
            The pool is closed.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailable("The store is closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def give_back(self, connection: C) -> None:
        """End the transaction of a connection, and keep it for the next caller; one that fails is closed."""
        try:
            connection.rollback()
        except Exception:  # whatever it is: nobody may use this one again
            with suppress(Exception):
                connection.close()
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close idle connections now, and the others when they are returned."""
        with self._lock:
            self._closed = True
        self.discard_idle()

    def discard_idle(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
