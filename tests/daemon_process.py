"""The daemon as a process of its own, as an operator runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom2fhir.store.sql.store import SqlStore
from dicom2fhir.store.statuses import Stats, StudyStatus
from dicom2fhir.wiring.store_options import StoreAddress
from tests.command_line import run_here
from tests.warm_start import WarmProcess, WarmStart

ROOT = Path(__file__).parents[1]
PROGRAM = "dicom2fhir"
READY_WITHIN_S = 60.0
STOPS_WITHIN_S = 40.0
SETTLES_WITHIN_S = 100.0
_LOOK_EVERY_S = 0.05

SETTINGS = """
[receiver]
port = 0
[store]
min_free_bytes = 0
quiet_period_s = 0
[fhir]
validation = "always"
[web]
port = 0
[log]
level = "debug"
format = "json"
"""


def with_receiver(options: str, settings: str = SETTINGS) -> str:
    """The settings with more options of the receiver."""
    return settings.replace("[receiver]\n", f"[receiver]\n{options}\n")


def environment() -> dict[str, str]:
    """This process' environment without what would configure the bridge or speak for it to systemd."""
    ours = ("DICOM2FHIR_", "NOTIFY_", "WATCHDOG_", "CREDENTIALS_", "STATE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def run_command(*arguments: str | Path, module: str = PROGRAM, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run ``dicom2fhir``, or another module that is it with something put in, to its end in a process of its own.

    Where that does not matter, :func:`tests.command_line.run_here` is quicker.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    settings: dict[str, Any] = {"capture_output": True, "cwd": ROOT, "env": environment(), "timeout": 90, **options}
    return subprocess.run(command, check=False, **settings)


def folder_to_files(place: Path) -> str:
    """Settings of a daemon that watches ``place/inbox``, which is made, and delivers to ``place/out``."""
    (place / "inbox").mkdir()
    return f"""
[folders.inbox]
path = "{place / "inbox"}"
stable_s = 0.1
rescan_s = 1
{to_files(place / "out")}"""


def to_files(directory: Path) -> str:
    """Settings of a destination that is a folder."""
    return f'[destinations.files]\ntype = "file"\ndirectory = "{directory}"\n'


def wait_until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Look until ``condition`` gives something true, and give that."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(_LOOK_EVERY_S)
    return found


class DaemonProcess:
    """``dicom2fhir serve`` on a free port, with a state folder that outlives the process.

    Parameters
    ----------
    flags
        Of ``serve``.
    settings
        More of the configuration file, in TOML.
    module
        As for :func:`run_command`.
    variables
        More of its environment.
    behind
        A command that runs another one, which the daemon becomes.
    database
        The URL of a store in a database, instead of one in the state folder.

    Attributes
    ----------
    head
        The beginning of the configuration file.
    warm_start
        Forks what is the program itself; without it, each daemon is started as an operator starts it.
    """

    warm_start: WarmStart | None = None

    def __init__(
        self,
        folder: Path,
        flags: tuple[str | Path, ...],
        settings: str,
        module: str = PROGRAM,
        variables: Mapping[str, str] | None = None,
        behind: Sequence[str] = (),
        database: str = "",
    ) -> None:
        self.database = database
        self._module = module
        self._behind = behind
        self._variables = variables or {}
        folder.mkdir(parents=True)
        self.state_dir = folder / "state"
        self.store_path = self.state_dir / "store.db"
        self.log_path = folder / "log.jsonl"
        self.config_path = folder / "config.toml"
        self.head = SETTINGS.replace("[store]\n", f'[store]\nurl = "{database}"\n') if database else SETTINGS
        self.config_path.write_text(self.head + settings)
        self.address = ("", 0)
        self._flags = flags
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and return when it is ready; its log goes on where it was."""
        begin = self.launch()
        ready = self.says(("daemon.started",), begin)
        host, _, port = ready["listening"].rpartition(":")
        self.address = (host, int(port or 0))

    def launch(self) -> int:
        """Start and return at once: where the log was."""
        place = [] if self.database else ["--state-dir", self.state_dir]
        arguments = [*map(str, ["serve", "--config", self.config_path, *place, *self._flags])]
        variables = {**environment(), **({} if place else {"STATE_DIRECTORY": str(self.state_dir)}), **self._variables}
        with self.log_path.open("ab") as log:
            begin = log.tell()
            if self.warm_start and self._module == PROGRAM and not (self._behind or self._variables):
                self._process = self.warm_start.start(arguments, variables, log)
            else:
                self._process = subprocess.Popen(
                    [*self._behind, sys.executable, "-m", self._module, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    env=variables,
                )
        return begin

    def log_lines(self, begin: int = 0) -> Iterator[dict[str, Any]]:
        """What it has logged, from an offset on, without a line that is not whole yet; what is not JSON is an error."""
        with self.log_path.open("rb") as log:
            log.seek(begin)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    yield json.loads(line)
                elif line.endswith(b"\n"):
                    yield {"level": "error", "event": line.decode(errors="replace")}

    def end_of_log(self) -> str:
        """The last lines, for the message of a failed test."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP; it goes on after the block."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL

    def is_running(self) -> bool:
        """Whether it has not ended."""
        assert self._process is not None
        return self._process.poll() is None

    def ended(self, within_s: float = STOPS_WITHIN_S) -> int:
        """Wait until it ends by itself; its exit status."""
        assert self._process is not None
        return self._process.wait(within_s)

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOPS_WITHIN_S)

    def hang_up(self) -> None:
        """SIGHUP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def reload(
        self, settings: str, head: str = SETTINGS, events: tuple[str, ...] = ("config.reloaded", "config.refused")
    ) -> dict[str, Any]:
        """Write another configuration and have it read; what the log says of it."""
        self.config_path.write_text(head + settings)
        begin = self.log_path.stat().st_size
        self.hang_up()
        return self.says(events, begin)

    def says(self, events: tuple[str, ...], begin: int = 0) -> dict[str, Any]:
        """Wait for one of these events in the log."""

        def found() -> dict[str, Any] | None:
            assert self._process is not None
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.end_of_log()}"
            return next((line for line in self.log_lines(begin) if line.get("event") in events), None)

        line: dict[str, Any] = wait_until(found, READY_WITHIN_S, f"{' or '.join(events)} is logged")
        return line

    def clean_up(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def store(self) -> Iterator[SqlStore]:
        """Its store, to look at."""
        store = StoreAddress(self.state_dir, self.database).open_readonly()
        try:
            yield store
        finally:
            store.close()

    def studies(self) -> dict[str, StudyStatus]:
        """Every study by its UID."""
        with self.store() as store:
            return {study.study_uid: study for study in store.studies(limit=100_000)}

    def instances(self) -> dict[str, set[str]]:
        """Study UID -> SOP Instance UIDs."""
        with self.store() as store:
            studies = [store.study(study.study_uid) for study in store.studies(limit=100_000)]
        return {study.uid: {i.uid for series in study.series for i in series.instances} for study in studies if study}

    def holds(self, instances: int) -> None:
        """Wait until so many instances are in the store."""
        with self.store() as store:
            wait_until(lambda: store.stats().instances >= instances, SETTLES_WITHIN_S, f"{instances} instances came")

    def settled(self) -> Stats:
        """Wait until nothing waits to be delivered any more, for as long as studies get there or are refused."""
        with self.store() as store:
            missing = -1

            def moved() -> Stats | None:
                stats = store.stats()
                return stats if stats.waiting + stats.sending != missing else None

            while missing:
                try:
                    stats: Stats = wait_until(moved, SETTLES_WITHIN_S, f"a delivery; {missing} are missing")
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{self.end_of_log()}") from None
                missing = stats.waiting + stats.sending
            return stats

    def status(self, *arguments: str) -> dict[str, Any]:
        """``dicom2fhir status --json``."""
        done = run_here("status", "--json", "--limit", "1000", "--state-dir", self.state_dir, *arguments)
        assert done.status == 0, done.stderr
        facts: dict[str, Any] = done.json
        return facts
