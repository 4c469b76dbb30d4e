"""``tail``, and ``status`` of an accession number: what a store tells whoever looks, beside a daemon or without one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import Origin
from dicom2fhir.ops import activity
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Success
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection
from tests.command_line import run_here
from tests.store_contract.bench import over, record

FILE = Origin("folder", path="/in/DOE^JANE.dcm")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """With two studies of one accession number, of which the first was refused, and a refused file."""
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=0, min_free_bytes=0)
    try:
        made.set_destinations(["main"])
        for study in ("1.1", "1.2"):
            sent = record(study=study)
            made.add(replace(sent, study={**sent.study, "AccessionNumber": "A77"}), over(study, "CT1"))
        made.association_ended("1.1")
        (claim,) = made.claim("main", "w", 60)
        made.refuse(claim, 1, "HTTP 422: DOE^JANE is no name")
        made.reject(Rejection(2e9, FILE, "DOE^JANE has no UID", "CannotUnderstand"))
        made.update_index()
        yield made
    finally:
        made.close()


def tail(store: SqliteStore, *options: str) -> str:
    result = run_here("tail", "--once", "--state-dir", store.path.parent, *options)
    assert result.status == 0, result.stderr
    return result.stdout.decode()


def test_what_came_and_went_before(store: SqliteStore) -> None:
    lines = [line.split("  ", 1)[1] for line in tail(store).splitlines()]
    assert sorted(lines) == [
        "received   1.1  CT  +1 instance (1 instance in 1 series)  from CT1",
        "received   1.2  CT  +1 instance (1 instance in 1 series)  from CT1",
        "refused    1.1  main  revision 1",
        "rejected   a file  CannotUnderstand",
    ]
    assert lines[-1] == "rejected   a file  CannotUnderstand"
    assert len(tail(store, "-n", "2").splitlines()) == 2
    assert tail(store, "-n", "0") == ""


def test_patients_are_named_only_where_that_was_asked_for(store: SqliteStore) -> None:
    assert "DOE" not in tail(store) + tail(store, "--json")
    assert "HTTP 422: DOE^JANE is no name" in tail(store, "--answers")
    result = run_here("tail", "--once", "--json", "--answers", "--state-dir", store.path.parent)
    assert [line["answer"] for line in result.lines if line["kind"] == "rejected"] == ["DOE^JANE has no UID"]


def test_what_comes_and_goes_is_told_once_until_somebody_ends_it(store: SqliteStore) -> None:
    command = [sys.executable, "-m", "dicom2fhir", "tail", "--state-dir", str(store.path.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout

        def told() -> str:
            assert process.stdout
            return process.stdout.readline().rstrip().split("  ", 1)[1]

        try:
            assert {told() for _ in range(4)}
            store.add_many([record(2, study="1.2"), record(3, study="1.2")], over("1.2", "CT1"))
            assert told() == "received   1.2  CT  +2 instances (3 instances in 1 series)  from CT1"
            store.association_ended("1.2")
            (claim,) = store.claim("main", "w", 60)
            store.delivered([Success(claim, 3, Delivered(b""))])
            assert told() == "written    1.2  main  revision 3"
            store.reject(Rejection(2e9, Origin("dimse", calling_ae="CT9", peer="10.0.0.9"), "no", "NotAllowed"))
            assert told() == "rejected   from CT9@10.0.0.9  NotAllowed"
        finally:
            process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.wait(30)) == ("", 0)


def test_status_finds_studies_by_accession_number(store: SqliteStore) -> None:
    shown = run_here("status", "A77", "--state-dir", store.path.parent).stdout.decode()
    assert "1.1" in shown and "1.2" in shown and "A77" not in shown
    found = run_here("status", "A77", "--json", "--state-dir", store.path.parent).json
    assert [one["study_uid"] for one in found["studies"]] == ["1.2", "1.1"]
    assert store.forget("1.1")
    found = run_here("status", "A77", "--json", "--state-dir", store.path.parent).json
    assert found == run_here("status", "1.2", "--json", "--state-dir", store.path.parent).json
    assert found["study_uid"] == "1.2"


def test_an_accession_number_that_is_not_found_is_not_repeated(store: SqliteStore) -> None:
    result = run_here("status", "A78", "--state-dir", store.path.parent)
    assert (result.status, result.stdout) == (1, b"")
    assert "there is no study with this UID or Accession Number in" in result.stderr and "A78" not in result.stderr


def test_no_store_is_created_to_look_at(tmp_path: Path) -> None:
    assert run_here("tail", "--once", "--state-dir", tmp_path).status != 0
    with pytest.raises(StoreUnavailable):
        SqliteStore.open_readonly(tmp_path / "store.db")


def test_only_so_many_studies_are_remembered(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_AT_ONCE", 2)
    monkeypatch.setattr(activity, "_REMEMBERED", 3)
    watched = activity.Activity(store)
    watched.look()

    def arrives(study: str, number: int) -> list[str]:
        store.add(record(number, study=study), FILE)
        monkeypatch.setattr("dicom2fhir.store.sql.study_index._QUIET_S", -1.0)
        store.update_index()
        return [event.text for event in watched.look() if event.kind == "received" and event.study_uid == study]

    for study in ("1.3", "1.4"):
        (text,) = arrives(study, 1)
        assert "+1 instance (1 instance in" in text
    (text,) = arrives("1.3", 2)
    assert "+1 instance (2 instances in" in text, "it is remembered"
    (text,) = arrives("1.1", 2)
    assert "+2 instances (2 instances in" in text, "it is forgotten"
    assert watched.look() == []
