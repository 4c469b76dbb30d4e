"""The thread that keeps the search index up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ops import index_keeper
from dicom2fhir.ops.index_keeper import IndexKeeper
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.study_search import StudyFilter
from tests.store_contract.bench import FOLDER, record


@contextmanager
def kept(store: SqliteStore) -> Iterator[None]:
    keeper = IndexKeeper(store)
    keeper.start()
    try:
        yield
    finally:
        keeper.stop(10)


@pytest.mark.parametrize("failure", [None, StoreUnavailable("locked"), ValueError("a fault")])
def test_what_was_stored_is_found_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    """Also after the index could not be written once."""
    monkeypatch.setattr(index_keeper, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(index_keeper, "_AFTER_FAILURE_S", 0.001)
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    update, is_done = store.update_index, threading.Event()
    failures = [failure] if failure else []

    def update_index() -> bool:
        if failures:
            raise failures.pop()
        is_more = update()
        if store.find_studies(StudyFilter()):
            is_done.set()
        return is_more

    monkeypatch.setattr(store, "update_index", update_index)
    try:
        with kept(store):
            store.add(record(), FOLDER)
            assert is_done.wait(30)
    finally:
        store.close()


def test_a_keeper_that_was_not_started_can_be_stopped(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    try:
        IndexKeeper(store).stop(1)
    finally:
        store.close()
