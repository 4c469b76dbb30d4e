"""FHIR servers and the validator that all processes of a test run share; the one that was started first owns them.

Workers of pytest-xdist ask it over a socket. It outlives them, so that a server ends after the last test. When it
is killed, its pipes to the servers break, and they end by themselves.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from tests.servers.process import ServerProcess
from tests.servers.validator.validator import Findings, Question, Validator, ValidatorProcess


class SharedServers(Validator):
    """``base_url("medplum", "r4")`` starts a server where it does not run yet; several threads may ask."""

    def __init__(
        self,
        make: Callable[[str, str], ServerProcess] = ServerProcess,
        make_validator: Callable[[], ValidatorProcess] = ValidatorProcess,
    ) -> None:
        self._make = make
        self._make_validator = make_validator
        self._validator: ValidatorProcess | None = None
        self._lock = threading.Lock()
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

    def check_all(self, questions: Iterable[Question]) -> list[Findings]:
        """See :meth:`tests.servers.validator.validator.Validator.check_all`; the first call starts it."""
        with self._lock:
            self._validator = self._validator or self._make_validator()
        return self._validator.check_all(questions)

    def address(self) -> str:
        """Where other processes may ask, see :class:`ServersOfAnother`."""
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
        if self._validator is not None:
            self._validator.close()
            self._validator = None

    def _accept(self, listener: Listener) -> None:
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._answer, args=(listener.accept(),), daemon=True).start()

    def _answer(self, asker: Connection) -> None:
        with asker:
            name, arguments = asker.recv()
            try:
                value, trouble = getattr(self, name)(*arguments), ""
            except RuntimeError as error:
                value, trouble = None, str(error)
            asker.send((value, trouble))


class ServersOfAnother(Validator):
    """The servers of another process, by the address that it was told."""

    def __init__(self, address: str) -> None:
        self._address = address

    def base_url(self, name: str, version: str) -> str:
        """See :meth:`SharedServers.base_url`."""
        return str(self._ask("base_url", name, version))

    def check_all(self, questions: Iterable[Question]) -> list[Findings]:
        """See :meth:`SharedServers.check_all`."""
        found: list[Findings] = self._ask("check_all", list(questions))
        return found

    def _ask(self, name: str, *arguments: object) -> Any:
        with Client(self._address, "AF_UNIX") as owner:
            owner.send((name, arguments))
            value, trouble = owner.recv()
        if trouble:
            raise RuntimeError(trouble)
        return value
