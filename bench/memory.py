"""Measure the daemon's memory while instances go through it: ``python -m bench.memory``.

A real daemon in a process of its own takes small CT slices by C-STORE and delivers studies of 100 to a folder, with an
association for each study. Memory is the resident set size, from /proc.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from bench.report import ROOT, Goal, Result, Row, options, progress, show
from bench.sender import Sender
from testdata.make_dicom import EncodedInstance, ct_instances

PER_STUDY = 100
_AE_TITLE = "DICOM2FHIR"
_ASKED_MIB = 32.0
_QUIET_S = 1.0
_START_TIMEOUT_S = 30.0
_DELIVERY_TIMEOUT_S = 600.0


# The daemon


def send_study(port: int, instances: list[EncodedInstance]) -> int:
    """Send instances over one association; their number."""
    with Sender(port, _AE_TITLE, instances[0]) as sender:
        for instance in instances:
            sender.store(instance)
    return len(instances)


@contextlib.contextmanager
def daemon(folder: Path, quiet_s: float = _QUIET_S) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the daemon with a folder as its destination; its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "dicom2fhir", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ae-title", _AE_TITLE, "--state-dir", str(folder / "state"), "--output-dir", str(folder / "out")]
    command += ["--quiet-period", str(quiet_s)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, cwd=ROOT) as process:
        try:
            _wait_for(port, process)
            yield process, port
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("the daemon does not start")


def state_of(pid: int) -> tuple[float, int]:
    """Resident set size in MiB and number of threads (proc(5), status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(facts["VmRSS"].split()[0]) / 1024, int(facts["Threads"])


def measure(instances: int, associations: int, every: int) -> Result:
    """Send instances and look at the daemon's memory after each ``every`` of them, and when all are delivered."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name, daemon(Path(name)) as (process, port):
        out = Path(name, "out")
        rows: list[Row] = []
        started = time.perf_counter()

        def look(sent: int) -> None:
            rss_mib, threads = state_of(process.pid)
            delivered = sum(1 for _ in out.glob("*.json"))
            rows.append(
                {
                    "instances": f"{sent:,}",
                    "RSS MiB": rss_mib,
                    "threads": threads,
                    "studies delivered": delivered,
                    "s": time.perf_counter() - started,
                }
            )

        look(0)
        made = ct_instances(instances, studies=-(-instances // PER_STUDY))
        studies = (list(group) for _, group in groupby(made, key=lambda one: one.study))
        next_study = threading.Lock()
        sent = 0
        with progress(instances, "sending") as advance, ThreadPoolExecutor(associations) as senders:

            def send_next() -> int:
                with next_study:
                    study = next(studies)
                return send_study(port, study)

            for count in senders.map(lambda _: send_next(), range(-(-instances // PER_STUDY))):
                sent += count
                advance(count)
                if sent % every < count:
                    look(sent)
        took_s = time.perf_counter() - started
        deadline = time.monotonic() + _DELIVERY_TIMEOUT_S
        while sum(1 for _ in out.glob("*.json")) * PER_STUDY < instances and time.monotonic() < deadline:
            time.sleep(0.5)
        look(sent)
        rows[-1] = {**rows[-1], "instances": "all delivered"}
    first, last = float(rows[1]["RSS MiB"]), float(rows[-1]["RSS MiB"])
    highest = max(float(row["RSS MiB"]) for row in rows)
    limit = first + _ASKED_MIB
    goals = [
        Goal(
            "RSS at the end, MiB", last, f"<= {limit:.1f} (after the first {every:,} + {_ASKED_MIB:g})", last <= limit
        ),
        Goal("highest RSS seen, MiB", highest, f"<= {limit:.1f}", highest <= limit),
    ]
    remarks = [f"{instances / took_s:,.0f} instances/s over {associations} associations at a time, {PER_STUDY} each"]
    return Result("Memory of the daemon", rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--associations", type=int, default=8)
    arguments = parser.parse_args()
    instances, every = (300, 150) if arguments.quick else (arguments.instances, 10_000)
    show(measure(instances, arguments.associations, min(every, instances)), arguments.json)


if __name__ == "__main__":
    main()
