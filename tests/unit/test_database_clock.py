"""How the clock of a database is read, whose answers take longer or shorter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dicom2fhir.store.postgres import database_clock
from dicom2fhir.store.postgres.database_clock import DatabaseClock

AHEAD_S = 1_000_000.0


def test_the_quickest_answer_counts_and_is_from_the_middle_of_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 50.0
    ways_s = iter([(0.0, 4.0), (0.5, 0.5), (3.0, 0.0)])

    def execute(_query: str) -> Any:
        nonlocal now_s
        there_s, back_s = next(ways_s)
        now_s += there_s
        told = now_s + AHEAD_S
        now_s += back_s
        return SimpleNamespace(fetchone=lambda: (told,))

    monkeypatch.setattr(database_clock, "time", SimpleNamespace(monotonic=lambda: now_s))
    clock = DatabaseClock()
    clock.read(cast("Any", SimpleNamespace(execute=execute)))
    assert clock.now() == now_s + AHEAD_S
