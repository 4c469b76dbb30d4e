"""``top``: one update, and the live view in a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2fhir.cli.top import View
from dicom2fhir.model import Origin
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection
from tests.command_line import run_here
from tests.store_contract.bench import over, record


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=0, min_free_bytes=0)
    try:
        made.set_destinations(["main", "second"])
        made.add_many([record(1), record(2)], over("a", "CT1"))
        made.association_ended("a")
        (claim,) = made.claim("main", "w", 60)
        made.refuse(claim, 2, "HTTP 422: DOE^JANE is no name")
        made.pause("second")
        made.update_index()
        yield made
    finally:
        made.close()


def test_one_update(store: SqliteStore) -> None:
    result = run_here("top", "--once", "--state-dir", store.path.parent)
    assert result.status == 0, result.stderr
    shown = result.stdout.decode()
    lines = shown.splitlines()
    assert lines[1:3] == [
        "Received     2 in an hour, 2 in a day   Delivered  0 in an hour, 0 in a day",
        "Deliveries   1 waiting  0 sending  0 delivered  1 refused  0 excluded   " + lines[2].split("   ")[-1],
    ]
    assert lines[2].split("   ")[-1].startswith("oldest waits 0:0")
    assert any(line.startswith("Attention    ") for line in lines)
    assert any(line.startswith("second               paused   since ") for line in lines)
    assert "received   1.1  CT  +2 instances (2 instances in 1 series)  from CT1" in shown
    assert "refused    1.1  main  revision 2" in shown
    assert "DOE" not in shown and "\x1b" not in shown


def test_an_update_fits_the_terminal_and_shows_the_latest_events(store: SqliteStore) -> None:
    view = View(store)
    for number in range(30):
        store.reject(Rejection(3e9 + number, Origin("dimse", calling_ae=f"CT{number}", peer="h"), "no", "NotAllowed"))
    lines = view.lines(time.time(), 20)
    assert len(lines) == 20
    assert lines[-1].endswith("rejected   from CT29@h  NotAllowed")
    assert len(view.lines(time.time(), 3)) == 3


def test_the_rate_is_that_since_the_last_update(store: SqliteStore) -> None:
    view, now = View(store), time.time()
    assert "instances/s" not in view.lines(now)[1]
    store.add_many([record(number) for number in range(10, 20)], over("b"))
    assert "5.0 instances/s now, " in view.lines(now + 2)[1]


def test_without_a_terminal_the_way_out_is_named(store: SqliteStore) -> None:
    result = run_here("top", "--state-dir", store.path.parent)
    assert result.status == 2 and "use --once" in result.stderr


@pytest.mark.parametrize("end", ["q", "ctrl-c"])
def test_the_live_view_ends_and_leaves_the_terminal_as_it_was(store: SqliteStore, end: str) -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "dicom2fhir", "top", "--every", "0.1", "--state-dir", str(store.path.parent)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as process:
            seen = read_until(ours, b"refused    1.1  main")
            assert seen.startswith(b"\x1b[?1049h")
            store.add(record(3), over("a", "CT1"))
            read_until(ours, b"+1 instance (3 instances")
            if end == "q":
                os.write(ours, b"q")
            else:
                process.send_signal(signal.SIGINT)
            read_until(ours, b"\x1b[?1049l")
            assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What the terminal shows, up to some text; the test's own time limit ends a wait for nothing."""
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 65_536)
    return seen
