"""Opening the store's file: versions, settings, damage, the disk under it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import structlog

from dicom2fhir.errors import ConfigError, OutOfSpace, StoreDamaged, StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sqlite import damage, disk, schema
from dicom2fhir.store.sqlite.disk import Space, require_local
from dicom2fhir.store.sqlite.read_connections import ReadConnections
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DestinationStatus
from dicom2fhir.system.mounts import file_system_type
from tests.store_contract.bench import claimed, delivered

ORIGIN = Origin("folder")


def filled(path: Path) -> Path:
    """A store with enough in it that a hole in the middle hits something."""
    store = SqliteStore(path, min_free_bytes=0)
    for number in range(300):
        attrs = {"SOPClassUID": "1.2", "InstanceNumber": str(number)}
        store.add(InstanceRecord("1.1", "1.1.1", f"1.1.1.{number}", {}, {}, {}, attrs), ORIGIN)
    store.close()
    return path


def open_store(path: Path) -> SqliteStore:
    return SqliteStore(path, min_free_bytes=0)


def test_a_fresh_store_is_private_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    store = open_store(path)
    store.mark_file(FileMark("/x", 1, 1, "taken"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert store.set_aside is None
    store.close()
    connection = sqlite3.connect(path)
    assert schema.pragma(connection, "application_id") == schema.APPLICATION_ID
    assert schema.pragma(connection, "user_version") == len(schema.steps())
    connection.close()


def test_a_fresh_store_was_created_and_not_upgraded(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        open_store(tmp_path / "store.db").close()
    assert [entry["event"] for entry in logs] == ["store.created"]


# Versions


def test_a_later_step_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "store.db")
    later = (*schema.steps(), "ALTER TABLE study ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'; DELETE FROM file")
    monkeypatch.setattr("dicom2fhir.store.sqlite.store_file.steps", lambda: later)
    with pytest.raises(ConfigError, match="start the daemon once"):
        SqliteStore.open_readonly(path)
    store = open_store(path)
    assert store.stats().instances == 300
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT colour FROM study").fetchall() == [("red",)]
    assert schema.pragma(connection, "user_version") == len(later)
    connection.close()


def test_a_store_of_version_1_keeps_its_queue(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    connection.executescript(schema.steps()[0])
    marks = f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1;"
    connection.executescript(f"""{marks}
        INSERT INTO destination (name) VALUES ('main');
        INSERT INTO study (uid, revision, first_at, last_at)
        VALUES ('1.1', 2, 1, 1), ('1.2', 1, 1, 1), ('1.3', 1, 1, 1);
        INSERT INTO delivery (study_id, destination_id, state, delivered_revision, last_at, changed_at, due_at)
        VALUES (1, 1, 'delivered', 2, 1, 1, 0), (2, 1, 'waiting', 0, 1, 1, 1), (3, 1, 'delivered', 1, 1, 1, 0);
        INSERT INTO base VALUES (1, 1, 'sent');
    """)
    connection.close()
    store = open_store(path)
    try:
        store.set_mapping_fingerprint("main", "R4 base@1")
        assert store.destinations() == [DestinationStatus("main", "R4 base@1", {"": 2})]
        claim = claimed(store, "main", "me", 60)
        assert claim is not None
        assert claim.study_uid == "1.2"
        delivered(store, claim, 1, b"", "R4 base@1")
        assert store.requeue(all_states=True) == 3
        (found,) = store.destinations()
        assert found.others == {}
        assert store.stats().waiting == 3
        claim = claimed(store, "main", "me", 60)
        assert claim is not None
        store.exclude(claim, "not meant for it", "")
        assert (store.stats().waiting, store.stats().excluded) == (2, 1)
    finally:
        store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute("UPDATE delivery SET state = 'lost'")
    assert connection.execute("SELECT body FROM base WHERE study_id = 1").fetchall() == [("sent",)]
    connection.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_version_keeps_its_instances_and_its_queue(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    for step in schema.steps()[:version]:
        connection.executescript(step)
    connection.executescript(f"""PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version={version};
        INSERT INTO destination (name) VALUES ('main');
        INSERT INTO study (uid, revision, first_at, last_at) VALUES ('1.1', 2, 1, 1), ('1.2', 1, 1, 2);
        INSERT INTO attrs (study_id, hash, body) VALUES (1, x'00', '{{}}'), (2, x'00', '{{}}');
        INSERT INTO series (study_id, uid) VALUES (1, '1.1.1'), (1, '1.1.2'), (2, '1.2.1');
        INSERT INTO instance VALUES (1, '1.9.1', 1, 1, 1, 1, '{{"Rows":"1"}}', NULL),
            (1, '1.9.2', 2, 1, 1, 1, '{{"Rows":"2"}}', '[["info","x","y"]]'), (2, '1.9.1', 3, 2, 2, 2, '{{}}', NULL);
        INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at, due_at)
        VALUES (1, 1, 'sending', 1, 1, 1), (2, 1, 'waiting', 2, 1, 1);
        INSERT INTO rejection (at, kind, calling_ae, called_ae, peer, path, association, reason)
        VALUES (1, 'file', '', '', '', '/x', '', 'no');
        INSERT INTO file VALUES (x'2f78', 1, 2, 'rejected', 'no');
    """)
    connection.close()
    store = open_store(path)
    try:
        stats = store.stats()
        assert (stats.studies, stats.series, stats.instances, stats.waiting, stats.rejected) == (2, 3, 3, 2, 1)
        study = store.study("1.1")
        assert study is not None
        assert [(s.uid, [(i.uid, i.attrs) for i in s.instances]) for s in study.series] == [
            ("1.1.1", [("1.9.1", {"Rows": "1"})]),
            ("1.1.2", [("1.9.2", {"Rows": "2"})]),
        ]
        (rejection,) = store.rejections()
        assert (rejection.kind, rejection.origin.kind, rejection.reason) == ("", "file", "no")
        mark = store.file_mark("/x")
        assert mark is not None and mark.outcome == "rejected"
        for _ in range(2):
            assert claimed(store, "main", "me", 60) is not None
        instance = InstanceRecord("1.1", "1.1.2", "1.9.1", {}, {}, {}, {})
        assert [str(store.add_many([instance], ORIGIN)[0]) for _ in range(2)] == ["new", "unchanged"]
        assert (store.stats().instances, store.stats().series) == (4, 3)
    finally:
        store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_a_pause_from_before_version_7_ends_with_the_next_start(tmp_path: Path) -> None:
    """When it began is not known, and the clock may have been set since."""
    connection = sqlite3.connect(tmp_path / "store.db")
    for step in schema.steps()[:6]:
        connection.executescript(step)
    connection.executescript(f"""PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=6;
        INSERT INTO destination (name) VALUES ('main');
        INSERT INTO study (uid, revision, first_at, last_at) VALUES ('1.1', 1, 1, 1);
        INSERT INTO delivery (study_id, destination_id, state, last_at, changed_at, not_before, due_at, attempts)
        VALUES (1, 1, 'waiting', 1, 1, 1700040000, 1700040000, 3);
    """)
    connection.close()
    store = SqliteStore(tmp_path / "store.db", clock=lambda: 1_700_000_000.0, min_free_bytes=0)
    try:
        claim = claimed(store, "main", "me", 60)
        assert claim is not None and claim.attempts == 3
    finally:
        store.close()


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "store.db")
    bad = (*schema.steps(), "CREATE TABLE half (n); CREATE TABLE half (n)")
    with monkeypatch.context() as patched:
        patched.setattr("dicom2fhir.store.sqlite.store_file.steps", lambda: bad)
        with pytest.raises(StoreUnavailable, match=f"version {len(bad)}"):
            open_store(path)
    store = open_store(path)
    assert store.stats().instances == 300
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    connection.close()


def test_a_newer_store_is_not_touched(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    for way in (open_store, SqliteStore.open_readonly, SqliteStore.attach):
        with pytest.raises(ConfigError, match=rf"version 99, this program supports up to {len(schema.steps())}"):
            way(path)
    assert path.read_bytes() == before


def test_a_file_of_another_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (n)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program"):
        open_store(path)
    assert path.read_bytes() == before


# Settings


def test_the_settings_are_read_back(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    connection = schema.connect(path, read_only=False, busy_timeout_s=1.5)
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert schema.pragma(connection, "synchronous") == 2
        assert schema.pragma(connection, "foreign_keys") == 1
        assert schema.pragma(connection, "busy_timeout") == 1500
    finally:
        connection.close()


def test_a_setting_that_does_not_take_is_named() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        with pytest.raises(StoreUnavailable, match="PRAGMA journal_mode is memory, not wal"):
            schema.require_settings(connection, {"synchronous": 2, "journal_mode": "wal"})
    finally:
        connection.close()


def test_readers_cannot_write(tmp_path: Path) -> None:
    readers = ReadConnections(filled(tmp_path / "store.db"), 1.0)
    with pytest.raises(StoreUnavailable), readers.snapshot() as connection:
        connection.execute("DELETE FROM instance")
    readers.close()


# Damage


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def hole(data: bytes) -> bytes:
    middle = len(data) // 8192 * 4096
    return data[:middle] + b"\xa5" * 4096 + data[middle + 4096 :]


def no_header(data: bytes) -> bytes:
    return b"not a database, not at all" + data[26:]


def nothing(_data: bytes) -> bytes:
    return b""


def one_byte(data: bytes) -> bytes:
    return data[:1]


@pytest.mark.parametrize("damaged_by", [cut, hole, no_header, nothing, one_byte])
def test_a_damaged_store_is_set_aside_and_a_fresh_one_begins(
    tmp_path: Path, damaged_by: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(tmp_path / "store.db")
    damaged = damaged_by(path.read_bytes())
    path.write_bytes(damaged)
    Path(f"{path}-wal").write_bytes(b"its log")
    store = open_store(path)
    assert store.stats().studies == 0
    assert store.set_aside is not None
    store.close()
    assert store.set_aside.name.startswith("store.db.damaged-")
    assert store.set_aside.read_bytes() == damaged
    assert Path(f"{store.set_aside}-wal").read_bytes() == b"its log"
    assert "store.damaged" in capsys.readouterr().out
    again = open_store(path)
    assert again.set_aside is None
    (told,) = again.damages
    assert told.aside == str(store.set_aside)
    again.close()
    damage.acknowledge(path)
    assert damage.damages(path) == []


def drop(what: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute(f"DROP {what}")


def mark(pragma: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute(f"PRAGMA {pragma}")


def lose_an_index_entry(connection: sqlite3.Connection) -> None:
    """What a search by its UID then misses, and a count of all rows does not."""
    connection.executescript("""
        PRAGMA writable_schema = ON;
        CREATE TABLE other (uid TEXT UNIQUE);
        UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_other_1')
        WHERE name = 'sqlite_autoindex_study_1';
        DELETE FROM sqlite_master WHERE tbl_name = 'other';
    """)


@pytest.mark.parametrize(
    "changed_by",
    [
        drop("TABLE total"),
        drop("TABLE inflight"),
        drop("VIEW arrival"),
        drop("TRIGGER instance_added"),
        drop("INDEX delivery_by_due"),
        mark("user_version = 0"),
        mark("user_version = 3"),
        mark("application_id = 7"),
        lose_an_index_entry,
    ],
)
def test_a_store_without_all_its_parts_is_set_aside(
    tmp_path: Path, changed_by: Callable[[sqlite3.Connection], object]
) -> None:
    path = filled(tmp_path / "store.db")
    connection = sqlite3.connect(path)
    changed_by(connection)
    connection.commit()
    connection.close()
    for goes_aside in True, False:
        store = open_store(path)
        assert (store.set_aside is not None) is goes_aside
        assert len(store.damages) == 1
        store.close()


@pytest.mark.parametrize("at", range(100))
def test_no_bit_of_the_header_can_keep_the_store_from_starting(tmp_path: Path, at: int, once: bytes) -> None:
    path = tmp_path / "store.db"
    flipped = bytearray(once)
    flipped[at] ^= 1 << at % 8
    path.write_bytes(flipped)
    if 60 <= at < 64:  # user_version: perhaps a newer version wrote it, and nothing is touched (exit status 78)
        with pytest.raises(ConfigError):
            open_store(path)
        assert path.read_bytes() == bytes(flipped)
        return
    store = open_store(path)
    assert store.stats().instances == (0 if store.set_aside else 300)
    assert len(store.damages) == (1 if store.set_aside else 0)
    store.close()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A filled store, made once."""
    return filled(tmp_path_factory.mktemp("once") / "store.db").read_bytes()


