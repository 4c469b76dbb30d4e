"""Three daemons share a store in PostgreSQL: nodes are killed, the server crashes, and nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.expectation import Server
from tests.acceptance.load import Load, slices
from tests.acceptance.promises import Instance, Ledger, check
from tests.daemon_process import DaemonProcess
from tests.postgres_cluster import Cluster

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.timeout(900)]

NODES = 3
SENDERS = 4
"""For each node."""
STUDIES = 30
INSTANCES = 900
KILLS = 8
SETTINGS = """
[destinations.main]
type = "fhir"
url = "{url}"
retry_max_s = 1
"""
QUIET = ("--quiet-period", "1")


@pytest.fixture
def server() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.remove()


def stored(url: str) -> list[Instance]:
    """The instances in the database, row by row; read without the bridge."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT study.uid, series.uid, instance.uid FROM instance"
            " JOIN study ON study.id = instance.study_id JOIN series ON series.id = instance.series_id"
        )
        return [Instance(*map(str, row)) for row in rows]


def test_nodes_and_server_that_die_lose_nothing(tmp_path: Path, server: Cluster, hapi_r4: str) -> None:
    draw = random.Random(7)
    url = server.new_database(is_empty=True)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    nodes = [
        DaemonProcess(tmp_path / f"node-{number}", QUIET, SETTINGS.format(url=hapi_r4), database=url)
        for number in range(NODES)
    ]
    instances = slices(INSTANCES, STUDIES, draw)
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.clean_up)
            node.start()
        loads = [
            stack.enter_context(Load(node, ledger, instances[number::NODES], senders=SENDERS))
            for number, node in enumerate(nodes)
        ]
        for kill in range(KILLS):
            loads[0].goes_on(draw.randrange(1, INSTANCES // (KILLS + 2)))
            if kill % 4 == 3:
                server.stop()
                server.start()
            else:
                node = draw.choice(nodes)
                node.kill()
                node.start()
            check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored(url))
        for load in loads:
            load.ends()
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.clean_up)
            node.start()
        stats = nodes[0].settled()
    assert (stats.studies, stats.delivered, stats.refused) == (STUDIES, STUDIES, 0)
    delivered = [study for uid in {one.study for one in ledger.sent} for study in Server(hapi_r4).studies(uid)]
    check(sent=ledger.sent, acknowledged=ledger.acknowledged, delivered=delivered, stored=stored(url))
    assert len(delivered) == STUDIES
