"""The commands of a page of the documentation, run as they stand there, with other ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
NO_WEB_PAGE: Mapping[str, str] = {"DICOM2FHIR_WEB__ENABLED": "false"}
"""The port of the web page is that of the machine."""
_ENDS_WITHIN_S = 100


def blocks(page: str, language: str = "bash") -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def run_script(folder: Path, *steps: str, variables: Mapping[str, str] = NO_WEB_PAGE) -> str:
    """Run commands in a shell with job control, as typed, with this program on the PATH; what they say.

    Other programs of this environment are not on it: pynetdicom's ``echoscu`` is not DCMTK's.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DICOM2FHIR_")}
    programs = folder / "programs"
    programs.mkdir()
    (programs / "dicom2fhir").symlink_to(Path(sys.executable).with_name("dicom2fhir"))
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    script, log = folder / "script.sh", folder / "log.txt"
    script.write_text("set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n" + "\n".join(steps))
    with log.open("wb") as said:
        running = subprocess.Popen(
            ["bash", "-m", script],
            cwd=folder,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            status = running.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGTERM)
            status = running.wait(30)
    assert status == 0, log.read_text()
    return log.read_text()


def free_ports(count: int) -> list[str]:
    """So many different ports of 127.0.0.1 on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def until(command: str) -> str:
    """A line that waits until a command succeeds."""
    return f"until {command}; do sleep 0.2; done"