def killed_in_a_transaction(path: Path) -> None:
    """Turn a store into one with a rollback journal, as a copy is, whose writer was killed in the middle."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=delete; PRAGMA cache_size=1; BEGIN; UPDATE study SET first_at = 7"
        )
        for _ in range(20):  # more than the cache takes, so that it goes into the file
            connection.execute("UPDATE instance SET body = body || zeroblob(100)")
        files = {end: Path(f"{path}{end}").read_bytes() for end in ("", "-journal")}
        connection.execute("ROLLBACK")
    for end, data in files.items():
        Path(f"{path}{end}").write_bytes(data)


def test_half_a_transaction_is_undone(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    killed_in_a_transaction(path)
    store = open_store(path)
    try:
        assert (store.set_aside, store.damages) == (None, [])
        assert store.stats().instances == 300
        assert store.study("1.1") is not None
    finally:
        store.close()
    assert not Path(f"{path}-journal").exists()


def test_the_journal_of_a_damaged_store_goes_with_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    killed_in_a_transaction(path)
    path.unlink()
    store = open_store(path)
    try:
        assert store.set_aside is not None
        assert Path(f"{store.set_aside}-journal").exists()
        assert not Path(f"{path}-journal").exists()
    finally:
        store.close()


def test_damage_that_a_reader_meets_stops_the_store(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    reasons: list[str] = []
    store = SqliteStore(path, min_free_bytes=0, on_failure=reasons.append)
    try:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))
        with pytest.raises(StoreUnavailable, match="malformed"):
            store.study("1.1")
        assert reasons == [store.failure]
        with pytest.raises(StoreUnavailable, match="malformed"):
            store.mark_file(FileMark("/x", 1, 1, "taken"))
    finally:
        store.close()


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """By a copy, as whoever restores a backup does."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name(f"elsewhere-{time.monotonic_ns()}"))


