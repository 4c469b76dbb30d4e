"""The daemon on a machine whose clock is set, while it runs and while it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE

from dicom2fhir.synthetic import instance
from tests.daemon_process import DaemonProcess

YEARS_S = 10 * 365 * 86_400


class Machine:
    """A daemon and the clock of its machine."""

    def __init__(self, folder: Path) -> None:
        self._step_file = folder / "step"
        self._ahead_s = 0
        self.set_clock(0)
        settings = f'[destinations.files]\ntype = "file"\ndirectory = "{folder / "out"}"\n'
        self.daemon = DaemonProcess(folder / "daemon", ("--quiet-period", "2"), settings, module="tests.clock_set")

    def set_clock(self, step_s: int) -> None:
        self._ahead_s += step_s
        new = self._step_file.with_suffix(".new")
        new.write_text(str(self._ahead_s))
        os.replace(new, self._step_file)

    def send(self, study: str) -> None:
        sender = AE("SENDER")
        sample = instance("CT", study)
        sender.add_requested_context(sample.SOPClassUID)
        association = sender.associate(*self.daemon.address, ae_title="DICOM2FHIR")
        assert association.send_c_store(sample).Status == 0
        association.release()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("CLOCK_STEP_FILE", str(tmp_path / "step"))
    made = Machine(tmp_path)
    yield made
    made.daemon.clean_up()


def test_the_clock_is_set_while_the_daemon_runs(machine: Machine) -> None:
    machine.daemon.start()
    for number, step_s in enumerate([-3_600, 3_600, -86_400, -YEARS_S, 2 * YEARS_S], start=1):
        machine.send(f"study {number}")
        begin = machine.daemon.log_path.stat().st_size
        machine.set_clock(step_s)
        machine.daemon.says(("store.clock_set",), begin)
        assert machine.daemon.settled().delivered == number
    assert machine.daemon.terminate() == 0


def test_the_clock_is_set_while_the_daemon_is_down(machine: Machine) -> None:
    for number, step_s in enumerate([-3_600, YEARS_S], start=1):
        machine.daemon.start()
        machine.send(f"study {number}")
        machine.daemon.kill()
        machine.set_clock(step_s)
        machine.daemon.start()
        assert machine.daemon.settled().delivered == number
        assert machine.daemon.terminate() == 0
