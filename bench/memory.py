"""Measure the daemon's memory while instances go through it: ``python -m bench.memory``.

A real daemon in a process of its own takes small CT slices by C-STORE and delivers studies of 100 to a folder. The
sender speaks the protocol by itself (PS3.7 section 9.1.1, PS3.8 section 9.3), so that it costs little; it opens an
association for each study. Memory is the resident set size, from /proc.
"""

from __future__ import annotations

import contextlib
import socket
import struct
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
from testdata.make_dicom import EncodedInstance, ct_instances

PER_STUDY = 100
_AE_TITLE = "DICOM2FHIR"
_ASKED_MIB = 32.0
_QUIET_S = 1.0
_START_TIMEOUT_S = 30.0
_DELIVERY_TIMEOUT_S = 600.0
_PDU_TIMEOUT_S = 60.0


# The sender


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def associate_rq(instance: EncodedInstance) -> bytes:
    """An A-ASSOCIATE-RQ that proposes the SOP class and transfer syntax of an instance (PS3.8 section 9.3.2)."""
    syntaxes = _item(0x30, instance.sop_class.encode()) + _item(0x40, instance.transfer_syntax.encode())
    context = _item(0x20, b"\x01\0\0\0" + syntaxes)
    user = _item(0x50, _item(0x51, struct.pack(">L", 1 << 17)) + _item(0x52, b"2.25.1"))
    titles = _AE_TITLE.encode().ljust(16) + b"BENCH".ljust(16)
    return _pdu(1, b"\0\x01\0\0" + titles + bytes(32) + _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user)


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_rq(instance: EncodedInstance, message_id: int) -> bytes:
    """A C-STORE-RQ and its data set as two P-DATA-TF PDUs (PS3.7 section 9.3.1, PS3.8 section 9.3.5)."""
    command = b"".join(
        (
            _element(0x0002, instance.sop_class.encode()),
            _element(0x0100, struct.pack("<H", 0x0001)),
            _element(0x0110, struct.pack("<H", message_id)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 1)),
            _element(0x1000, instance.sop_instance.encode()),
        )
    )
    command = _element(0x0000, struct.pack("<L", len(command))) + command
    pieces = ((3, command), (2, instance.header + instance.pixels))
    return b"".join(_pdu(4, struct.pack(">LBB", len(data) + 2, 1, control) + data) for control, data in pieces)


def _read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    kind, _, length = struct.unpack(">BBL", _read(connection, 6))
    return kind, _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the receiver closed the connection")
        data += more
    return data


def send_study(port: int, instances: list[EncodedInstance]) -> int:
    """Send instances over one association; their number.

    Raises
    ------
    ConnectionError
        The association or an instance was not accepted.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_PDU_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_rq(instances[0]))
        if _read_pdu(connection)[0] != 2:
            raise ConnectionError("the association was not accepted")
        for message_id, instance in enumerate(instances, start=1):
            connection.sendall(store_rq(instance, message_id))
            _, response = _read_pdu(connection)
            # the Status (0000,0900) with its length of 2, and 0000 for Success
            if struct.pack("<HHLH", 0, 0x0900, 2, 0) not in response:
                raise ConnectionError("an instance was not taken")
        connection.sendall(_pdu(5, bytes(4)))
        _read_pdu(connection)
    return len(instances)


# The daemon


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the daemon with a folder as its destination; its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "dicom2fhir", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ae-title", _AE_TITLE, "--state-dir", str(folder / "state"), "--output-dir", str(folder / "out")]
    command += ["--quiet-period", str(_QUIET_S)]
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
    instances, every = (1000, 500) if arguments.quick else (arguments.instances, 10_000)
    show(measure(instances, arguments.associations, min(every, instances)), arguments.json)


if __name__ == "__main__":
    main()
