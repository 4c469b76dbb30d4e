"""A FHIR server as a process of its own, started by its ``run.sh``."""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO

SERVERS = Path(__file__).parent
_START_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 20.0


class ServerProcess:
    """A FHIR server that forgets everything when it stops.

    Parameters
    ----------
    name
        Its folder beside this file: ``"hapi"`` or ``"medplum"``.
    version
        ``"r4"``; HAPI knows ``"r5"``, ``"dstu3"`` and ``"dstu2"`` too.
    settings
        Environment variables as the head of its ``run.sh`` lists them, e.g. ``HAPI_VALIDATE="1"``.

    Attributes
    ----------
    base_url
        e.g. ``http://127.0.0.1:41234/fhir``; stays the same when the server is started again.
    """

    def __init__(self, name: str, version: str = "r4", **settings: str) -> None:
        self.name = name
        self.version = version
        self.base_url = ""
        self._port = 0
        self._environment = {**os.environ, **settings, f"{name.upper()}_EXIT_WITH_STDIN": "1"}
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start and return when the server answers.

        Raises
        ------
        RuntimeError
            It did not start; the message holds the end of its log.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the server runs)
        self._process = subprocess.Popen(
            [SERVERS / self.name / "run.sh", str(self._port), self.version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            text=True,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the server in its own order
        )
        words = _first_line(self._process, _START_TIMEOUT_S).split()
        if words[:1] != ["READY"]:
            log = self._end_of_log()
            self.stop()
            raise RuntimeError(f"{self.name} {self.version} did not start; the end of its log:\n{log}")
        self.base_url = words[1]
        self._port = int(self.base_url.split(":")[2].split("/")[0])

    def stop(self) -> None:
        """Stop; the data is gone. Does nothing when the server does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _end_of_log(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - 8000))
        return self._log.read().decode(errors="replace")


def _first_line(process: subprocess.Popen[str], timeout_s: float) -> str:
    """The first line that a process writes; empty when it ends or keeps silent."""
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    assert stdout is not None
    reader = threading.Thread(target=lambda: lines.put(stdout.readline()))
    reader.start()
    try:
        return lines.get(timeout=timeout_s)
    except queue.Empty:
        process.kill()  # ends the reader
        return ""
    finally:
        reader.join()
