"""Bar 15: DCMTK sends over many associations at once; no store fails, and none of the senders waits for the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testdata.make_dicom import ct_instances
from tests.acceptance.load import of, stored
from tests.acceptance.promises import Ledger, check
from tests.acceptance.senders import acknowledged, start_storescu
from tests.daemon_process import DaemonProcess, to_files

pytestmark = [pytest.mark.bar(15), pytest.mark.needs("storescu"), pytest.mark.timeout(300)]

FAIR = 2.0
"""The slowest sender takes no longer than so many times the quickest."""


def send(daemon: DaemonProcess, files: list[Path], folder: Path) -> tuple[float, list[Path]]:
    """Send over one association; the seconds that it took, and what was acknowledged."""
    folder.mkdir()
    began = time.monotonic()
    with start_storescu(daemon.address, files, folder) as process:
        output, _ = process.communicate(timeout=250)
    took_s = time.monotonic() - began
    assert process.returncode == 0, output[-500:]
    return took_s, acknowledged(output)


def test_parallel_associations_are_served_alike(
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    senders, each = scale(8, 32), scale(200, 1_000)
    ledger = Ledger(history / "ledger.jsonl")
    shares: list[list[Path]] = [[] for _ in range(senders)]
    instances = {}
    for number, encoded in enumerate(ct_instances(senders * each, senders)):
        path = history / f"{number}.dcm"
        path.write_bytes(encoded.file)
        instances[path] = of(encoded)
        ledger.send(of(encoded))
        shares[number // each].append(path)
    daemon = make_daemon(("--quiet-period", "30"), to_files(history / "out"))
    daemon.start()
    began = time.monotonic()
    with ThreadPoolExecutor(senders) as pool:
        folders = [history / f"sender-{number}" for number in range(senders)]
        took = list(pool.map(lambda files, folder: send(daemon, files, folder), shares, folders))
    seconds = time.monotonic() - began
    for _, files in took:
        for path in files:
            ledger.acknowledge(instances[path])
    assert ledger.acknowledged == ledger.sent
    check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored(daemon.store_path))
    assert daemon.terminate() == 0
    times = sorted(time_s for time_s, _ in took)
    figure(
        f"{senders} x {each}: {len(ledger.sent) / seconds:.0f} stores/s, slowest/quickest {times[-1] / times[0]:.2f}"
    )
    assert times[-1] <= FAIR * times[0]
