"""Exactly one ImagingStudy for each study, with the right counts: many senders, duplicates, lost answers, restarts.

Two bridges write to one FHIR server. Each has instances that the other has not, and they share some; 20 % of the
server's answers to each are lost after it did what was asked. At last both bridges update all studies and create some
new ones at the same time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from testdata.make_dicom import EncodedInstance
from tests.acceptance.expectation import Server
from tests.acceptance.load import Load, slices
from tests.acceptance.promises import Instance, Ledger, check
from tests.daemon_process import DaemonProcess, wait_until
from tests.servers.outage_proxy import OutageProxy

pytestmark = [pytest.mark.bar(4), pytest.mark.timeout(600)]

DELIVERED_WITHIN_S = (250, 7_200)
"""For every commit, and in the long form."""
LOST = 0.2
LATE_S = 0.1
"""The longest that an answer takes on its way."""
CREATED_LAST = 5
"""One study of so many is unknown until both bridges create it at the same time."""
SENDERS = 16
QUIET = ("--quiet-period", "1")
SETTINGS = """
[destinations.main]
type = "fhir"
url = "{url}"
patient = "ensure"
workers = 4
retry_max_s = 0.1
"""


class Bridge:
    """A daemon, and those who send to it: each instance twice, over several associations, until it is acknowledged."""

    def __init__(self, daemon: DaemonProcess, folder: Path, name: str, instances: Sequence[EncodedInstance]) -> None:
        self.daemon = daemon
        self.ledgers = [Ledger(folder / f"{name}-{number}.jsonl") for number in range(2)]
        self.loads = [Load(daemon, ledger, instances, senders=SENDERS // 4) for ledger in self.ledgers]
        self._folder, self._name = folder, name

    def restart_while_it_is_sent_to(self, draw: random.Random, restarts: int) -> None:
        """Take everything; now and then the process is killed or ended, and started again."""
        with ExitStack() as stack:
            for load in self.loads:
                stack.enter_context(load)
            for number in range(restarts):
                draw.choice(self.loads).goes_on(draw.randrange(1, 60))
                self._end(number)
                self.daemon.start()
            for load in self.loads:
                load.ends()
        self._end(restarts)  # while it delivers
        self.daemon.start()

    def sends(self, instances: Sequence[EncodedInstance]) -> Load:
        """A load of some more."""
        self.ledgers.append(Ledger(self._folder / f"{self._name}-{len(self.ledgers)}.jsonl"))
        self.loads.append(Load(self.daemon, self.ledgers[-1], instances, senders=1))
        return self.loads[-1]

    def _end(self, number: int) -> None:
        if number % 2:
            assert self.daemon.terminate() == 0
        else:
            self.daemon.kill()


def last_of_each(instances: Sequence[EncodedInstance]) -> tuple[list[EncodedInstance], list[EncodedInstance]]:
    """Two instances of each study, one for each bridge, with the studies in the same order."""
    by_study: dict[str, list[EncodedInstance]] = {}
    for one in instances:
        by_study.setdefault(one.study, []).append(one)
    return [found[-1] for found in by_study.values()], [found[-2] for found in by_study.values()]


def delivers_all(daemon: DaemonProcess, within_s: float) -> None:
    """Wait until nothing is to be delivered any more; lost answers take their time on a busy machine."""
    with daemon.store() as store:

        def is_done() -> bool:
            stats = store.stats()
            assert stats.refused == 0
            return stats.waiting == stats.sending == 0

        wait_until(is_done, within_s, "everything is delivered")


def losing(chance: random.Random) -> Callable[[], bool]:
    """Whether an answer is lost; each takes its time, so that others come between a reading and its writing."""

    def is_lost() -> bool:
        time.sleep(chance.random() * LATE_S)
        return chance.random() < LOST

    return is_lost


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("hapi", "medplum")])
def test_each_study_is_there_once_and_whole(
    name: str,
    fhir_server: Callable[[str, str], str],
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    draw = random.Random(seed)
    studies = scale(50, 2_000)  # on each server
    instances = slices(6 * studies, studies, draw)
    last = last_of_each(instances)
    later = {one.sop_instance for share in last for one in share}
    new = {one.study for one in last[0][::CREATED_LAST]}
    instances = [one for one in instances if one.sop_instance not in later and one.study not in new]
    third = len(instances) // 3
    base_url = fhir_server(name, "r4")
    with ExitStack() as stack:
        bridges, proxies = [], []
        for number, share in enumerate((instances[: 2 * third], instances[third:])):
            proxy = OutageProxy(base_url, losing(random.Random(draw.random())))
            stack.callback(proxy.go_away)
            daemon = make_daemon(QUIET, SETTINGS.format(url=proxy.url))
            daemon.start()
            proxies.append(proxy)
            bridges.append(Bridge(daemon, history, str(number), share))
        tasks = [
            threading.Thread(
                target=bridge.restart_while_it_is_sent_to, args=(random.Random(draw.random()), scale(3, 100))
            )
            for bridge in bridges
        ]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        for bridge in bridges:
            delivers_all(bridge.daemon, scale(*DELIVERED_WITHIN_S))
        with ExitStack() as loads:
            for bridge, share in zip(bridges, last, strict=True):
                loads.enter_context(bridge.sends(share))
            for bridge in bridges:
                bridge.loads[-1].ends()
        for bridge in bridges:
            delivers_all(bridge.daemon, scale(*DELIVERED_WITHIN_S))
            assert bridge.daemon.terminate() == 0
    ledgers = [ledger for bridge in bridges for ledger in bridge.ledgers]
    sent = set.union(*(ledger.sent for ledger in ledgers))
    acknowledged = frozenset[Instance]().union(*(ledger.acknowledged for ledger in ledgers))
    assert acknowledged == sent
    server = Server(base_url)
    delivered = [resource for uid in sorted({one.study for one in sent}) for resource in server.studies(uid)]
    check(sent=sent, acknowledged=acknowledged, delivered=delivered)
    assert len(delivered) == studies
    lost = sum(proxy.lost for proxy in proxies)
    assert lost > studies / 10, "hardly an answer was lost"
    figure(f"{name}: {studies} studies, {len(sent)} instances, {lost} answers lost, every study once and whole")
