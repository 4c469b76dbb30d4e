"""Nothing that was acknowledged is lost, whatever happens to the process that acknowledged it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.base import Store
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.wiring.store_options import StoreAddress
from tests.daemon_process import ROOT
from tests.store_contract.bench import FOLDER, QUIET_S, Bench, Sqlite, record

CHILD = """
import itertools, resource, sys, threading
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sqlite.store import SqliteStore

path, life, limit_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = SqliteStore(path, min_free_bytes=0)
store.set_destinations(["main"])
if limit_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
output = threading.Lock()

def send(thread):
    for number in itertools.count():
        uid = f"1.{life}.{thread}.{number}"
        attrs = {"SOPClassUID": "1.2", "Filler": "x" * 200}
        record = InstanceRecord(f"1.{number % 7}", f"1.{number % 7}.1", uid, {"PatientID": "1"}, {}, {}, attrs)
        try:
            store.add(record, Origin("dimse", association=f"{life}.{thread}"))
        except StoreUnavailable:
            return
        with output:
            sys.stdout.write(f"{record.study_uid} {uid}\\n")
            sys.stdout.flush()

def index():
    while store.failure is None:
        store.update_index()

threads = [threading.Thread(target=send, args=(thread,)) for thread in range(3)]
threading.Thread(target=index, daemon=True).start()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("failed", store.failure is not None)
store.close()
"""


def start(path: Path, life: int, limit_bytes: int = 0) -> subprocess.Popen[str]:
    """A process that adds instances and says each as soon as it was acknowledged."""
    command = [sys.executable, "-c", CHILD, str(path), str(life), str(limit_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def uids(line: str) -> tuple[str, str] | None:
    """What a whole line acknowledges; the log's lines and the one that was cut off say nothing."""
    parts = line.split()
    return (parts[0], parts[1]) if line.endswith("\n") and len(parts) == 2 and parts[0].startswith("1.") else None


def kept(store: Store, study_uids: set[str]) -> set[tuple[str, str]]:
    found = set()
    for uid in study_uids:
        study = store.study(uid)
        if study is not None:
            found |= {(uid, instance.uid) for series in study.series for instance in series.instances}
    return found


@pytest.mark.parametrize("limit_bytes", [450_000, 900_000])
def test_a_disk_that_takes_no_more_is_told_honestly(tmp_path: Path, limit_bytes: int) -> None:
    path = tmp_path / "store.db"
    with start(path, 0, limit_bytes) as child:
        assert child.stdout is not None
        lines = list(child.stdout)
    assert child.returncode == 0
    assert "failed True\n" in lines
    acknowledged = {pair for line in lines if (pair := uids(line))}
    assert acknowledged
    store = SqliteStore(path, min_free_bytes=0)
    try:
        assert store.set_aside is None
        assert acknowledged <= kept(store, {study for study, _ in acknowledged})
        record = InstanceRecord("1.99", "1.99.1", "1.99.1.1", {}, {}, {}, {"SOPClassUID": "1.2"})
        store.add(record, Origin("folder"))
    finally:
        store.close()


def test_who_reads_sees_all_that_writers_acknowledged_before_they_were_killed(tmp_path: Path) -> None:
    """The reader has the store open all the time, as ``dicom2fhir top`` has."""
    SqliteStore(tmp_path / "store.db", min_free_bytes=0).close()
    acknowledged: set[tuple[str, str]] = set()
    with closing(StoreAddress(tmp_path).open_readonly()) as reader:
        for life in range(3):
            with start(tmp_path / "store.db", life) as child:
                assert child.stdout is not None
                told = {pair for line, _ in zip(child.stdout, range(150), strict=False) if (pair := uids(line))}
                assert told <= kept(reader, {study for study, _ in told})
                child.kill()
            acknowledged |= told
            assert acknowledged <= kept(reader, {study for study, _ in acknowledged})
    assert len(acknowledged) == 3 * 150


def index_of(path: Path) -> list[tuple[object, ...]]:
    """What searches use, once it is up to date."""
    store = SqliteStore(path, min_free_bytes=0, clock=lambda: time.time() + 60)  # every study is quiet
    try:
        while store.update_index():
            pass
    finally:
        store.close()
    with closing(sqlite3.connect(path)) as connection:
        keys = connection.execute("SELECT kind, value, study_id FROM study_key ORDER BY 1, 2, 3").fetchall()
        return [*keys, *connection.execute("SELECT study_id, revision, origins FROM study_index ORDER BY 1")]


def test_the_index_after_a_kill_is_the_one_that_is_built_anew(tmp_path: Path) -> None:
    """Killed while studies arrive and are indexed."""
    path = tmp_path / "store.db"
    for life in range(2):
        with start(path, life) as child:
            assert child.stdout is not None
            told = [line for line, _ in zip(child.stdout, range(150), strict=False)]
            child.kill()
        assert len(told) == 150
    found = index_of(path)
    assert ("study_uid", "1.6", 7) in found
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("SELECT sum(received) FROM counted_minute").fetchone() == (
            connection.execute("SELECT count(*) FROM instance").fetchone()
        )
        connection.execute("DELETE FROM study_key")
        connection.execute("DELETE FROM study_index")
    assert index_of(path) == found


DIES_AFTER_A_STATEMENT = """
import os, signal, sys
from dicom2fhir.model import Origin
from dicom2fhir.store.sqlite.statements import SqliteStatements
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.store_contract.bench import record

path, last, opens = sys.argv[1:]
for call in ("run", "run_many"):
    def dying(self, name, *rows, _ran=getattr(SqliteStatements, call), **parameters):
        value = _ran(self, name, *rows, **parameters)
        if name == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    setattr(SqliteStatements, call, dying)
store = SqliteStore(path, min_free_bytes=0)
if opens:
    store.add(record(9, study=opens), Origin("folder"))
while store.seal_delivered(0) is not None:
    pass
"""


@pytest.mark.parametrize(
    ("last", "opens"),
    [("forget_instances", ""), ("new_block", ""), ("unseal_instance", "1.1"), ("forget_blocks", "1.1")],
)
def test_a_kill_while_studies_are_sealed_or_opened(tmp_path: Path, last: str, opens: str) -> None:
    """Each is as it was before."""
    studies, bench = ["1.0", "1.1", "1.2"], Bench(Sqlite(tmp_path))
    bench.store.add_many([record(number, study=study) for study in studies for number in range(4)], FOLDER)
    bench.later(QUIET_S)
    for _ in studies:
        bench.deliver()
    bench.later(1)
    if opens:
        assert bench.store.seal_delivered(0) == studies

    def answers() -> list[object]:
        store = bench.store
        return [store.stats(), *((store.study(study), store.study_status(study)) for study in studies)]

    before = answers()
    bench.store.close()
    path = tmp_path / "store.db"
    child = [sys.executable, "-c", DIES_AFTER_A_STATEMENT, str(path), last, opens]
    assert subprocess.run(child, cwd=ROOT).returncode == -signal.SIGKILL
    bench.restart()
    with closing(bench.store):
        assert answers() == before
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM sealed").fetchone() == (len(studies) if opens else 0,)
