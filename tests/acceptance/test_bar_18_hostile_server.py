"""Bar 18: whatever a FHIR server answers, the study stays due or is refused with words, and is delivered in the end."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dicom2fhir.store.statuses import DeliveryStatus, State
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.costs import MIB, Cost
from tests.daemon_process import DaemonProcess, run_command, wait_until
from tests.integration.test_client_faults import (
    COSTLY,
    ENDLESS,
    HTML,
    OK,
    SLOW,
    UNAVAILABLE,
    Play,
    answer,
    costly,
    forever,
)
from tests.integration.test_client_faults import outcome as outcome_of
from tests.scripted_peer import Peer, associate_rq, release, store
from tests.scripted_server import ScriptedServer
from tests.socket_server import SocketServer

pytestmark = pytest.mark.bar(18)

LARGEST_ANSWER = 48 * MIB
TIMEOUT_S = 3


def too_much(connection: socket.socket) -> None:
    """More than is read of an answer, and no end."""
    connection.sendall(OK + b"Connection: close\r\n\r\n")
    for _ in range(2 * LARGEST_ANSWER // 65536):
        connection.sendall(b" " * 65536)
    connection.recv(1)


FAULTS: dict[str, Play] = {
    **UNAVAILABLE,
    **{what: forever(head, part * (60_000 // len(part) + 1), 0) for what, (head, part) in ENDLESS.items()},
    **{what: SLOW[what] for what in ("says nothing", "drips its head", "drips chunks")},
    **{f"costly {what}": costly(what) for what in COSTLY},
    "redirected to itself": answer(307, HTML, Location="/fhir"),
    "redirected elsewhere": answer(301, HTML, Location="http://127.0.0.1:9/fhir"),
    "a body without end": too_much,
    "a body shorter than it says": answer(200, b"{}", Content_Length="100"),
    **{f"HTTP {status}": answer(status, outcome_of("no")) for status in (401, 403, 408, 425, 429, 500, 502, 503, 507)},
    "refused with 200": answer(200, outcome_of("no")),
    "refused": answer(422, outcome_of("no")),
    "no TLS, but garbage": lambda connection: connection.sendall(b"\x15\x03\x01\0\2\2\x28"),
}


TIMEOUTS_S = {"a body without end": 20}
"""Where the reason must not be the time."""


class HostileServer(SocketServer):
    """Answers with one fault until it is told to be good: everything, or everything but ``/metadata``."""

    def __init__(self, fault: Play, good: ScriptedServer, is_known: bool) -> None:
        self.fault = fault
        self.is_known = is_known
        self.good = good
        self.is_good = False
        self.asked = 0
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}/fhir"

    def serve(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        while line := file.readline():
            method, path = line.decode().split()[:2]
            length = 0
            while (header := file.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            body = file.read(length)
            self.asked += 1
            if not (self.is_good or (self.is_known and path.endswith("/metadata"))):
                self.fault(connection)
            elif method == "GET":
                answer(*self.good.get(path))(connection)
            else:
                bundle = json.loads(body)
                answer(*(self.good.batch if bundle["type"] == "batch" else self.good.post)(bundle))(connection)


def deliveries(daemon: DaemonProcess) -> dict[str, DeliveryStatus]:
    return {delivery.destination: delivery for study in daemon.studies().values() for delivery in study.deliveries}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_known", [False, True], ids=["from-the-first-request", "after-its-metadata"])
def test_every_fault_of_a_server_passes(
    daemon: StartDaemon, history: Path, scale: Callable[[int, int], int], figure: Callable[[str], None], is_known: bool
) -> None:
    """One study goes to as many destinations as there are faults, each with one worker and a server of its own."""
    with ExitStack() as stack:
        servers: dict[str, HostileServer] = {}
        for number, fault in enumerate(FAULTS.values()):
            good = stack.enter_context(closing(ScriptedServer()))
            servers[f"d{number:02}"] = stack.enter_context(closing(HostileServer(fault, good, is_known)))
        names = dict(zip(servers, FAULTS, strict=True))
        settings = "".join(
            f'[destinations.{name}]\nurl = "{server.url}"\nversion = "R4"\nworkers = 1\n'
            f"timeout_s = {TIMEOUTS_S.get(names[name], TIMEOUT_S)}\n"
            for name, server in servers.items()
        )
        started = daemon("--quiet-period", "0.5", settings=settings)
        cost = Cost(started)
        for number in range(scale(1, 20)):
            with Peer(started.address, associate_rq()) as peer:
                assert peer.receive()[0] == 2
                peer.send(store(f"1.2.3.4.{number + 5}"))
                assert peer.status() == 0
                release(peer)

        def tried() -> bool:
            found = deliveries(started)
            return len(found) == len(servers) and all(each.reason for each in found.values())

        wait_until(tried, 150, "every server was asked and the reason is told")
        told = {names[name]: (delivery.state, delivery.reason) for name, delivery in deliveries(started).items()}
        (history / "told.json").write_text(json.dumps(told, indent=1, default=str))
        states = {what: state for what, (state, _) in told.items()}
        assert set(states.values()) <= {State.WAITING, State.SENDING, State.REFUSED}
        assert {what for what, state in states.items() if state is State.REFUSED} <= {"refused", "refused with 200"}
        assert "is larger than" in told["a body without end"][1]
        figure(f"{len(servers)} hostile servers at once, {cost.grown_bytes() / MIB:.0f} MiB more memory")
        assert cost.grown_bytes() < LARGEST_ANSWER + 512 * MIB, "all of them at once"
        for server in servers.values():
            server.is_good = True
        assert run_command("retry", "--all", "--state-dir", started.state_dir).returncode == 0
        started.settled()
        assert {name for name, each in deliveries(started).items() if each.state is not State.DELIVERED} == set()
        for name, server in servers.items():
            written = {study["id"] for study in server.good.studies}
            assert len(written) == 1, names[name]
        assert started.terminate() == 0
