"""What a process takes, and how quick this machine is while it is measured."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.daemon_process import DaemonProcess

MIB = 1024 * 1024
_ROUNDS = 4_000_000


def loop_s(clock: Callable[[], float]) -> float:
    """Time that a loop takes which took 50 ms on the machine that the bars were set on."""
    started = clock()
    for _ in range(_ROUNDS):
        pass
    return clock() - started


class Cost:
    """What a daemon uses from now on."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._proc = Path(f"/proc/{daemon.pid}")
        self._began_bytes = self._peak_bytes()
        self._last_s = 0.0

    def processor_s(self) -> float:
        """Processor time since its start."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def grown_bytes(self) -> int:
        """Resident memory that it took at most beyond what it had."""
        return self._peak_bytes() - self._began_bytes

    def is_quiet(self) -> bool:
        """Whether it has used no processor since this was asked last."""
        before, self._last_s = self._last_s, self.processor_s()
        return before == self._last_s

    def _peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found
        return int(found[1]) * 1024
