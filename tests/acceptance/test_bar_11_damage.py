"""A store whose files are damaged: nothing is dropped silently, and nothing makes it start and fail for ever."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.errors import ConfigError, StoreDamaged
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.daemon_process import DaemonProcess
from tests.integration.test_interventions import of
from tests.integration.test_one_bad_file import send

pytestmark = pytest.mark.bar(11)

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


ROWS = {
    "cut": "UPDATE instance SET body = substr(body, 1, length(body) - 1) WHERE study_id = :study",
    "other JSON": "UPDATE instance SET body = CAST('[1]' AS BLOB) WHERE study_id = :study",
    "number": "UPDATE instance SET body = 7 WHERE study_id = :study",
    "not UTF-8": "UPDATE instance SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE study_id = :study",
    "shared": "UPDATE attrs SET body = CAST('{' AS BLOB) WHERE study_id = :study",
    "shared is a list": "UPDATE attrs SET body = CAST('[]' AS BLOB) WHERE study_id = :study",
    "no shared rows": "DELETE FROM attrs WHERE study_id = :study",
    "no series": "DELETE FROM series WHERE study_id = :study",
    "series not UTF-8": "UPDATE series SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE study_id = :study",
    "notes": "UPDATE instance SET notes = CAST('[[1]]' AS BLOB) WHERE study_id = :study",
    "study not UTF-8": "UPDATE study SET uid = CAST(x'5365637265742031ff' AS TEXT) WHERE id = :study",
}
"""What happens to the rows of a study of this name."""


def opened(path: Path) -> tuple[int | None, list[str]]:
    """Start and stop; how many instances are readable, and what is told."""
    store = SqliteStore(path, min_free_bytes=0)
    try:
        return readable(store), [damage.reason for damage in store.damages]
    finally:
        store.close()


def readable(store: SqliteStore) -> int | None:
    """How many instances are readable; None where the rows of a study are damaged, which is refused then."""
    try:
        studies = [store.study(one.study_uid) for one in store.studies()]
    except StoreDamaged:
        return None
    found = sum(len(series.instances) for study in studies if study for series in study.series)
    assert store.stats().instances == found
    return found


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
    found, told = opened(path)
    assert told or found is None or found >= KEPT
    assert opened(path) == (found, told)


@pytest.mark.parametrize("end", ["", "-wal"])
def test_no_damage_by_chance_keeps_the_store_from_starting(
    killed: Path, tmp_path: Path, end: str, seed: int, scale: Callable[[int, int], int]
) -> None:
    draw = random.Random(seed)
    path = tmp_path / "state" / "store.db"
    for _ in range(scale(20, 5_000)):
        shutil.copytree(killed, path.parent)
        damage_by_chance(Path(f"{path}{end}"), draw)
        with suppress(ConfigError) if not end else nullcontext():  # the damaged header names a newer version, say
            found, told = opened(path)
            assert told or found is None or found >= (KEPT + ADDED if end else KEPT)
            assert opened(path) == (found, told)
        shutil.rmtree(path.parent)


def damage_by_chance(file: Path, draw: random.Random) -> None:
    """Alter a byte, a sector or a page, or cut the file."""
    data = bytearray(file.read_bytes())
    size = draw.choice((1, 512, 4096))
    at = draw.randrange(len(data)) // size * size
    kind = draw.choice(("alter", "zero", "another place", "cut"))
    if kind == "cut":
        del data[at:]
    elif kind == "another place":
        data[at : at + size] = data[-size:]
    else:
        data[at : at + size] = bytes(byte ^ 0x55 if kind == "alter" else 0 for byte in data[at : at + size])
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["file cut at 0.0", "file cut at 0.5", "log removed", "file removed"])
def test_a_daemon_tells_of_the_damage_and_goes_on(
    make_daemon: Callable[..., DaemonProcess], history: Path, killed: Path, name: str
) -> None:
    daemon = make_daemon(("--quiet-period", "0"), to_files(history))
    shutil.copytree(killed, daemon.state_dir)
    LOST[name](daemon.store_path)
    for start in (1, 2):
        daemon.start()
        assert send(daemon, instance("CT", f"after start {start}")) == [0]
        daemon.settled()
        assert len(daemon.status()["damages"]) == 1
        assert daemon.terminate() == 0


def to_files(place: Path) -> str:
    return f'[destinations.files]\ntype = "file"\ndirectory = "{place / "out"}"\n'


def test_a_study_whose_rows_are_damaged_is_refused_and_the_others_go_on(
    make_daemon: Callable[..., DaemonProcess], history: Path
) -> None:
    daemon = make_daemon(("--quiet-period", "0"), to_files(history))
    daemon.start()
    studies = [make_uid(name) for name in ROWS]
    assert send(daemon, *(instance("CT", name) for name in (*ROWS, "good"))) == [0] * (len(ROWS) + 1)
    daemon.settled()
    assert daemon.terminate() == 0
    with closing(sqlite3.connect(daemon.store_path)) as connection:
        for change, study in zip(ROWS.values(), studies, strict=True):
            (number,) = connection.execute("SELECT id FROM study WHERE uid = ?", [study]).fetchone()
            connection.execute(change, {"study": number})
        connection.execute("UPDATE delivery SET state = 'waiting', due_at = 0")
        connection.commit()
    daemon.start()
    stats = daemon.settled()
    assert (stats.refused, stats.delivered) == (len(ROWS), 1)
    reasons = [one.deliveries[0].reason for one in daemon.studies().values() if one.deliveries[0].reason]
    assert len(reasons) == len(ROWS)
    assert "Secret" not in daemon.log_path.read_text(errors="replace") + "".join(reasons)
    assert daemon.status()["daemon"]["running"]


def test_a_daemon_whose_store_is_taken_away_ends_and_says_why(
    make_daemon: Callable[..., DaemonProcess], history: Path
) -> None:
    daemon = make_daemon(("--quiet-period", "0"), to_files(history))
    daemon.start()
    assert send(daemon, of("one", 1)) == [0]
    daemon.store_path.unlink()
    assert daemon.ended() == 74
    assert f"{daemon.store_path} was removed or replaced" in daemon.end_of_log()
    daemon.start()
    (damage,) = daemon.status()["damages"]
    assert "missing" in damage["reason"]
    assert Path(f"{damage['aside']}-wal").stat().st_size > 0
