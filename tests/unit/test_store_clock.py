"""Studies that wait, are held, paused or being sent while somebody sets the clock."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sql.clock import Clock
from dicom2fhir.store.sqlite.store import SqliteStore

QUIET_S, MAX_WAIT_S, LEASE_S, PAUSE_S = 30.0, 900.0, 600.0, 60.0
LOOK_S = 2.0
"""Within so much a step of the clock is noticed."""
DEST = "main"
FOLDER = Origin("folder", path="/in/a.dcm")
HELD = Origin("dimse", calling_ae="CT1", association="a")
HOUR_S = 3_600.0
YEARS_S = 10 * 365 * 86_400.0
BACK = [-2.0, -60.0, -HOUR_S, -86_400.0, -25 * HOUR_S, -YEARS_S]
BOTH_WAYS = [*BACK, *(-step_s for step_s in BACK)]


running_or_restarted = pytest.mark.parametrize("over_a_restart", [False, True], ids=["running", "restarted"])


def test_a_step_is_followed_as_soon_as_the_store_can_be_written(tmp_path: Path) -> None:
    now = 1_700_000_000.0
    store = SqliteStore(tmp_path / "store.db", clock=lambda: now, min_free_bytes=0, busy_timeout_s=0.01)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    try:
        store.set_destinations([DEST])
        store.add(InstanceRecord("1.1", "1.1.1", "1.9", {}, {}, {}, {}), FOLDER)
        now -= HOUR_S
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locking the store"):
            store.next_due_at(DEST)
        other.execute("ROLLBACK")
        assert store.next_due_at(DEST) == now + QUIET_S
    finally:
        other.close()
        store.close()


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_clock_that_is_slewed_is_not_set(rate: float) -> None:
    passed_s = 0.0
    clock = Clock(lambda: passed_s * rate, lambda: passed_s)
    for _ in range(1_000):
        passed_s += 2.0
        assert clock.now() == passed_s * rate
        assert clock.step_s() == 0.0


def test_a_step_stays_until_it_is_forgotten() -> None:
    wall, steady = 1_000.0, 10.0
    clock = Clock(lambda: wall, lambda: steady)
    assert clock.now() == 1_000.0
    for step_s in -500.0, 500.0:
        wall += step_s
        assert clock.step_s() == clock.step_s() == step_s
        clock.forget_steps(clock.read())
        assert clock.step_s() == 0.0


@pytest.mark.parametrize("step_s", [-500.0, 500.0])
def test_a_step_while_another_one_is_put_right_is_seen(step_s: float) -> None:
    wall, steady = 1_000.0, 10.0
    clock = Clock(lambda: wall, lambda: steady)
    clock.now()
    wall -= 2_000.0
    reading = clock.read()
    wall += step_s  # while the store writes
    clock.forget_steps(reading)
    assert clock.step_s() == step_s
