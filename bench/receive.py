"""Measure the receiver against others that are installed: ``python -m bench.receive``.

The bridge is a real daemon that commits each instance to disk before it answers; pynetdicom's ``AE`` and the floor (a
loop that only reads PDUs) answer at once and keep nothing. A second floor also writes one page to disk before it
answers: nobody who keeps what is acknowledged can be faster, unless several associations share a commit. All are
processes of their own, sent to by the same client, in turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson

from bench.memory import daemon, state_of
from bench.process import run
from bench.report import ROOT, Goal, Result, Row, options, progress, show
from bench.sender import Sender, p_data
from testdata.make_dicom import EncodedInstance, ct_files, ct_instances

_QUIET_S = 600.0
"""Nothing is delivered meanwhile."""
_START_TIMEOUT_S = 60.0
_AE_TITLE = "DICOM2FHIR"
_SHARES_ASKED = {1: 0.65, 4: 0.5, 8: 0.5}
"""Associations -> the share of what the floor that syncs a page receives."""
_ASSOCIATIONS = tuple(_SHARES_ASKED)
_SMALL_SIDE, _LARGE_SIDE = 64, 512
"""Rows and columns that make objects of 10 KB and of 512 KB."""

PYNETDICOM = """
import sys
from pynetdicom import AE, AllStoragePresentationContexts, evt
ae = AE("ANY-SCP")
ae.supported_contexts = AllStoragePresentationContexts
ae.maximum_pdu_size = 131072
ae.maximum_associations = 100
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)])
"""

FLOOR = r"""
import os, socket, struct, sys, threading
from pynetdicom.pdu import A_ASSOCIATE_RQ
from dicom2fhir.receive.dimse import command_set, negotiation

def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(1 << 18))
    start = end = 0
    def need(count):
        nonlocal start, end
        while end - start < count:
            if end == len(buffer) or start == end:
                buffer[:end - start] = buffer[start:end]
                start, end = 0, end - start
            got = sock.recv_into(buffer[end:])
            if not got:
                raise EOFError
            end += got
    try:
        while True:
            need(6)
            kind, length = struct.unpack_from(">BxL", buffer, start)
            need(6 + length)
            if kind == 1:
                request = negotiation.decode_request(bytes(buffer[start:start + 6 + length]))
                sock.sendall(negotiation.accept(request, 131072).pdu)
            elif kind == 4:
                control = buffer[start + 11]
                if control == 3:
                    command = bytes(buffer[start + 12:start + 6 + length])
                elif control == 2:
                    if log is not None:
                        os.pwrite(log, page, 0)
                        os.fdatasync(log)
                    answer = command_set.encode_response(command_set.decode(command), command_set.SUCCESS)
                    sock.sendall(struct.pack(">BBLLBB", 4, 0, len(answer) + 6, len(answer) + 2, 1, 3) + answer)
            elif kind == 5:
                sock.sendall(bytes.fromhex("06000000000400000000"))
            start += 6 + length
    except (EOFError, OSError):
        sock.close()

