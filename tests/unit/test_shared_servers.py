"""The processes of a test run share servers: each is started once, and ended with the run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.shared import SharedServers, ask


class Server:
    """Stands in for a server that takes a while."""

    def __init__(self, name: str, version: str) -> None:
        self.base_url = ""
        self.version = version
        self.running = False
        MADE.append(self)

    def start(self) -> None:
        if self.version == "r9":
            raise RuntimeError("unknown FHIR version r9")
        self.base_url, self.running = f"http://{len(MADE)}", True

    def stop(self) -> None:
        self.running = False


MADE: list[Server] = []


@pytest.fixture
def servers() -> Iterator[SharedServers]:
    MADE.clear()
    server: Any = Server
    made = SharedServers(server)
    yield made
    made.close()


def test_all_processes_get_the_same_server(servers: SharedServers) -> None:
    address = servers.address()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        asked = pool.starmap(ask, [(address, "hapi", "r4"), (address, "hapi", "r4"), (address, "hapi", "r5")])
    assert asked[0] == asked[1] == servers.base_url("hapi", "r4")
    assert asked[2] != asked[0]
    assert len(MADE) == 2
    servers.close()
    assert not any(server.running for server in MADE)


def test_why_a_server_does_not_start_is_told(servers: SharedServers) -> None:
    for asked in (servers.base_url, lambda name, version: ask(servers.address(), name, version)):
        with pytest.raises(RuntimeError, match="unknown FHIR version r9"):
            asked("hapi", "r9")
