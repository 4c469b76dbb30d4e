"""Two daemons on one database whose machines have other clocks: only that of the database counts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.sender import Sender
from testdata.make_dicom import EncodedInstance, ct_instances
from tests.acceptance.load import AE_TITLE, try_to_send
from tests.daemon_process import ROOT, SETTLES_WITHIN_S, DaemonProcess, wait_until
from tests.postgres_cluster import cluster
from tests.preload import build
from tests.scripted_server import Resource, ScriptedServer

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.needs("cc")]

APART_S = 600
"""Each clock from that of the database; twice as much is longer than a lease."""
QUIET_S = 3.0
SETTINGS = """
[destinations.main]
type = "fhir"
url = "{url}"
timeout_s = 60
workers = 1
"""


class HeldServer(ScriptedServer):
    """Answers transactions when it is told to go on; ``begun`` counts them by study."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.goes_on = threading.Event()
        self.released: set[str] = set()
        super().__init__()

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        (study,) = (one for entry in bundle["entry"] if (one := entry["resource"])["resourceType"] == "ImagingStudy")
        self.begun[study["id"]] += 1
        wait_until(lambda: self.goes_on.is_set() or study["id"] in self.released, SETTLES_WITHIN_S, "it may go on")
        return super().post(bundle)


@pytest.fixture
def server() -> Iterator[HeldServer]:
    made = HeldServer()
    yield made
    made.goes_on.set()
    made.close()


@pytest.fixture
def nodes(tmp_path: Path, server: HeldServer) -> Iterator[list[DaemonProcess]]:
    """The first is behind, the second ahead; none has been started."""
    library, url = build(ROOT / "tests" / "set_clock.c", tmp_path), cluster().new_database(is_empty=True)
    made = []
    for name, step_s in (("behind", -APART_S), ("ahead", APART_S)):
        step = tmp_path / f"step-{name}"
        step.write_text(str(step_s))
        variables = {"LD_PRELOAD": library, "CLOCK_STEP_FILE": str(step)}
        quiet = ("--quiet-period", f"{QUIET_S:g}")
        settings = SETTINGS.format(url=server.url)
        made.append(DaemonProcess(tmp_path / name, quiet, settings, variables=variables, database=url))
    yield made
    for node in made:
        node.clean_up()


def beats(url: str) -> list[object]:
    """The last heartbeat of each daemon."""
    with psycopg.connect(url) as connection:
        return [seen_at for (seen_at,) in connection.execute("SELECT seen_at FROM node ORDER BY id")]


def wait_for_beats(url: str, times: int) -> None:
    """Until each daemon has beaten and looked for dead ones so often."""
    for _ in range(times):
        before = beats(url)
        wait_until(lambda: all(a != b for a, b in zip(before, beats(url), strict=True)), 60, "heartbeats")  # noqa: B023


def holders(url: str) -> list[int]:
    """The process that sends each study which is being sent."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT name FROM node JOIN delivery ON process = node.id WHERE state = 'sending'")
        return [int(str(name).rpartition(":")[2]) for (name,) in rows]


def test_a_lease_holds_for_a_daemon_whose_clock_is_ahead(nodes: list[DaemonProcess], server: HeldServer) -> None:
    behind, ahead = nodes
    for node in nodes:
        node.start()
    studies = ct_instances(3, 3)
    assert try_to_send(behind, next(studies))
    wait_until(lambda: server.begun, SETTLES_WITHIN_S, "a study is sent")
    if holders(behind.database) == [ahead.pid]:  # it has one worker, so the other daemon gets the next study
        assert try_to_send(behind, next(studies))
        wait_until(lambda: server.begun.total() == 2, SETTLES_WITHIN_S, "another study is sent")
        server.released.add(next(iter(server.begun)))
        wait_until(lambda: holders(behind.database) == [behind.pid], SETTLES_WITHIN_S, "only that one")
    before = len(server.begun)
    assert try_to_send(ahead, next(studies))
    wait_until(lambda: server.begun.total() > before, SETTLES_WITHIN_S, "the daemon that is ahead sends the next one")
    assert set(server.begun.values()) == {1}
    server.goes_on.set()
    assert ahead.settled().delivered == before + 1
    assert set(server.begun.values()) == {1}


def of_two_instances(studies: int) -> list[tuple[EncodedInstance, EncodedInstance]]:
    """The two instances of each study."""
    made = sorted(ct_instances(2 * studies, studies), key=lambda one: one.study)
    return list(zip(made[::2], made[1::2], strict=True))


def test_a_study_is_held_by_an_association_of_a_daemon_with_another_clock(
    nodes: list[DaemonProcess], server: HeldServer
) -> None:
    server.goes_on.set()
    for node in nodes:
        node.start()
    for holding, other, (mine, theirs) in zip(nodes, nodes[::-1], of_two_instances(2), strict=True):
        with Sender(holding.address[1], AE_TITLE, mine) as sender:
            sender.store(mine)
            assert try_to_send(other, theirs)
            wait_for_beats(holding.database, 2)
            study = other.studies()[mine.study]
            assert study.association_open
            assert study.deliveries[0].delivered_revision == 0
        assert other.settled().delivered == len(server.studies)
    assert [study["numberOfInstances"] for study in server.studies] == [2, 2], "each is sent once"


def test_a_study_waits_for_its_quiet_period_and_no_longer(nodes: list[DaemonProcess], server: HeldServer) -> None:
    server.goes_on.set()
    for node in nodes:
        node.start()
    begin = time.time()
    for first, second in of_two_instances(2):
        assert try_to_send(nodes[0], first)
        assert try_to_send(nodes[1], second)
        nodes.reverse()
    assert nodes[0].settled().delivered == 2
    for study in nodes[0].studies().values():
        (delivery,) = study.deliveries
        assert begin - 1 <= study.first_at <= study.last_at
        assert study.last_at + QUIET_S <= delivery.delivered_at <= time.time() + 1
    assert {study["numberOfInstances"] for study in server.studies[-2:]} == {2}
    assert len({study["id"] for study in server.studies}) == 2