@pytest.mark.parametrize("way", [open_store, SqliteStore.attach])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("taken_by", [remove, replace, move_the_folder])
def test_nothing_is_acknowledged_once_the_files_have_gone(
    tmp_path: Path, way: Callable[..., SqliteStore], end: str, taken_by: Callable[[Path], None], once: bytes
) -> None:
    path = tmp_path / "state" / "store.db"
    path.parent.mkdir()
    path.write_bytes(once)
    instance = InstanceRecord("1.1", "1.1.1", "1.9", {}, {}, {}, {})

    def add(store: SqliteStore) -> None:
        store.add(instance, ORIGIN)

    for ask in [SqliteStore.look] if end == "-shm" else [SqliteStore.look, add]:  # commits do not go into the index
        store = way(path)
        try:
            store.add(instance, ORIGIN)
            store.look()
            assert store.failure is None
            taken_by(Path(f"{path}{end}"))
            with suppress(StoreUnavailable):
                ask(store)
            assert "was removed or replaced" in str(store.failure)
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                store.add(instance, ORIGIN)
        finally:
            store.close()
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        path.write_bytes(once)


def test_rows_that_are_not_json_are_named_by_their_study(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE instance SET body = x'7b' WHERE uid = '1.1.1.7'")
    connection.commit()
    connection.close()
    store = open_store(path)
    try:
        with pytest.raises(StoreDamaged, match=r"study 1\.1"):
            store.study("1.1")
        assert store.failure is None
    finally:
        store.close()


def test_two_damages_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for number in range(2):
        path.write_bytes(b"nonsense %d" % number * 1000)
        open_store(path).close()
    kept = [file for file in tmp_path.glob("*.damaged-*") if file.suffix != ".progress"]
    assert len({file.read_bytes() for file in kept}) == 2


def test_a_log_without_its_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Path(f"{path}-wal").write_bytes(b"commits")
    store = open_store(path)
    assert store.set_aside is not None
    assert Path(f"{store.set_aside}-wal").read_bytes() == b"commits"
    store.close()


def test_a_commit_that_only_the_log_holds_is_found_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    store = open_store(path)
    store.mark_file(FileMark("/x", 1, 1, "taken"))
    copy = tmp_path / "copy.db"
    for end in ("", "-wal"):
        Path(f"{copy}{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    store.close()
    again = open_store(copy)
    assert again.file_mark("/x") is not None
    assert again.set_aside is None
    again.close()


# The disk


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "file_system_type", lambda _directory: "nfs4")
    with pytest.raises(ConfigError, match="nfs4"):
        open_store(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []


def test_the_type_of_a_file_system(tmp_path: Path) -> None:
    inner = tmp_path / "a b" / "inner"
    inner.mkdir(parents=True)
    escaped = str(tmp_path / "a b").replace(" ", r"\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:5 / {escaped} rw - nfs4 server:/x rw\n"
        f"24 22 0:6 / {escaped}/inn rw - tmpfs tmpfs rw\n"
        f"25 22 0:7 / {escaped}/inner rw - cifs //server/x rw\n"
        f"26 22 0:8 / {escaped}/inner rw master:2 - xfs /dev/sdb rw\n"
    )
    assert file_system_type(tmp_path, mounts) == "ext4"
    assert file_system_type(tmp_path / "a b", mounts) == "nfs4"
    assert file_system_type(inner, mounts) == "xfs"
    assert file_system_type(inner, tmp_path / "none") == ""
    require_local(tmp_path)


def test_the_watermark_has_hysteresis(tmp_path: Path) -> None:
    free, now = 100, 0.0

    def look(_directory: Path) -> int:
        return free

    space = Space(tmp_path, 100, free=look, monotonic=lambda: now)
    space.check()
    free = 99
    space.check()  # looks once a second
    now += 1
    with pytest.raises(OutOfSpace):
        space.check()
    free = 105
    now += 1
    with pytest.raises(OutOfSpace):
        space.check()
    free = 110
    now += 1
    space.check()


def test_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Space(tmp_path / "gone", 1).check()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_store(tmp_path / "file" / "store.db")


def test_the_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    os.symlink(target, tmp_path / "store.db.lock")
    with pytest.raises(StoreUnavailable):
        open_store(tmp_path / "store.db")
    assert target.read_text() == "keep"
