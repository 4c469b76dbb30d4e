"""The processes of a test run share servers: each is started once, and ended with the run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.shared import ServersOfAnother, SharedServers
from tests.servers.validator.validator import Findings, Question


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


class AnyValidator:
    """Stands in for the validator."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_open = True
        VALIDATORS.append(self)

    def check_all(self, questions: list[Question]) -> list[Findings]:
        self.asked += len(questions)
        return [Findings((), ())] * len(questions)

    def close(self) -> None:
        self.is_open = False


MADE: list[Server] = []
VALIDATORS: list[AnyValidator] = []
QUESTION = Question("R4", {"resourceType": "Patient"})


@pytest.fixture
def servers() -> Iterator[SharedServers]:
    MADE.clear()
    VALIDATORS.clear()
    server: Any = Server
    validator: Any = AnyValidator
    made = SharedServers(server, validator)
    yield made
    made.close()


def test_all_processes_get_the_same_server(servers: SharedServers) -> None:
    address = servers.address()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        base_url = ServersOfAnother(address).base_url
        asked = pool.starmap(base_url, [("hapi", "r4"), ("hapi", "r4"), ("hapi", "r5")])
    assert asked[0] == asked[1] == servers.base_url("hapi", "r4")
    assert asked[2] != asked[0]
    assert len(MADE) == 2
    servers.close()
    assert not any(server.running for server in MADE)


def test_why_a_server_does_not_start_is_told(servers: SharedServers) -> None:
    for asked in (servers, ServersOfAnother(servers.address())):
        with pytest.raises(RuntimeError, match="unknown FHIR version r9"):
            asked.base_url("hapi", "r9")


def test_all_processes_ask_the_same_validator(servers: SharedServers) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        asked = pool.map(ServersOfAnother(servers.address()).check_all, [[QUESTION], [QUESTION, QUESTION]])
    assert asked == [[Findings((), ())], [Findings((), ())] * 2]
    servers.check_all([QUESTION])
    (validator,) = VALIDATORS
    assert (validator.asked, validator.is_open) == (4, True)
    servers.close()
    assert not validator.is_open
