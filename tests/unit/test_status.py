"""What is said about the daemon and about studies that wait, from what the daemon and the store say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.ops import status
from dicom2fhir.ops.daemon_state import (
    FRESH_S,
    MOST_SENDERS,
    NAME,
    CheckState,
    DaemonState,
    DestinationState,
    DiskState,
    SenderState,
    StateFile,
    read,
    senders_of,
)
from dicom2fhir.ops.latencies import Latencies
from dicom2fhir.ops.status import DaemonView, as_json, check_of_store, daemon_of, moment, overview, why
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DeliveryStatus, Rejection, State, StudyStatus
from tests.store_contract.bench import claimed

NOW = 1_800_000_000.0
UP = DestinationState("main", "up", NOW - 60)
DOWN = DestinationState("main", "down", NOW - 60, "HTTP 503", NOW + 20)
PAUSED = DestinationState("main", "paused", NOW - 60, "HTTP 429", NOW + 20)
SAID = DaemonState(
    pid=7,
    version="1",
    started_at=NOW - 100,
    written_at=NOW - 1,
    listening="127.0.0.1:11112",
    refused={"association: called AE title not recognized": 2},
    disk=DiskState(2_000, 1_000, intake_stopped=False),
    destinations=(UP,),
    senders=(SenderState("CT1", "10.0.0.1", 2),),
    store_check=CheckState(NOW - 50, 3, 24),
)
DELIVERY = DeliveryStatus("main", State.WAITING, 0, NOW + 30, 0, "", 0.0, unclaimed="")
STUDY = StudyStatus("1.2", 1, 1, 1, NOW - 9, NOW - 9, association_open=False, deliveries=(DELIVERY,))


def test_what_is_written_is_read_by_another(tmp_path: Path) -> None:
    file = StateFile(tmp_path, lambda: NOW)
    file.write(SAID)
    assert read(tmp_path) == replace(SAID, written_at=NOW)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_it_is_written_on_change_and_as_a_sign_of_life(tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 2.0, 20.0, 21.0, 22.0])
    file = StateFile(tmp_path, lambda: next(times))
    written = []
    for said in (SAID, SAID, replace(SAID, associations=1), replace(SAID, associations=1)):
        file.write(said)
        found = read(tmp_path)
        assert found is not None
        written.append(found.written_at)
    assert written == [0.0, 0.0, 2.0, 20.0]
    file.write(replace(SAID, stopped_at=21.0))
    file.write(SAID)
    found = read(tmp_path)
    assert found is not None and found.stopped_at == 21.0, "another daemon may have the store by then"


@pytest.mark.parametrize(
    "content", [b"", b'{"pid": 1', b"[]", b'{"pid": 1}', b'{"disk": null, "destinations": [{"x": 1}]}']
)
def test_a_document_that_is_cut_off_or_of_another_version_is_none(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path) is None
    (tmp_path / NAME).write_bytes(content)
    assert read(tmp_path) is None


def test_a_document_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    StateFile(tmp_path / "nowhere", lambda: NOW).write(SAID)


@pytest.mark.parametrize(
    ("delivery", "study", "destination", "said"),
    [
        (DELIVERY, STUDY, UP, f"quiet period until {moment(NOW + 30)}"),
        (DELIVERY, replace(STUDY, association_open=True), UP, "an association that sends it is still open"),
        (replace(DELIVERY, due_at=NOW - 5), STUDY, UP, f"due since {moment(NOW - 5)}"),
        (
            replace(DELIVERY, attempts=3, reason="HTTP 409"),
            STUDY,
            UP,
            f"retry at {moment(NOW + 30)} after 3 tries: HTTP 409",
        ),
        (replace(DELIVERY, attempts=1, reason="x"), STUDY, UP, "after 1 try: x"),
        (DELIVERY, STUDY, DOWN, f"destination down: HTTP 503; next try at {moment(NOW + 30)}"),
        (replace(DELIVERY, due_at=NOW), STUDY, PAUSED, f"destination paused: HTTP 429; next try at {moment(NOW + 20)}"),
        (replace(DELIVERY, state=State.REFUSED, reason="two patients"), STUDY, DOWN, "two patients"),
    ],
)
def test_a_study_that_waits_shows_why(
    delivery: DeliveryStatus, study: StudyStatus, destination: DestinationState, said: str
) -> None:
    daemon = DaemonView(running=True, silent=False, said=replace(SAID, destinations=(destination,)))
    assert said in why(delivery, study, daemon, NOW)
    stopped = DaemonView(running=False, silent=False, said=daemon.said)
    if delivery.state is State.WAITING:
        assert why(delivery, study, stopped, NOW) == "the daemon is not running"


@pytest.mark.parametrize(
    ("delivery", "said"),
    [
        (replace(DELIVERY, attempts=3, reason="of Jane"), f"retry at {moment(NOW + 30)} after 3 tries"),
        (replace(DELIVERY, state=State.REFUSED, reason="of Jane"), ""),
        (replace(DELIVERY, state=State.EXCLUDED, reason="of Jane"), ""),
    ],
)
def test_why_without_the_words_of_others(delivery: DeliveryStatus, said: str) -> None:
    daemon = DaemonView(running=True, silent=False, said=SAID)
    assert why(delivery, STUDY, daemon, NOW, words=False) == said


def test_only_the_first_senders_are_written() -> None:
    found = senders_of({("AE", str(number)): 1 for number in range(100)})
    assert len(found) == MOST_SENDERS
    assert found[0] == SenderState("AE", "0", 1)


def test_the_latency_is_that_of_the_latest_attempts() -> None:
    latencies = Latencies()
    assert latencies.median_s("main") is None
    for duration_s in (9.0,) * 50 + (0.1, 0.2) * 25:
        latencies.add("main", duration_s)
    latencies.add("other", 5.0)
    assert latencies.median_s("main") == 0.15


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.db", min_free_bytes=0)


def test_a_document_of_a_dead_daemon_is_not_believed(store: SqliteStore, tmp_path: Path) -> None:
    StateFile(tmp_path, lambda: NOW).write(SAID)
    assert daemon_of(store, NOW + 1) == DaemonView(True, False, replace(SAID, written_at=NOW))
    assert daemon_of(store, NOW + FRESH_S + 1).silent
    store.close()
    dead = SqliteStore.open_readonly(tmp_path / "store.db")
    try:
        found = daemon_of(dead, NOW + 1)
        assert (found.running, found.silent, found.destination("main")) == (False, False, None)
        (only,) = overview(dead, None, 10, NOW + 1).attention
        assert only.startswith("The daemon is not running; last report at")
    finally:
        dead.close()


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        (SAID, ""),
        (replace(SAID, destinations=(DOWN,)), "Destination main is down since"),
        (replace(SAID, destinations=(PAUSED,)), "Destination main is paused since"),
        (replace(SAID, destinations=(DestinationState("main", "untried", NOW),)), ""),
        (replace(SAID, disk=DiskState(1, 1_000, intake_stopped=True)), "Reception is stopped: 1 byte free"),
        (
            replace(SAID, folders={"a": "", "inbox": "No such file or directory"}),
            "Folder inbox is not read: No",
        ),
        (replace(SAID, stopped_at=NOW), "The daemon does not report its state"),
    ],
)
def test_what_calls_for_a_person(store: SqliteStore, tmp_path: Path, said: DaemonState, calls: str) -> None:
    try:
        StateFile(tmp_path, lambda: NOW).write(said)
        found = "\n".join(overview(store, None, 10, NOW).attention)
        assert found.startswith(calls) and bool(found) is bool(calls)
    finally:
        store.close()


def test_refusals_call_for_a_person_and_are_counted_by_kind(store: SqliteStore, tmp_path: Path) -> None:
    try:
        StateFile(tmp_path, lambda: NOW).write(SAID)
        for at, kind in ((NOW - 90_000, "missing-uid"), (NOW - 89_000, "not-dicom"), (NOW - 88_000, "not-dicom")):
            store.reject(Rejection(at, Origin("folder", path="/in/x"), "no", kind))
        assert overview(store, None, 10, NOW).attention == []
        store.reject(Rejection(NOW - 60, Origin("folder", path="/in/x"), "no", "not-dicom"))
        store.set_destinations(["main"])
        store.add(InstanceRecord("1.2", "1.2.1", "1.2.1.1", {}, {}, {}, {"SOPClassUID": "1.2"}), Origin("file"))
        assert store.requeue("1.2") == 1
        claim = claimed(store, "main", "me", 60)
        assert claim is not None
        store.refuse(claim, claim.revision, "no")
        seen = overview(store, State.DELIVERED, 10, NOW)
        assert [line.split(":")[0] for line in seen.attention] == [
            "1 delivery is refused",
            "Instances or files were refused on reception within the last 24 hours",
        ]
        document = as_json(seen)
        assert document["stats"]["rejected_by_kind"] == {"missing-uid": 1, "not-dicom": 3}
        assert document["daemon"]["refused"] == SAID.refused
        assert document["destinations"][0]["state"] == "up"
        check = {"since": status.iso(NOW - 50), "checked": 3, "tables": 24, "ended_at": None, "found": ""}
        assert document["daemon"]["store_check"] == check
        assert status.as_json(overview(store, None, 1, NOW))["studies"][0]["deliveries"][0]["why"] == "no"
    finally:
        store.close()


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (CheckState(NOW), f"runs since {moment(NOW)}, just begun"),
        (CheckState(NOW, 3, 24), f"runs since {moment(NOW)}, 3 of 24 tables checked"),
        (CheckState(NOW, 24, 24, NOW + 9), f"nothing wrong, ended at {moment(NOW + 9)}"),
        (CheckState(NOW, 3, 24, NOW + 9, "row 5"), f"ended at {moment(NOW + 9)}, 3 of 24 tables checked: row 5"),
    ],
)
def test_how_far_the_check_of_a_large_store_is(check: CheckState, said: str) -> None:
    assert check_of_store(check) == said


@pytest.mark.parametrize("is_running", [True, False])
def test_what_the_check_of_the_store_found_needs_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_running: bool
) -> None:
    check = CheckState(NOW - 50, 3, 24, NOW - 9, "page 7 is never used")
    StateFile(tmp_path, lambda: NOW).write(replace(SAID, store_check=check, stopped_at=None if is_running else NOW - 1))
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    try:
        monkeypatch.setattr(SqliteStore, "is_owned", is_running)
        (line,) = overview(store, None, 1, NOW).attention
        assert check_of_store(check) in line
    finally:
        store.close()
