"""A store that lost some of its files, or parts of them: every way is told once, and none keeps it from starting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sqlite import SqliteStore

ORIGIN = Origin("folder")
KEPT, ADDED = 150, 30
Damage = Callable[[Path], None]


def add(store: SqliteStore, first: int, count: int) -> None:
    for number in range(first, first + count):
        attrs = {"SOPClassUID": "1.2", "InstanceNumber": str(number)}
        study = f"1.{number % 5}"
        store.add(InstanceRecord(study, f"{study}.1", f"{study}.1.{number}", {}, {}, {}, attrs), ORIGIN)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a store whose process was killed: the last instances are in the write-ahead log alone.

    ``earlier.db`` is a copy from before them.
    """
    folder = tmp_path_factory.mktemp("killed")
    live = tmp_path_factory.mktemp("live")
    store = SqliteStore(live / "store.db", min_free_bytes=0)
    add(store, 0, KEPT)
    store.close()
    shutil.copy(live / "store.db", folder / "earlier.db")
    store = SqliteStore(live / "store.db", min_free_bytes=0)
    add(store, KEPT, ADDED)
    store.look()
    for end in ("", "-wal", "-shm", ".progress"):
        shutil.copy(live / f"store.db{end}", folder / f"store.db{end}")
    store.close()
    return folder


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "state")
    return tmp_path / "state" / "store.db"


def cut(end: str, share: float) -> Damage:
    def do(path: Path) -> None:
        file = Path(f"{path}{end}")
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    return do


def flip(end: str, share: float) -> Damage:
    def do(path: Path) -> None:
        file = Path(f"{path}{end}")
        data = bytearray(file.read_bytes())
        data[int((len(data) - 1) * share)] ^= 0x55
        file.write_bytes(data)

    return do


def hole(share: float) -> Damage:
    def do(path: Path) -> None:
        data = path.read_bytes()
        page = int(len(data) // 4096 * share) * 4096
        path.write_bytes(data[:page] + bytes(4096) + data[page + 4096 :])

    return do


def remove(*ends: str) -> Damage:
    def do(path: Path) -> None:
        for end in ends:
            Path(f"{path}{end}").unlink()

    return do


def put(source: str, end: str) -> Damage:
    def do(path: Path) -> None:
        shutil.copy(path.with_name(source), f"{path}{end}")

    return do


def both(*damages: Damage) -> Damage:
    def do(path: Path) -> None:
        for damage in damages:
            damage(path)

    return do


SHARES = [number / 16 for number in range(16)]
LOST: dict[str, Damage] = {
    **{f"file cut at {share}": cut("", share) for share in SHARES},
    **{f"log cut at {share}": cut("-wal", share) for share in SHARES},
    **{f"log altered at {share}": flip("-wal", share) for share in SHARES[:-1]},
    **{f"file cut at {share}, no log": both(cut("", share), remove("-wal")) for share in SHARES},
    "file removed": remove(""),
    "log removed": remove("-wal"),
    "log and index removed": remove("-wal", "-shm"),
    "file and log removed": remove("", "-wal"),
    "all but the progress removed": remove("", "-wal", "-shm"),
    "log in the place of the file": put("store.db-wal", ""),
    "file in the place of the log": put("store.db", "-wal"),
    "earlier file, no log": both(put("earlier.db", ""), remove("-wal", "-shm")),
    "progress in the place of the file": put("store.db.progress", ""),
}
"""Ways in which instances are lost, or may be: told in any case, unless all are there."""
UNCERTAIN: dict[str, Damage] = {
    **{f"page {share} zeroed, no log": both(remove("-wal", ".progress"), hole(share)) for share in SHARES},
    **{f"file altered at {share}": flip("", share) for share in SHARES},
}
HARMLESS: dict[str, Damage] = {
    "nothing": both(),
    "index removed": remove("-shm"),
    "index altered": flip("-shm", 0.01),
    "progress removed": remove(".progress"),
    "progress altered": flip(".progress", 0.5),
    "progress emptied": cut(".progress", 0),
}


def opened(path: Path) -> tuple[int, list[str]]:
    """Start and stop; how many instances are readable, and what is told."""
    store = SqliteStore(path, min_free_bytes=0)
    try:
        studies = [store.study(one.study_uid) for one in store.studies()]
        found = sum(len(series.instances) for study in studies if study for series in study.series)
        assert store.stats().instances == found
        return found, [damage.reason for damage in store.damages]
    finally:
        store.close()


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_told_once(path: Path, name: str) -> None:
    LOST[name](path)
    found, told = opened(path)
    assert found == KEPT + ADDED or len(told) == 1
    assert opened(path) == (found, told)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_costs_nothing_is_not_told(path: Path, name: str) -> None:
    HARMLESS[name](path)
    assert opened(path) == (KEPT + ADDED, [])


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_page_that_is_altered_keeps_nothing_from_starting(path: Path, name: str) -> None:
    UNCERTAIN[name](path)
    try:
        found, told = opened(path)
    except StoreDamaged:  # of one study, which is refused
        return
    assert told or found >= KEPT
    assert opened(path) == (found, told)
