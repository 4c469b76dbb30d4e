"""Nothing that was acknowledged is lost, whatever happens to the process that acknowledged it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.store.sqlite.store import SqliteStore

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

threads = [threading.Thread(target=send, args=(thread,)) for thread in range(3)]
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


def kept(store: SqliteStore, study_uids: set[str]) -> set[tuple[str, str]]:
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
