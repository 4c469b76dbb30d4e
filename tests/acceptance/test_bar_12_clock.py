"""A clock that is set, while the daemon runs and while it does not: nothing is stuck, and nothing is done too often."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from testdata.make_dicom import ct_instances
from tests.acceptance.load import try_to_send
from tests.daemon_process import ROOT, DaemonProcess, to_files, wait_until
from tests.preload import build
from tests.scripted_server import Resource, ScriptedServer

pytestmark = [pytest.mark.bar(12), pytest.mark.needs("cc"), pytest.mark.timeout(300)]

MINUTE, HOUR, DAY, YEARS = 60, 3_600, 86_400, 10 * 365 * 86_400
WHILE_IT_RUNS = [-2 * MINUTE, -HOUR, HOUR, -DAY, -YEARS, 2 * YEARS]
WHILE_IT_IS_DOWN = [-HOUR, -YEARS, 2 * YEARS]
TO_WINTER, TO_SUMMER = "2026-10-25T01:00:00+00:00", "2027-03-28T01:00:00+00:00"
"""When clocks in Paris are put back and forward."""


class CountingServer(ScriptedServer):
    """Counts every request, and those that write."""

    def __init__(self) -> None:
        self.requests = 0
        self.writes = 0
        super().__init__()

    def get(self, path: str) -> tuple[int, Resource]:
        self.requests += 1
        return super().get(path)

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        self.requests += 1
        self.writes += bundle["type"] == "transaction"
        return super().post(bundle)


class Machine:
    """A daemon and the clock of its machine."""

    def __init__(self, history: Path, make_daemon: Callable[..., DaemonProcess], settings: str) -> None:
        self._step_file = history / "step"
        self._ahead_s = 0
        self._studies = ct_instances(100, 100)
        self.sent = 0
        self.set_clock(0)
        variables = {
            "LD_PRELOAD": build(ROOT / "tests" / "set_clock.c", history),
            "CLOCK_STEP_FILE": str(self._step_file),
            "TZ": "Europe/Paris",
        }
        self.daemon = make_daemon(("--quiet-period", "2"), settings, variables=variables)

    def set_clock(self, step_s: int) -> None:
        self._ahead_s += step_s
        new = self._step_file.with_suffix(".new")
        new.write_text(str(self._ahead_s))
        os.replace(new, self._step_file)

    def set_clock_to(self, moment: datetime) -> None:
        self.set_clock(round(moment.timestamp() - time.time()) - self._ahead_s)

    def step(self, step_s: int) -> None:
        """Set the clock while the daemon runs, and wait until it has seen that."""
        begin = self.daemon.log_path.stat().st_size
        self.set_clock(step_s)
        self.daemon.says(("store.clock_set",), begin)

    def send(self) -> None:
        """One more study."""
        self.sent += 1
        assert try_to_send(self.daemon, next(self._studies))


@pytest.fixture
def machine(history: Path, make_daemon: Callable[..., DaemonProcess]) -> Machine:
    return Machine(history, make_daemon, to_files(history / "out"))


def test_the_clock_is_set_while_the_daemon_runs(machine: Machine) -> None:
    machine.daemon.start()
    for step_s in WHILE_IT_RUNS:
        machine.send()
        machine.step(step_s)
        assert machine.daemon.settled().delivered == machine.sent
    assert machine.daemon.terminate() == 0


def test_the_clock_is_set_while_the_daemon_is_down(machine: Machine) -> None:
    for step_s in WHILE_IT_IS_DOWN:
        machine.daemon.start()
        machine.send()
        machine.daemon.kill()
        machine.set_clock(step_s)
        machine.daemon.start()
        assert machine.daemon.settled().delivered == machine.sent
        assert machine.daemon.terminate() == 0


@pytest.mark.parametrize("change", [TO_WINTER, TO_SUMMER])
def test_a_study_waits_while_the_local_time_changes(machine: Machine, change: str) -> None:
    machine.set_clock_to(datetime.fromisoformat(change))
    machine.set_clock(-1)  # less than the quiet period
    machine.daemon.start()
    machine.set_clock_to(datetime.fromisoformat(change))
    machine.set_clock(-1)
    machine.send()
    assert machine.daemon.settled().delivered == machine.sent
    assert machine.daemon.terminate() == 0


def test_a_server_that_is_away_is_not_asked_more_often_for_a_clock_that_is_set(
    history: Path, make_daemon: Callable[..., DaemonProcess]
) -> None:
    server = CountingServer()
    try:
        settings = f'[destinations.main]\ntype = "fhir"\nurl = "{server.url}"\nretry_max_s = 16\n'
        # the folder's workers see each step at once, those of the server when its pause ends
        machine = Machine(history, make_daemon, settings + to_files(history / "out"))
        machine.daemon.start()
        server.is_away = True
        for _ in range(5):
            machine.send()
        begin = time.monotonic()
        wait_until(lambda: server.requests, 60, "the server was asked")
        for step_s in WHILE_IT_RUNS * 3:
            machine.step(step_s)
        before = server.requests
        wait_until(lambda: server.requests > before, 60, "a pause has begun that the last step falls into")
        machine.step(-YEARS)
        asked, seconds = server.requests, time.monotonic() - begin
        server.is_away = False
        assert machine.daemon.settled().delivered == 2 * machine.sent
        assert server.writes == machine.sent
        assert machine.daemon.terminate() == 0
    finally:
        server.close()
    # Pauses end by chance within 1, 2, 4, 8 and 16 s: five tries and one each 8 s are to be expected.
    assert asked <= 10 + seconds / 4
