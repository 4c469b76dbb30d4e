"""The names under which a backfill holds studies, by the order in which its tasks begin and end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.jobs import backfill_holds
from dicom2fhir.jobs.backfill_holds import Holds


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_holds, "WINDOW_FILES", 10)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=100))
def test_a_name_is_not_released_while_a_task_has_it_and_after_a_whole_window(tasks: list[tuple[int, bool]]) -> None:
    """Tasks end in the order in which they begin, each with some files."""
    running: list[tuple[str, int]] = []
    files_since: dict[str, int] = {}

    def ended(association: str) -> None:
        assert association not in {name for name, _ in running}
        assert files_since.get(association, 10) >= 10

    def end_oldest() -> None:
        name, files = running.pop(0)
        for other in files_since:
            files_since[other] += files
        files_since[name] = 0
        holds.settled(files)

    holds = Holds(cast("Any", SimpleNamespace(association_ended=ended)), ["/archive"], may_reject=True)
    for files, ends in tasks:
        running.append((holds.origin().association, files))
        if ends:
            end_oldest()
    while running:
        end_oldest()
    files_since.clear()
    holds.release()


def test_many_files_take_both_names_in_turn() -> None:
    released: list[str] = []
    holds = Holds(cast("Any", SimpleNamespace(association_ended=released.append)), ["/archive"], may_reject=True)
    names = []
    for _ in range(6):
        names.append(holds.origin().association)
        holds.settled(10)
    assert names == [names[0], names[1]] * 3
    assert released == [names[1], names[0]] * 3
