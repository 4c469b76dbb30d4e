"""Running a command and knowing what it cost."""

from __future__ import annotations

import compileall
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.report import ROOT


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished process used."""

    processor_s: float
    """User and system time, of its children too."""
    wall_s: float
    peak_bytes: int


def compile_package() -> None:
    """Make byte code of the package, as pip does when it installs.

    Where Python may not write it (PYTHONDONTWRITEBYTECODE), each run would compile the sources anew.
    """
    compileall.compile_dir(ROOT / "dicom2fhir", quiet=2)


def run(command: Sequence[str], stdout: int | IO[bytes], folder: Path = ROOT) -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        It failed; with the end of what it said.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, cwd=folder) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        # wait4 tells the cost of this child alone; subprocess would only tell that of all children together
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {said.decode(errors='replace')[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss * 1024)
