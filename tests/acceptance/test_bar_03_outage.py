"""The FHIR server is down for long: reception goes on, memory is bounded, all is delivered afterwards, no herd."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import pytest

from bench.sender import send
from testdata.make_dicom import EncodedInstance, ct_instances
from tests.acceptance.load import AE_TITLE, of
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import DaemonProcess, wait_until
from tests.scripted_server import Resource, ScriptedServer

pytestmark = [pytest.mark.bar(3), pytest.mark.timeout(300)]

WORKERS = 8
RETRY_MAX_S = 0.5
ANSWERS_AFTER_S = 0.05
"""While it is down, so that probes that are made at the same time are seen to be."""
REQUESTS_A_PROBE = 3
"""Its CapabilityStatement, the lookups in a batch, and, as that is refused, the first of them alone."""
LUCK = 1.5
"""Pauses have full jitter: even the 25 of the short form are seldom that short."""
BLOCK = 50
AT_ONCE = 4
PAIRS = 10
GOES_ON_AT = 0.9
MAX_RSS_MIB = 256
SETTINGS = f"""
[destinations.main]
type = "fhir"
url = "{{url}}"
workers = {WORKERS}
retry_max_s = {RETRY_MAX_S}
"""


class Outage(ScriptedServer):
    """A FHIR server that is down, but for its CapabilityStatement, which others keep for it, and counts who asks.

    Attributes
    ----------
    is_down
        Until this is False.
    probes
        Requests while it was down.
    at_once
        The most of them at the same time, since this was last set to 0.
    alone
        How many of them, up to the last, came while no other was there.
    """

    def __init__(self) -> None:
        self.is_down = True
        self.probes = 0
        self.at_once = 0
        self.alone = 0
        self._asking = 0
        self._lock = threading.Lock()
        super().__init__()

    def get(self, path: str) -> tuple[int, Resource]:
        with self._probe() if self.is_down else nullcontext():
            return (503, {}) if self.is_down and not path.endswith("/metadata") else super().get(path)

    def batch(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        with self._probe() if self.is_down else nullcontext():
            return (503, {}) if self.is_down else super().batch(bundle)

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        with self._probe() if self.is_down else nullcontext():
            return (503, {}) if self.is_down else super().post(bundle)

    @contextmanager
    def _probe(self) -> Iterator[None]:
        with self._lock:
            self.probes += 1
            self._asking += 1
            self.at_once = max(self.at_once, self._asking)
            self.alone = self.alone + 1 if self._asking == 1 else 0
        time.sleep(ANSWERS_AFTER_S)
        yield
        with self._lock:
            self._asking -= 1


@pytest.fixture
def server() -> Iterator[Outage]:
    made = Outage()
    yield made
    made.close()


class Sending:
    """Sends blocks of instances, and measures how long each takes."""

    def __init__(self, daemon: DaemonProcess, ledger: Ledger, instances: Iterator[EncodedInstance]) -> None:
        self._daemon = daemon
        self._ledger = ledger
        self._instances = instances

    def block(self, count: int = BLOCK) -> float:
        """Send some; the seconds that took."""
        instances = list(islice(self._instances, count))
        for one in instances:
            self._ledger.send(of(one))
        seconds, _ = send(self._daemon.address[1], AE_TITLE, instances, AT_ONCE)
        for one in instances:
            self._ledger.acknowledge(of(one))
        return seconds


def rate_while_down(sending: Sending, undisturbed: Sending) -> float:
    """The rate of reception while the server is down, of what it is where nothing is to be delivered; in turn."""
    ratios = [undisturbed.block() / sending.block() for _ in range(PAIRS)]
    return statistics.median(ratios)


def newest(studies: Sequence[Resource]) -> list[Resource]:
    """What a server has kept that was sent these."""
    return list({study["id"]: study for study in studies}.values())


def peak_mib(daemon: DaemonProcess) -> float:
    """The most memory that it ever had (proc(5), status)."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_a_server_that_is_down_for_long(
    server: Outage,
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    studies = scale(2_000, 200_000)
    ledger = Ledger(history / "ledger.jsonl")
    daemon = make_daemon(("--quiet-period", "0"), SETTINGS.format(url=server.url))
    undisturbed = make_daemon(("--quiet-period", "600"), SETTINGS.format(url=server.url))
    daemon.start()
    undisturbed.start()
    sending = Sending(daemon, ledger, ct_instances(studies, studies))
    others = Sending(undisturbed, Ledger(history / "others.jsonl"), ct_instances(studies, studies))

    sending.block()
    # Workers that had begun before it was known to be down go on for some requests.
    wait_until(lambda: server.alone > 2 * WORKERS, 60, "the server is known to be down")
    began, server.at_once, probes = time.monotonic(), 0, server.probes
    others.block()
    ratio = rate_while_down(sending, others)
    if ratio < GOES_ON_AT:  # something else may have used the machine: what is slower is slower each time
        ratio = max(ratio, rate_while_down(sending, others))
    assert undisturbed.terminate() == 0  # when its quiet period ends, its workers would ask the server, too
    while len(ledger.sent) < studies:
        sending.block(min(studies - len(ledger.sent), 1_000))
    per_s = (server.probes - probes) / (time.monotonic() - began)
    expected_per_s = REQUESTS_A_PROBE / (REQUESTS_A_PROBE * ANSWERS_AFTER_S + RETRY_MAX_S / 2)

    assert server.at_once == 1, "several workers probed at the same time"
    assert per_s <= LUCK * expected_per_s, f"{per_s:.1f} requests a second while it was down"
    assert server.studies == []
    server.is_down = False
    assert daemon.settled().refused == 0
    check(sent=ledger.sent, acknowledged=ledger.acknowledged, delivered=newest(server.studies))
    assert len(newest(server.studies)) == studies
    figure(
        f"{studies} studies while the server was down: {ratio:.0%} of the rate, {per_s:.1f} requests/s,"
        f" {peak_mib(daemon):.0f} MiB at most"
    )
    assert peak_mib(daemon) <= MAX_RSS_MIB
    assert ratio >= GOES_ON_AT
