"""FHIR servers that all processes of a test run share; the one that was started first owns them.

Workers of pytest-xdist ask it over a socket. It outlives them, so that a server ends after the last test. When it
is killed, its pipes to the servers break, and they end by themselves.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from tests.servers.process import ServerProcess


class SharedServers:
    """``base_url("medplum", "r4")`` starts a server where it does not run yet; several threads may ask."""

    def __init__(self, make: Callable[[str, str], ServerProcess] = ServerProcess) -> None:
        self._make = make
        self._servers: dict[tuple[str, str], ServerProcess] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._listener: Listener | None = None
        self._folder = ""

    def base_url(self, name: str, version: str) -> str:
        """Its base URL; returns when it answers.

        Raises
        ------
        RuntimeError
            It did not start.
        """
        key = (name, version)
        with self._locks.setdefault(key, threading.Lock()):
            if key not in self._servers:
                self._servers[key] = self._make(name, version)  # before it runs: an interrupted start is ended, too
                try:
                    self._servers[key].start()
                except RuntimeError:
                    self._servers.pop(key, None)
                    raise
            return self._servers[key].base_url

    def address(self) -> str:
        """Where other processes may ask, see :func:`ask`."""
        if self._listener is None:
            self._folder = tempfile.mkdtemp(prefix="dicom2fhir-servers-")
            self._listener = Listener(str(Path(self._folder, "socket")), "AF_UNIX", backlog=16)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return str(self._listener.address)

    def close(self) -> None:
        """End all of them."""
        if self._listener is not None:
            self._listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        for server in list(self._servers.values()):
            server.stop()
        self._servers.clear()

    def _accept(self, listener: Listener) -> None:
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._answer, args=(listener.accept(),), daemon=True).start()

    def _answer(self, asker: Connection) -> None:
        with asker:
            try:
                url, trouble = self.base_url(*asker.recv()), ""
            except RuntimeError as error:
                url, trouble = "", str(error)
            asker.send((url, trouble))


def ask(address: str, name: str, version: str) -> str:
    """What :meth:`SharedServers.base_url` answers in the process that owns the servers."""
    with Client(address, "AF_UNIX") as owner:
        owner.send((name, version))
        url, trouble = owner.recv()
    if trouble:
        raise RuntimeError(trouble)
    return str(url)
