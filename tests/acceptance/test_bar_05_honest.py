"""The answer is honest when the disk is full, fails or is read-only, and when the store is locked or damaged.

Success (0000) is only answered for what is in the store after the next start. Else the status says that the sender has
to try again, the daemon ends with a status that has systemd start it again, and it goes on once the disk does.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testdata.make_dicom import ct_instances
from tests import tracing
from tests.acceptance.load import of, stored, try_to_send
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import DaemonProcess, wait_until
from tests.integration.test_store_locked import locked

pytestmark = [pytest.mark.bar(5), pytest.mark.timeout(300)]

EX_IOERR = 74
QUIET = ("--quiet-period", "600")
_MOST = 3_000
"""Instances that the largest disk of these tests has no room for."""
FAULTS = {
    "EIO in a write of the log": (tracing.WRITE, "EIO", "store.db-wal"),
    "EIO in a sync of the log": (tracing.SYNC, "EIO", "store.db-wal"),
    "ENOSPC in a write of the log": (tracing.WRITE, "ENOSPC", "store.db-wal"),
    "ENOSPC in a sync of the log": (tracing.SYNC, "ENOSPC", "store.db-wal"),
    "EROFS in a write of the log": (tracing.WRITE, "EROFS", "store.db-wal"),
    "EIO in a read of the store": (tracing.READ, "EIO", "store.db"),
    "EIO in a read of the log": (tracing.READ, "EIO", "store.db-wal"),
}
"""What fails from some moment on: system call, error, file."""


class Sending:
    """Sends instances one by one and writes down what was answered."""

    def __init__(self, daemon: DaemonProcess, history: Path) -> None:
        self._daemon = daemon
        self._ledger = Ledger(history / "ledger.jsonl")
        self._instances = iter(ct_instances(20_000, 200))

    def one(self) -> bool:
        """Send the next; whether it was acknowledged."""
        instance = next(self._instances)
        self._ledger.send(of(instance))
        if not try_to_send(self._daemon, instance):
            return False
        self._ledger.acknowledge(of(instance))
        return True

    def until_refused(self) -> None:
        """Send until one is not acknowledged."""
        assert any(not self.one() for _ in range(_MOST)), f"{_MOST} instances were acknowledged"

    def is_kept(self) -> None:
        """Everything that was acknowledged is in the store."""
        check(sent=self._ledger.sent, acknowledged=self._ledger.acknowledged, stored=stored(self._daemon.store_path))


@pytest.fixture
def daemon(make_daemon: Callable[..., DaemonProcess], history: Path) -> DaemonProcess:
    return make_daemon(QUIET, f'[destinations.files]\ntype = "file"\ndirectory = "{history / "out"}"\n')


@pytest.fixture
def sending(daemon: DaemonProcess, history: Path) -> Sending:
    return Sending(daemon, history)


@pytest.mark.needs("strace", "ptrace")
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_acknowledged_that_the_disk_did_not_take(daemon: DaemonProcess, sending: Sending, name: str) -> None:
    calls, error, file = FAULTS[name]
    daemon.start()
    assert [sending.one() for _ in range(5)] == [True] * 5
    with tracing.injected(daemon.pid, calls, f"error={error}", daemon.state_dir / file):
        sending.until_refused()
        assert daemon.ended() == EX_IOERR
    daemon.start()
    sending.is_kept()
    assert sending.one()
    assert daemon.status()["damages"] == []
    assert daemon.terminate() == 0


@pytest.mark.needs("strace", "ptrace")
@pytest.mark.parametrize("calls", [tracing.WRITE, tracing.SYNC])
def test_what_a_checkpoint_cannot_bring_home_stays_in_the_log(
    daemon: DaemonProcess, sending: Sending, calls: str
) -> None:
    daemon.start()
    assert [sending.one() for _ in range(5)] == [True] * 5
    with tracing.injected(daemon.pid, calls, "error=EIO", daemon.store_path):
        daemon.terminate()  # which closes the store, and with it comes a checkpoint
    daemon.start()
    sending.is_kept()
    assert sending.one()
    assert daemon.status()["damages"] == []
    assert daemon.terminate() == 0


@pytest.fixture
def small_disk(daemon: DaemonProcess) -> Iterator[Callable[[str], None]]:
    """The state folder lies on a file system of 2 MB; ``small_disk("size=8m")`` mounts it anew with other options."""

    def mount(options: str, *more: str) -> None:
        subprocess.run(["mount", *more, "-o", options, "-t", "tmpfs", "tmpfs", daemon.state_dir], check=True)

    daemon.state_dir.mkdir()
    mount("size=2m")
    yield lambda options: mount(f"remount,{options}")
    daemon.clean_up()
    subprocess.run(["umount", daemon.state_dir], check=True)


@pytest.mark.needs("mount")
def test_a_full_disk_is_told_and_left_again(
    daemon: DaemonProcess, sending: Sending, small_disk: Callable[[str], None]
) -> None:
    daemon.start()
    sending.until_refused()
    assert daemon.ended() == EX_IOERR
    small_disk("size=32m")
    daemon.start()
    sending.is_kept()
    assert [sending.one() for _ in range(5)] == [True] * 5
    assert daemon.terminate() == 0


@pytest.mark.needs("mount")
def test_before_the_disk_is_full_the_watermark_stops_what_comes_in(
    daemon: DaemonProcess, sending: Sending, small_disk: Callable[[str], None]
) -> None:
    settings = daemon.config_path.read_text().replace("min_free_bytes = 0", "min_free_bytes = 8_000_000")
    daemon.config_path.write_text(settings)
    small_disk("size=10m")  # room for 2 MB, as in the test above; the watermark is looked at once a second
    daemon.start()
    sending.until_refused()
    assert not sending.one()
    small_disk("size=32m")
    wait_until(sending.one, 30, "there is room again")
    sending.is_kept()
    assert daemon.terminate() == 0


@pytest.mark.needs("mount")
def test_a_read_only_disk_ends_the_start_and_not_what_is_stored(
    daemon: DaemonProcess, sending: Sending, small_disk: Callable[[str], None]
) -> None:
    daemon.start()
    assert [sending.one() for _ in range(5)] == [True] * 5
    daemon.kill()
    small_disk("ro")
    daemon.launch()
    assert daemon.ended() == EX_IOERR
    assert "Traceback" not in daemon.log_path.read_text()
    small_disk("rw")
    daemon.start()
    sending.is_kept()
    assert sending.one()
    assert daemon.terminate() == 0


def test_a_store_that_somebody_locks_refuses_and_goes_on(daemon: DaemonProcess, sending: Sending) -> None:
    daemon.start()
    assert sending.one()
    with locked(daemon.store_path):
        assert not sending.one()
    assert sending.one()
    sending.is_kept()
    assert daemon.terminate() == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_store_that_is_overwritten_while_it_is_used(
    daemon: DaemonProcess, sending: Sending, share: float, seed: int
) -> None:
    daemon.start()
    assert [sending.one() for _ in range(20)] == [True] * 20
    daemon.terminate()
    daemon.start()
    with daemon.store_path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(int(size * share) // 4096 * 4096)
        file.write(random.Random(seed).randbytes(size // 10))
    for _ in range(20):
        sending.one()
    if daemon.is_running():
        daemon.terminate()
    daemon.start()
    damages = daemon.status()["damages"]
    if damages:
        assert [Path(damage["aside"]).exists() for damage in damages] == [True]
    else:
        sending.is_kept()
    assert sending.one()
    assert daemon.terminate() == 0
