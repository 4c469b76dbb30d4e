"""Faults at named system calls of a running process, put in by strace: none of the process' own code knows of them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITE = "pwrite64"
READ = "pread64"
SYNC = "fsync,fdatasync"
REMOVE = "?unlink,unlinkat"
SEND = "sendto"


@contextmanager
def injected(pid: int, calls: str, fault: str, *paths: Path) -> Iterator[None]:
    """Have system calls of a process fail while the block runs.

    Parameters
    ----------
    calls
        Names, with commas; ``?`` before one that some architectures have not.
    fault
        As strace has it: ``error=EIO:when=3+``, ``signal=KILL:when=2``; counted for each thread by itself.
    paths
        Only calls on these files count.
    """
    only = [word for path in paths for word in ("-P", str(path))]
    command = ["strace", "-f", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}", *only]
    with subprocess.Popen(
        [*command, "-o", "/dev/null"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        try:
            assert "attached" in first, first
            # It tells of each new thread: where nobody reads that, it stops, and with it who is traced.
            threading.Thread(target=tracer.stderr.read, daemon=True).start()
            yield
        finally:
            tracer.terminate()
