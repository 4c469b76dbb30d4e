"""kill -9 at any moment: nothing acknowledged is lost, nothing is there twice, and it soon listens again."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tracing
from tests.acceptance.load import Load, slices, stored
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import DaemonProcess
from tests.memory_server import Manner, MemoryServer
from tests.scripted_server import Resource

pytestmark = [pytest.mark.bar(1), pytest.mark.needs("strace", "ptrace"), pytest.mark.timeout(300)]

STUDIES = 60
QUIET = ("--quiet-period", "0.2")
CALLS = {
    "before a commit": (tracing.WRITE, "store.db-wal"),
    "while a commit is synced": (tracing.SYNC, "store.db-wal"),
    "between a commit and its answer": (tracing.SEND, ""),
    "in a checkpoint": (tracing.WRITE, "store.db"),
    "between the commit of a file and its removal": (tracing.REMOVE, ""),
}
"""Moment -> the system call before which the process dies, and on which file of it."""
COMES_WITHIN_S = 200.0
"""A checkpoint comes after some thousand pages, which takes minutes where the machine is busy."""
RECOVERS_WITHIN = 2.0
"""Of the time that a start without a store takes. On a quiet machine the start takes a second: the promise is 3 s."""


class KillingServer(MemoryServer):
    """A FHIR server that kills the bridge on demand when it has written something, before it says so."""

    def __init__(self, manner: Manner) -> None:
        super().__init__(manner)
        self.kill: Callable[[], object] | None = None

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        answer = super().post(bundle)
        if self.kill is not None:
            kill, self.kill = self.kill, None
            kill()
        return answer


@contextmanager
def servers() -> Iterator[tuple[KillingServer, KillingServer]]:
    """One that lets the bridge choose ids, and one that chooses them itself."""
    with ExitStack() as undo:
        made = KillingServer(Manner(none_match=412, checks_versions=True)), KillingServer(Manner(takes_ids=False))
        for server in made:
            undo.callback(server.close)
        yield made


@dataclass
class Killer:
    """Kills the daemon at the moment that is asked for, and starts it again."""

    daemon: DaemonProcess
    load: Load
    server: KillingServer
    draw: random.Random

    def kill(self, moment: str) -> float:
        """Have it killed; the seconds that it takes to listen again."""
        self.load.goes_on(self.draw.randrange(1, 30))
        if moment == "between a delivery and its record":
            self.server.kill = lambda: os.kill(self.daemon.pid, signal.SIGKILL)
            assert self.daemon.ended(COMES_WITHIN_S) == -signal.SIGKILL
        elif moment in CALLS:
            calls, file = CALLS[moment]
            paths = [self.daemon.state_dir / file] if file else []
            with tracing.injected(self.daemon.pid, calls, f"signal=KILL:when={self.draw.randrange(1, 4)}", *paths):
                assert self.daemon.ended(COMES_WITHIN_S) == -signal.SIGKILL
        else:
            self.daemon.kill()
        if moment == "while it starts":
            self.daemon.launch()
            time.sleep(self.draw.random())
            self.daemon.kill()
        started = time.monotonic()
        self.daemon.start()
        return time.monotonic() - started


def settings(urls: list[str], inbox: Path) -> str:
    """A daemon that delivers to all, as soon as it can, and removes the files that it has taken."""
    destinations = "".join(
        f'[destinations.{name}]\ntype = "fhir"\nurl = "{url}"\nretry_max_s = 1\n'
        for name, url in zip(("ours", "theirs"), urls, strict=True)
    )
    return f"""
{destinations}
[folders.inbox]
path = "{inbox}"
stable_s = 0.05
rescan_s = 1
afterwards = "delete"
"""


def start_without_a_store(make_daemon: Callable[..., DaemonProcess], plan: str) -> float:
    """The seconds that a start takes at least, now."""
    daemon = make_daemon(QUIET, plan)
    started = time.monotonic()
    daemon.start()
    seconds = time.monotonic() - started
    daemon.kill()
    return seconds


def test_kill_9_loses_nothing_and_duplicates_nothing(
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    draw = random.Random(seed)
    inbox = history / "inbox"
    inbox.mkdir()
    ledger = Ledger(history / "ledger.jsonl")
    moments = [*CALLS, "between a delivery and its record", "while it starts", "at random"] * scale(3, 120)
    moments.append("at random")
    draw.shuffle(moments)
    with servers() as (ours, theirs):
        plan = settings([ours.url, theirs.url], inbox)
        fresh_s = [start_without_a_store(make_daemon, plan) for _ in range(3)]
        daemon = make_daemon(QUIET, plan)
        daemon.start()
        again_s = []
        with Load(daemon, ledger, slices(scale(1_500, 75_000), STUDIES, draw), inbox) as load:
            killer = Killer(daemon, load, theirs, draw)
            for moment in moments:
                again_s.append(killer.kill(moment))
                check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored(daemon.store_path))
            load.ends()
        daemon.settled()
        for server in (ours, theirs):
            delivered = server.all("ImagingStudy")
            check(sent=ledger.sent, acknowledged=ledger.acknowledged, delivered=delivered)
        assert ledger.acknowledged == ledger.sent
        assert daemon.terminate() == 0
    start_s = statistics.median(fresh_s)
    figure(
        f"{len(moments)} kills, {len(ledger.sent)} instances; listens {statistics.median(again_s):.2f} s after a kill,"
        f" {max(again_s):.2f} s at most; {start_s:.2f} s without a store"
    )
    assert statistics.median(again_s) <= RECOVERS_WITHIN * start_s
