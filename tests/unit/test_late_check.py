"""A store that is too large to be checked at the start is checked afterwards, and damage has the same end."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ops import store_checker
from dicom2fhir.ops.store_checker import StoreChecker
from dicom2fhir.store.sqlite import late_check
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.store_contract.bench import DEST, FOLDER, record

PAGE = 4096
STUDIES, INSTANCES = 20, 200


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, closed, that counts as large."""
    made = tmp_path / "store.db"
    store = opened(made)
    store.set_destinations([DEST])
    for study in range(STUDIES):
        store.add_many([record(number, study=f"1.{study}") for number in range(INSTANCES)], FOLDER)
    store.close()
    monkeypatch.setattr(late_check, "_CHECKED_AT_START_BYTES", PAGE)
    monkeypatch.setattr(store_checker, "_AFTER_FAILURE_S", 0.001)
    return made


def opened(path: Path, on_failure: Callable[[str], None] = lambda _reason: None) -> SqliteStore:
    return SqliteStore(path, min_free_bytes=0, on_failure=on_failure)


def damage_page_of(path: Path, table: str) -> None:
    """Overwrite a page in the middle of a table."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
        )
        pages = [number for (number,) in rows]
    with path.open("r+b") as file:
        file.seek((pages[len(pages) // 2] - 1) * PAGE)
        file.write(b"\xff" * PAGE)


def mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{late_check.END}")


def check_all(store: SqliteStore) -> None:
    while store.is_unchecked:
        store.check_part(lambda: False)


def test_a_sound_store_is_checked_table_by_table(path: Path) -> None:
    store = opened(path)
    try:
        assert store.set_aside is None
        assert store.is_unchecked
        store.check_part(lambda: False)
        assert store.is_unchecked, "that was one of many"
        store.add(record(study="1.99"), FOLDER)
        check_all(store)
        assert store.failure is None
    finally:
        store.close()
    assert not mark_of(path).exists()


def test_a_damaged_page_makes_the_store_fail_and_the_next_start_sets_it_aside(path: Path) -> None:
    damage_page_of(path, "instance")
    reasons: list[str] = []
    store = opened(path, reasons.append)
    try:
        assert store.set_aside is None
        store.add(record(study="1.99"), FOLDER)
        assert reasons == []
        check_all(store)
        (reason,) = reasons
        assert reason.startswith(f"The store {path} is damaged: ")
        assert not store.is_unchecked
        with pytest.raises(StoreUnavailable, match="damaged"):
            store.add(record(study="1.100"), FOLDER)
    finally:
        store.close()
    assert mark_of(path).exists()
    again = opened(path)
    try:
        assert again.set_aside
        assert not again.is_unchecked
        (told,) = again.damages
        assert told.aside == str(again.set_aside)
        assert again.stats().studies == 0
        again.add(record(), FOLDER)
    finally:
        again.close()
    assert not mark_of(path).exists()


def test_a_page_that_a_reader_finds_damaged_is_no_crash_loop(path: Path) -> None:
    """The start alone does not see it; without a mark it would end in the same way for ever."""
    damage_page_of(path, "instance")
    store = opened(path)
    try:
        failures = 0
        for study in range(STUDIES):
            try:
                store.study(f"1.{study}")
            except StoreUnavailable:
                failures += 1
        assert failures
        assert store.failure
    finally:
        store.close()
    again = opened(path)
    try:
        assert again.set_aside
    finally:
        again.close()


def test_a_store_that_failed_and_is_sound_is_used_again(path: Path) -> None:
    store = opened(path)
    os.rename(path, path.with_name("elsewhere"))
    store.look()
    assert store.failure
    store.close()
    os.rename(path.with_name("elsewhere"), path)
    assert mark_of(path).exists()
    again = opened(path)
    try:
        assert (again.set_aside, again.is_unchecked) == (None, False)
        assert again.stats().studies == STUDIES
        assert not mark_of(path).exists()
    finally:
        again.close()


def test_a_small_store_is_checked_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    damage_page_of(path, "instance")
    store = opened(path)
    try:
        assert store.set_aside
        assert not store.is_unchecked
    finally:
        store.close()


def test_a_file_that_was_cut_is_found_at_the_start_however_large(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)
    store = opened(path)
    try:
        assert store.set_aside
    finally:
        store.close()


def test_a_check_that_is_stopped_leaves_its_table(path: Path) -> None:
    store = opened(path)
    try:
        with pytest.raises(StoreUnavailable, match="cannot be checked"):
            while store.is_unchecked:
                store.check_part(lambda: True)  # small tables end before anybody asks
        assert store.is_unchecked
        assert store.failure is None
        check_all(store)
    finally:
        store.close()


@pytest.fixture
def large(path: Path) -> Iterator[SqliteStore]:
    made = opened(path)
    yield made
    made.close()


@pytest.mark.parametrize(("failure", "event"), [(None, None), (StoreUnavailable("locked"), "store.check_delayed")])
def test_the_thread_checks_until_nothing_is_left(
    large: SqliteStore, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, event: str | None
) -> None:
    failures, check_part = [failure] if failure else [], large.check_part

    def failing(is_stopping: Callable[[], bool]) -> None:
        if failures:
            raise failures.pop()
        check_part(is_stopping)

    monkeypatch.setattr(large, "check_part", failing)
    with capture_logs() as logs:
        thread = run_until(large, lambda: not large.is_unchecked, monkeypatch)
    assert [one["event"] for one in logs] == [*([event] if event else []), "store.checked"]
    assert thread.state
    assert thread.state.checked == thread.state.tables == large.check_progress[1] > 1
    assert thread.state.ended_at and thread.state.ended_at >= thread.state.since
    assert thread.state.found == ""


def test_the_thread_says_how_far_it_is_and_what_it_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage_page_of(path, "instance")
    store = opened(path)
    try:
        states, check_part = [], store.check_part

        def noting(is_stopping: Callable[[], bool]) -> None:
            states.append(thread.state)
            check_part(is_stopping)

        monkeypatch.setattr(store, "check_part", noting)
        thread = StoreChecker(store)
        with capture_logs() as logs:
            run(thread, lambda: bool(store.failure), monkeypatch)
    finally:
        store.close()
    assert [state and (state.checked, state.found) for state in states] == [(n, "") for n in range(len(states))]
    assert len(states) > 1
    assert thread.state and thread.state.ended_at
    assert thread.state.found == store.failure
    assert [one["event"] for one in logs] == ["store.failed"]


def test_a_fault_of_the_check_ends_it(large: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def failing(is_stopping: object) -> None:
        calls.append(is_stopping)
        raise ValueError("a fault")

    monkeypatch.setattr(large, "check_part", failing)
    with capture_logs() as logs:
        thread = run_until(large, lambda: bool(calls), monkeypatch)
    assert [one["event"] for one in logs] == ["store.check_failed"]
    assert thread.state and thread.state.ended_at
    assert thread.state.found == "the check failed: ValueError; see the log"
    assert len(calls) == 1


def run_until(store: SqliteStore, is_done: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> StoreChecker:
    """A thread that ran until it would wait."""
    thread = StoreChecker(store)
    run(thread, is_done, monkeypatch)
    return thread


def run(thread: StoreChecker, is_done: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    wait = thread._stopping.wait

    def waiting(timeout: Any) -> bool:
        if is_done() and timeout:
            waits.set()
        return wait(timeout)

    monkeypatch.setattr(thread._stopping, "wait", waiting)
    thread.start()
    assert waits.wait(30)
    thread.stop(10)