page = bytes(4096)
log = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT) if len(sys.argv) > 2 else None
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that runs."""

    name: str
    port: int
    pid: int
    share: float
    """How many instances it is sent, as a share of what the bridge is sent: the slow ones get fewer."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _has_port(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _started(name: str, command: list[str], port: int, folder: Path, share: float) -> Iterator[Receiver]:
    with (
        (folder / f"{port}.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT) as process,
    ):
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not _has_port(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} does not start")
                time.sleep(0.05)
            yield Receiver(name, port, process.pid, share)
        finally:
            process.terminate()


@contextlib.contextmanager
def _bridge(folder: Path) -> Iterator[Receiver]:
    folder.mkdir()
    with daemon(folder, _QUIET_S) as (process, port):
        yield Receiver("this bridge, durable", port, process.pid, 1.0)


def _pynetdicom(folder: Path) -> AbstractContextManager[Receiver]:
    port = _free_port()
    return _started("pynetdicom AE, keeps nothing", [sys.executable, "-c", PYNETDICOM, str(port)], port, folder, 0.25)


def _floor(folder: Path) -> AbstractContextManager[Receiver]:
    port = _free_port()
    return _started("floor: reads PDUs only", [sys.executable, "-c", FLOOR, str(port)], port, folder, 1.0)


def _durable_floor(folder: Path) -> AbstractContextManager[Receiver]:
    port = _free_port()
    command = [sys.executable, "-c", FLOOR, str(port), str(folder / "page")]
    return _started("floor that also syncs 4 KB to disk", command, port, folder, 1.0)


def _orthanc(folder: Path) -> AbstractContextManager[Receiver]:
    port = _free_port()
    config = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpServerEnabled": False,
        "DicomPort": port,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    return _started("Orthanc, files", ["Orthanc", str(folder / "orthanc.json")], port, folder, 0.1)


def _send(receiver: Receiver, count: int, first: int, side: int, associations: int) -> dict[str, float]:
    """Send from a process of its own, so that the client costs everybody the same."""
    command = [sys.executable, "-m", "bench.sender", str(receiver.port), "--side", str(side)]
    command += ["--count", str(count), "--first", str(first), "--associations", str(associations)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{receiver.name}: {done.stderr.decode(errors='replace')[-500:]}")
    found: dict[str, float] = orjson.loads(done.stdout)
    return found


def _processor_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(
    receivers: list[Receiver], count: int, side: int, associations: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Send the same instances to each in turn, several times; every round has instances of its own."""
    found: dict[str, list[dict[str, float]]] = {receiver.name: [] for receiver in receivers}
    for round_ in range(rounds):
        for receiver in receivers:
            first = (associations * rounds + round_) * count
            few = max(int(count * receiver.share), associations * 4)
            before = _processor_s(receiver.pid)
            costs = _send(receiver, few, first, side, associations)
            costs["processor_ms"] = (_processor_s(receiver.pid) - before) / few * 1000
            found[receiver.name].append(costs)
    return found


def _throughput(
    folder: Path, count: int, rounds: int, associations_of: Sequence[int], remarks: list[str]
) -> tuple[list[Row], list[Goal]]:
    rows: list[Row] = []
    goals: list[Goal] = []
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(_bridge(folder / "bridge"))
        small = [bridge, stack.enter_context(_pynetdicom(folder))]
        asked = {small[1].name: 8.0}
        if shutil.which("Orthanc"):
            small.append(stack.enter_context(_orthanc(folder)))
            asked[small[-1].name] = 10.0
        else:
            remarks.append("Orthanc was left out: it is not installed")
        floor = stack.enter_context(_floor(folder))
        durable_floor = stack.enter_context(_durable_floor(folder))
        plans = [
            ("10 KB", _SMALL_SIDE, associations, [*small, floor, durable_floor], count)
            for associations in associations_of
        ]
        plans += [("512 KB", _LARGE_SIDE, 4, [bridge, floor], max(count // 4, 8))]
        with progress(len(plans), "sending") as advance:
            for size, side, associations, receivers, instances in plans:
                found = compare(receivers, instances, side, associations, rounds)
                per_s = {name: median(each["per_s"] for each in runs) for name, runs in found.items()}
                ours = per_s[bridge.name]
                for name, runs in found.items():
                    rows.append(
                        {
                            "objects": size,
                            "associations": f"{associations}",
                            "receiver": name,
                            "stores/s": per_s[name],
                            "MB/s": median(each["mb_per_s"] for each in runs),
                            "processor ms": median(each["processor_ms"] for each in runs),
                            "p50 ms": median(each["p50_ms"] for each in runs),
                            "p99 ms": median(each["p99_ms"] for each in runs),
                            "bridge is": ours / per_s[name],
                        }
                    )
                    if size == "10 KB" and name in asked:
                        goals.append(
                            _at_least(f"{size}, {associations} x, against {name}", ours / per_s[name], asked[name])
                        )
                if size == "512 KB":
                    goals.append(_at_least("512 KB, 4 x, share of the floor", ours / per_s[floor.name], 0.6))
                else:
                    name = f"{size}, {associations} x, share of the floor that syncs"
                    goals.append(_at_least(name, ours / per_s[durable_floor.name], _SHARES_ASKED[associations]))
                advance()
    return rows, goals


def _at_least(name: str, measured: float, asked: float) -> Goal:
    return Goal(name, measured, f">= {asked:g}", measured >= asked)


def _dcmsend(folder: Path, count: int, remarks: list[str]) -> list[Goal]:
    """DCMTK's sender as it is by default: it leaves Nagle's algorithm on."""
    if not (shutil.which("dcmsend") and shutil.which("storescp")):
        remarks.append("dcmsend and storescp were left out: DCMTK is not installed")
        return []
    files = folder / "files"
    ct_files(files, count, studies=1)
    port = _free_port()
    storescp = ["storescp", "--ignore", str(port)]
    with _bridge(folder / "nagle") as bridge, _started("storescp --ignore", storescp, port, folder, 1.0) as other:
        walls: dict[str, list[float]] = {}
        for receiver in (bridge, other, bridge):
            command = ["dcmsend", "-aec", _AE_TITLE, "127.0.0.1", str(receiver.port), "+sd", "+r", str(files)]
            walls.setdefault(receiver.name, []).append(run(command, subprocess.DEVNULL).wall_s)
    ours, theirs = median(walls[bridge.name]), median(walls[other.name])
    remarks.append(f"dcmsend, {count} files: {ours:.2f} s to this bridge, {theirs:.2f} s to storescp --ignore")
    return [_at_least(f"dcmsend, {count} files, against DCMTK storescp --ignore", theirs / ours, 8.0)]


def _memory(folder: Path, huge_bytes: int, associations: int, remarks: list[str]) -> list[Goal]:
    """One huge object and, while it comes, large ones over other associations."""
    asked_mib = 64.0
    large: list[EncodedInstance] = list(ct_instances(associations * 4, side=_LARGE_SIDE))
    with _bridge(folder / "memory") as bridge:
        _send(bridge, 50, 0, _SMALL_SIDE, 1)
        before = highest = state_of(bridge.pid)[0]
        done = threading.Event()
        sent = [0] * associations

        def keep_sending(number: int) -> None:
            with Sender(bridge.port, _AE_TITLE, large[0]) as sender:
                while not done.is_set():
                    sender.store(large[number * 4 + sent[number] % 4])
                    sent[number] += 1

        threads = [threading.Thread(target=keep_sending, args=(number,)) for number in range(associations)]
        for thread in threads:
            thread.start()
        try:
            with Sender(bridge.port, _AE_TITLE, large[0]) as sender:
                sender.write(sender.begin(large[0]))
                chunk = p_data(0, bytes(128 * 1024 - 6)) * 16
                # Pixel Data of undefined length, so that it may go on and on
                sender.write(p_data(0, b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\xff"))
                for _ in range(huge_bytes // len(chunk) + 1):
                    sender.write(chunk)
                    highest = max(highest, state_of(bridge.pid)[0])
                sender.write(p_data(2, b""))
                sender.finish()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        highest = max(highest, state_of(bridge.pid)[0])
    remarks.append(f"memory: {before:.1f} MiB before, at most {highest:.1f}; {sum(sent)} objects of 512 KB meanwhile")
    growth = highest - before
    name = f"RSS while an object of {huge_bytes >> 20} MiB and {associations} x 512 KB come in, MiB more"
    return [Goal(name, growth, f"<= {asked_mib:g}", growth <= asked_mib)]


def measure(count: int, rounds: int, associations: Sequence[int], dcmsend_files: int, huge_bytes: int) -> Result:
    """Measure everything; ``count`` is the number of small objects a round, sent over so many associations."""
    remarks = [f"{count} small objects a round (fewer to the slow receivers), median of {rounds} rounds in turn"]
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        folder = Path(name)
        rows, goals = _throughput(folder, count, rounds, associations, remarks)
        goals += _dcmsend(folder, dcmsend_files, remarks)
        goals += _memory(folder, huge_bytes, 8, remarks)
    return Result("Receiving", rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.quick:
        show(measure(40, 1, (4,), 10, 4 << 20), chosen.json)
    else:
        show(measure(chosen.count, chosen.rounds, _ASSOCIATIONS, 500, 2 << 30), chosen.json)


if __name__ == "__main__":
    main()
