"""Bar 14: thousands of associations, a fifth of them cut off, leave no memory, descriptor or thread behind."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from bench.sender import Sender
from testdata.make_dicom import EncodedInstance
from tests.acceptance.load import AE_TITLE, of, slices, stored
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import SETTLES_WITHIN_S, DaemonProcess, to_files, wait_until

pytestmark = [pytest.mark.bar(14), pytest.mark.timeout(300)]

SENDERS = 8
INSTANCES = 2
"""Of an association."""
MOST_GROWN_KIB = 4 << 10
"""In the second half of a run, however long: what the allocator keeps and the store's caches still gain."""
ABORT = b"\7\0\0\0\0\4" + bytes(4)


@dataclass(frozen=True)
class Holding:
    """What a process holds."""

    rss_kib: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Self:
        status = Path(f"/proc/{pid}/status").read_text()
        rss, threads = (int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) for name in ("VmRSS", "Threads"))  # type: ignore[index]
        return cls(rss, threads, len(os.listdir(f"/proc/{pid}/fd")))


def associate(daemon: DaemonProcess, ledger: Ledger, instances: Sequence[EncodedInstance], draw: random.Random) -> None:
    """Send some instances; one of five associations is aborted or lost within the last of them."""
    end = draw.choice(("abort", "lose")) if draw.random() < 0.2 else ""
    with suppress(ConnectionError), Sender(daemon.address[1], AE_TITLE, instances[0]) as sender:
        for number, encoded in enumerate(instances, 1):
            ledger.send(of(encoded))
            if end and number == len(instances):
                message = sender.begin(encoded) + sender.pixels(encoded)
                sender.write(message[: draw.randrange(1, len(message))])
                if end == "abort":
                    sender.write(ABORT)
                raise ConnectionAbortedError
            else:
                sender.store(encoded)
                ledger.acknowledge(of(encoded))


def play(daemon: DaemonProcess, ledger: Ledger, instances: Sequence[EncodedInstance], draw: random.Random) -> Holding:
    """Play associations, several at a time; what the daemon holds when all have ended."""
    groups = [instances[at : at + INSTANCES] for at in range(0, len(instances), INSTANCES)]
    draws = [random.Random(draw.random()) for _ in groups]
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda group, own: associate(daemon, ledger, group, own), groups, draws))
    wait_until(lambda: not daemon.status()["daemon"]["associations"], SETTLES_WITHIN_S, "all associations ended")
    daemon.settled()
    return Holding.of(daemon.pid)


def test_associations_leave_nothing_behind(
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    count = scale(1_000, 20_000)
    draw = random.Random(seed)
    instances = slices(2 * INSTANCES * count, 2 * count // 5, draw)
    ledger = Ledger(history / "ledger.jsonl")
    daemon = make_daemon(("--quiet-period", "0.2"), to_files(history / "out"))
    daemon.start()
    half = len(instances) // 2
    before = play(daemon, ledger, instances[:half], draw)
    after = play(daemon, ledger, instances[half:], draw)
    check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored(daemon.store_path))
    assert daemon.terminate() == 0
    figure(f"{count} associations after {count} others: {before} -> {after}")
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors + SENDERS, "the store reads with one connection for each thread"
    assert after.rss_kib <= before.rss_kib + MOST_GROWN_KIB
