"""Copies of a store, made while it is used, and put in its place."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom2fhir.errors import ConfigError, StoreDamaged, StoreInUse
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sqlite import copies
from dicom2fhir.store.sqlite.copies import back_up, restore
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.study_search import AttemptOutcome, StudyFilter
from tests.store_contract.bench import claimed, delivered

FILE = Origin("file")


def open_store(path: Path) -> SqliteStore:
    store = SqliteStore(path, quiet_period_s=0, max_wait_s=0, min_free_bytes=0)
    store.set_destinations(["main"])
    return store


def record(number: int) -> InstanceRecord:
    return InstanceRecord(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1", {}, {}, {}, {"SOPClassUID": "1.2"})


def silent(done: int, total: int) -> None:
    assert 0 <= done <= total


def test_a_copy_made_while_the_store_is_used_has_everything_from_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_PAGES", 4)
    path, copy = tmp_path / "store.db", tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()
    store = open_store(path)
    try:
        for number in range(1, 301):
            store.add(record(number), FILE)
        while store.update_index():
            pass
        claim = claimed(store, "main", "w", 60)
        assert claim is not None
        delivered(store, claim, 1, b"sent")
        steps: list[int] = []

        def add_another(done: int, total: int) -> None:
            steps.append(done)
            store.add(record(1000 + len(steps)), FILE)

        newest = back_up(path, copy, add_another)
        assert newest is not None
        assert len(steps) > 3 and store.stats().studies == 300 + len(steps)
    finally:
        store.close()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [one.name for one in copy.parent.iterdir()] == ["monday.db"]
    restored = tmp_path / "other" / "store.db"
    assert restore(restored, copy, silent) == (newest, None)
    again = open_store(restored)
    try:
        assert (again.stats().studies, again.stats().delivered, again.stats().waiting) == (300, 1, 299)
        assert len(again.find_studies(StudyFilter(), limit=400)) == 300
        details = again.study_details(claim.study_uid)
        assert details and [one.outcome for one in details.attempts] == [AttemptOutcome.UNCHANGED]
        assert again.requeue(claim.study_uid, all_states=True) == 1
        assert b"sent" in [one.base for one in again.claim("main", "w", 60, most=400)]
        assert not again.damages
    finally:
        again.close()


def test_a_restored_store_begins_where_the_copy_ended_and_the_other_one_is_kept(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    store = open_store(path)
    store.add(record(1), FILE)
    back_up(path, copy, silent)
    store.add(record(2), FILE)
    store.close()
    _, aside = restore(path, copy, silent)
    assert aside is not None and aside.name.startswith("store.db.replaced-")
    for file, studies in ((path, 1), (aside, 2)):
        again = open_store(file)
        assert again.stats().studies == studies
        assert not again.damages, "an older store that was restored on purpose is no damage"
        again.close()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    open_store(path).close()
    copy.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"copy\.db exists already"):
        back_up(path, copy, silent)
    assert copy.read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="there is no folder"):
        back_up(path, tmp_path / "absent" / "copy.db", silent)


def test_a_store_that_is_used_is_not_replaced(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    store = open_store(path)
    try:
        back_up(path, copy, silent)
        store.add(record(1), FILE)
        with pytest.raises(StoreInUse):
            restore(path, copy, silent)
        assert store.stats().studies == 1
    finally:
        store.close()


def cut(copy: Path) -> None:
    os.truncate(copy, copy.stat().st_size - 4096)


def empty(copy: Path) -> None:
    os.truncate(copy, 0)


@pytest.mark.parametrize("damage", [cut, empty])
def test_a_damaged_copy_changes_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    store = open_store(path)
    for number in range(50):
        store.add(record(number), FILE)
    store.close()
    back_up(path, copy, silent)
    damage(copy)
    before = {one.name for one in tmp_path.iterdir()}
    with pytest.raises(StoreDamaged, match=r"copy\.db"):
        restore(path, copy, silent)
    assert {one.name for one in tmp_path.iterdir()} == before
    again = open_store(path)
    assert again.stats().studies == 50 and not again.damages
    again.close()


def test_the_log_beside_a_copy_by_other_means_is_read(tmp_path: Path) -> None:
    path, folder = tmp_path / "store.db", tmp_path / "snapshot"
    folder.mkdir()
    store = open_store(path)
    try:
        store.add(record(1), FILE)
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", folder)
    finally:
        store.close()
    restore(path, folder / "store.db", silent)
    again = open_store(path)
    assert again.stats().studies == 1
    again.close()


def test_a_restore_that_is_interrupted_is_reported_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    open_store(path).close()
    back_up(path, copy, silent)

    class Killed(BaseException):
        pass

    rename, calls = os.rename, itertools.count()

    def killed(old: str, new: str) -> None:
        if next(calls):  # the first one moves the store away
            raise Killed
        rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "rename", killed)
        restore(path, copy, silent)
    again = open_store(path)
    assert len(again.damages) == 1
    again.close()


def test_a_copy_waits_for_nobody(tmp_path: Path) -> None:
    """Instances are acknowledged while a copy is being made."""
    path = tmp_path / "store.db"
    store = open_store(path)
    try:
        store.add(record(1), FILE)
        began, go_on = threading.Event(), threading.Event()

        def hold(done: int, total: int) -> None:
            began.set()
            assert go_on.wait(60)

        copying = threading.Thread(target=back_up, args=(path, tmp_path / "copy.db", hold))
        copying.start()
        assert began.wait(60)
        store.add(record(2), FILE)
        go_on.set()
        copying.join(60)
        assert store.stats().studies == 2
    finally:
        store.close()
