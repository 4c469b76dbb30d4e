"""A daemon whose store is damaged, as its operator sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, run_command
from tests.integration.test_one_bad_file import send
from tests.integration.test_upkeep_commands import of


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    settings = f"[destinations.files]\ntype = 'file'\ndirectory = '{tmp_path / 'out'}'\n"
    made = DaemonProcess(tmp_path / "daemon", ("--quiet-period", "0"), settings)
    yield made
    made.clean_up()


def test_status_tells_of_a_damage_until_it_is_acknowledged(daemon: DaemonProcess) -> None:
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    assert daemon.terminate() == 0
    daemon.store_path.write_bytes(b"")
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert Path(damage["aside"]).read_bytes() == b""
    place = ("--state-dir", daemon.state_dir)
    told = run_command("status", "--check", "--acknowledge", *place)
    assert told.returncode == 1
    assert "no SQLite header" in " ".join(told.stdout.decode().split())
    assert run_command("status", "--check", *place).returncode == 0
    assert daemon.status()["damages"] == []
    assert send(daemon, of("one", 1)) == [0]
    assert run_command("status", "1.2", "--acknowledge", *place).returncode == 2
