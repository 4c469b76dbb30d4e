"""A PostgreSQL cluster of the tests' own, from Debian's package, in a temporary folder and on a Unix socket."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg

from dicom2fhir.store.postgres.store import PostgresStore
from tests.left_out import find_program

_KEPT_DATABASES = 8
"""No test uses more at a time."""
_IN_MEMORY = Path("/dev/shm")
_TEMPLATE = "empty_store"


class Cluster:
    """A server; it is killed with the process that started it.

    PostgreSQL refuses to run as root: then it runs as the user that the package made.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, on_disk: bool = False) -> None:
        self._settings = settings or {}
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.folder = Path(
            tempfile.mkdtemp(prefix="pg", dir=_IN_MEMORY if _IN_MEMORY.is_dir() and not on_disk else None)
        )
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
        options = ["--encoding=UTF8", "--locale=C", "--auth=trust", "--username=dicom2fhir", "--no-sync"]
        self._run("initdb", "--pgdata", str(self.folder / "data"), *options)
        self._server: subprocess.Popen[bytes] | None = None
        self.start()
        self._databases: deque[str] = deque()
        self._count = 0
        self._has_template = False

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {"listen_addresses": "", "max_connections": "200", "deadlock_timeout": "50ms", **self._settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen(
            [
                *self._prefix,
                self._program("postgres"),
                "-D",
                str(self.folder / "data"),
                "-k",
                str(self.folder),
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._run("pg_isready", "-h", str(self.folder), "-t", "30", until_it_succeeds=True)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server at once, as a crash does; what is committed stays."""
        assert self._server
        self._server.send_signal(how)
        self._server.wait()

    def url(self, database: str) -> str:
        return f"postgresql://dicom2fhir@/{database}?host={quote(str(self.folder), safe='')}"

    def new_database(self, *, is_empty: bool = False) -> str:
        """The URL of a new database, with an empty store; the oldest of many is deleted."""
        if not self._has_template and not is_empty:
            self._execute(f"CREATE DATABASE {_TEMPLATE}")
            PostgresStore(self.url(_TEMPLATE)).close()
            self._has_template = True
        self._count += 1
        name = f"d{self._count}"
        self._execute(f"CREATE DATABASE {name}" + ("" if is_empty else f" TEMPLATE {_TEMPLATE}"))
        self._databases.append(name)
        if len(self._databases) > _KEPT_DATABASES:
            self._execute(f"DROP DATABASE {self._databases.popleft()} WITH (FORCE)")
        return self.url(name)

    def remove(self) -> None:
        """Stop the server and delete its files."""
        if self._server and self._server.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _prefix(self) -> list[str]:
        who = [f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"] if os.geteuid() == 0 else []
        return ["setpriv", *who, "--pdeathsig=SIGQUIT", "--"]

    def _program(self, name: str) -> str:
        initdb = find_program("initdb")
        assert initdb
        return str(Path(initdb).resolve().with_name(name))

    def _run(self, program: str, *arguments: str, until_it_succeeds: bool = False) -> None:
        command = [*self._prefix, self._program(program), *arguments]
        while subprocess.run(command, check=not until_it_succeeds, capture_output=True, cwd="/").returncode:
            assert self._server and self._server.poll() is None, "the server has ended"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@cache
def cluster() -> Cluster:
    """The cluster of this process; it is started by the first test that needs it."""
    made = Cluster()
    atexit.register(made.remove)
    return made
