"""Writing: groups, mistakes, interruptions, the end."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.sql.writer import _Job
from dicom2fhir.store.sqlite.statements import transaction
from dicom2fhir.store.sqlite.writer import SqliteWriter


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "a.db"
    connection = connect(file)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    connection.close()
    yield file


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def insert(number: int, connection: sqlite3.Connection) -> int:
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    return number


def rows(path: Path) -> list[int]:
    connection = connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]
    finally:
        connection.close()


def call_together(writer: SqliteWriter, calls: Sequence[Callable[[], None]]) -> None:
    """Make each call in a thread of its own; all of them have to wait for another one that writes."""
    started, go_on = threading.Event(), threading.Event()

    def block(_connection: sqlite3.Connection) -> None:
        started.set()
        go_on.wait()

    threads = [threading.Thread(target=writer.run, args=(block,))]
    threads[0].start()
    started.wait()
    threads += [threading.Thread(target=call) for call in calls]
    for thread in threads[1:]:
        thread.start()
    while len(writer._jobs) < len(calls):
        threading.Event().wait(0.001)
    go_on.set()
    for thread in threads:
        thread.join()


def test_what_waits_is_committed_together_and_a_mistake_hurts_only_itself(path: Path) -> None:
    commits: list[int] = []
    writer = SqliteWriter(connect(path), on_commit=lambda: commits.append(1))
    results: dict[int, object] = {}

    def send(number: int) -> None:
        try:
            results[number] = writer.run(lambda connection: insert(number // 2, connection))
        except sqlite3.IntegrityError as error:
            results[number] = error

    call_together(writer, [partial(send, number) for number in range(10)])
    writer.close()
    assert len(commits) == 2
    assert rows(path) == [0, 1, 2, 3, 4]
    assert sum(isinstance(result, int) for result in results.values()) == 5


def test_a_batch_is_bounded(path: Path) -> None:
    commits: list[int] = []
    go_on = threading.Event()
    writer = SqliteWriter(connect(path), on_commit=lambda: commits.append(1), max_batch=2)
    threads = [threading.Thread(target=writer.run, args=(lambda _connection: go_on.wait(),))]
    threads += [threading.Thread(target=writer.run, args=(lambda _connection: None,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(commits) >= 4


@pytest.mark.parametrize("mistake", [False, True], ids=["all good", "one mistake"])
def test_what_waits_for_the_same_operation_is_handed_over_together(path: Path, mistake: bool) -> None:
    undone: list[int] = []
    calls: list[list[int]] = []
    writer = SqliteWriter(connect(path), on_roll_back=lambda: undone.append(1))
    results: dict[int, object] = {}

    def insert_all(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        with transaction(connection):
            connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers])
        return [-number for number in numbers]

    def send(key: int, number: int) -> None:
        try:
            results[key] = writer.run_together(insert_all, number)
        except sqlite3.IntegrityError as error:
            results[key] = type(error)

    numbers = [1, 2, 3, 3] if mistake else [1, 2, 3, 4]
    call_together(writer, [partial(send, *each) for each in enumerate(numbers)])
    writer.close()
    assert sorted(calls[0]) == numbers
    if mistake:
        assert rows(path) == [1, 2, 3]
        assert [each for call in calls[1:] for each in call] == calls[0]
        assert sorted(map(str, results.values())) == sorted(["-1", "-2", "-3", str(sqlite3.IntegrityError)])
        assert len(undone) == 2
    else:
        assert rows(path) == numbers
        assert results == {key: -number for key, number in enumerate(numbers)}
        assert len(calls) == 1
        assert not undone


def test_an_interruption_leaves_nobody_waiting(path: Path) -> None:
    undone: list[int] = []
    started, go_on = threading.Event(), threading.Event()
    writer = SqliteWriter(connect(path), on_roll_back=lambda: undone.append(1))

    def interrupted(connection: sqlite3.Connection) -> None:
        insert(1, connection)
        started.set()
        go_on.wait()
        raise KeyboardInterrupt

    def lead() -> None:
        with pytest.raises(KeyboardInterrupt):
            writer.run(interrupted)

    threads = [
        threading.Thread(target=lead),
        threading.Thread(target=writer.run, args=(lambda connection: insert(2, connection),)),
    ]
    threads[0].start()
    started.wait()
    threads[1].start()
    while not writer._jobs:
        threading.Event().wait(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert rows(path) == [2]
    assert undone


def test_who_is_told_to_lead_before_it_waits_does_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, enqueued = threading.Event(), threading.Event()
    writer = SqliteWriter(connect(path))
    enqueue = writer._enqueue

    def enqueue_and_dawdle(job: _Job) -> bool:
        leads = enqueue(job)
        if not leads:
            enqueued.set()
            while writer._leader is not job:
                threading.Event().wait(0.001)
        return leads

    monkeypatch.setattr(writer, "_enqueue", enqueue_and_dawdle)

    def wait_for_the_other(_connection: sqlite3.Connection) -> None:
        started.set()
        enqueued.wait()

    first = threading.Thread(target=writer.run, args=(wait_for_the_other,))
    first.start()
    started.wait()
    assert writer.run(lambda connection: insert(1, connection)) == 1
    first.join()
    assert writer.run(lambda connection: insert(2, connection)) == 2
    writer.close()


def test_threads_that_are_interrupted_at_every_turn(path: Path) -> None:
    writer = SqliteWriter(connect(path))
    results: list[int] = []

    def run(first: int) -> None:
        for number in range(first, first + 100):
            results.append(writer.run(partial(insert, number)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(first,)) for first in range(0, 800, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    writer.close()
    assert sorted(results) == rows(path) == list(range(800))


def test_who_is_interrupted_while_it_waits_holds_nobody_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SqliteWriter(connect(path))

    def interrupted(job: _Job) -> bool:
        writer._jobs.append(job)
        writer._leader = job
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_enqueue", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.run(lambda connection: insert(1, connection))
    assert writer.run(lambda connection: insert(2, connection)) == 2
    writer.close()
    assert rows(path) == [2]


def test_nobody_is_told_success_when_the_commit_fails(path: Path) -> None:
    reasons: list[str] = []
    connection = connect(path)
    connection.execute("PRAGMA query_only=1")
    writer = SqliteWriter(connection, on_failure=reasons.append)
    with pytest.raises(StoreUnavailable):
        writer.run(lambda connection: insert(1, connection))
    assert reasons == [writer.failure]
    with pytest.raises(StoreUnavailable):
        writer.run(lambda _connection: None)
    writer.close()
    assert rows(path) == []


def test_a_broken_callback_leaves_nobody_waiting(path: Path) -> None:
    def broken() -> None:
        raise RuntimeError

    writer = SqliteWriter(connect(path), on_commit=broken)
    assert writer.run(lambda connection: insert(1, connection)) == 1
    with pytest.raises(StoreUnavailable):
        while True:
            writer.run(lambda _connection: None)
    assert writer.failure is not None
    writer.close()


def test_closing_commits_what_waits(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()
    writer = SqliteWriter(connect(path))

    def block(_connection: sqlite3.Connection) -> None:
        started.set()
        go_on.wait()

    threads = [threading.Thread(target=writer.run, args=(block,))]
    threads[0].start()
    started.wait()
    threads.append(threading.Thread(target=writer.run, args=(lambda connection: insert(7, connection),)))
    threads[1].start()
    while not writer._jobs:
        threading.Event().wait(0.001)
    closing = threading.Thread(target=writer.close)
    closing.start()
    go_on.set()
    for thread in (*threads, closing):
        thread.join()
    assert rows(path) == [7]
    with pytest.raises(StoreUnavailable, match="closed"):
        writer.run(lambda _connection: None)
