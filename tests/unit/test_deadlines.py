"""One thread watches the limits of many exchanges."""

from __future__ import annotations

import threading
import time
from unittest.mock import Mock

import pytest

from dicom2fhir.fhir.send.deadlines import Deadlines

_LONG_S = 30.0


def later(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_call_is_made_at_its_time_and_once() -> None:
    calls: list[float] = []
    made = threading.Event()
    when = later(0.05)

    def call() -> None:
        calls.append(time.monotonic())
        made.set()

    with Deadlines().limit(when, call):
        assert made.wait(_LONG_S)
    assert len(calls) == 1 and calls[0] >= when


def test_an_earlier_one_does_not_wait_for_a_later_one_nor_the_other_way_round() -> None:
    deadlines = Deadlines()
    order: list[str] = []
    made = threading.Event()

    def last() -> None:
        order.append("later")
        made.set()

    with (
        deadlines.limit(later(_LONG_S), lambda: order.append("never")),
        deadlines.limit(later(0.2), last),
        deadlines.limit(later(0.05), lambda: order.append("earlier")),
    ):
        assert made.wait(_LONG_S)
    assert order == ["earlier", "later"]


def test_what_was_withdrawn_is_never_called_and_the_thread_ends() -> None:
    deadlines = Deadlines()
    calls: list[str] = []
    before = set(threading.enumerate())
    with deadlines.limit(later(0.05), lambda: calls.append("withdrawn")):
        (thread,) = set(threading.enumerate()) - before
    thread.join(_LONG_S)
    assert not thread.is_alive() and calls == []


def test_a_new_thread_takes_over_from_one_that_ended() -> None:
    deadlines = Deadlines()
    for _ in range(3):
        made = threading.Event()
        with deadlines.limit(later(0.01), made.set):
            assert made.wait(_LONG_S)


def test_many_at_once_need_one_thread() -> None:
    deadlines = Deadlines()
    count = 50
    all_in = threading.Barrier(count + 1)
    done = threading.Event()

    def exchange() -> None:
        with deadlines.limit(later(_LONG_S), done.clear):
            all_in.wait(_LONG_S)
            done.wait(_LONG_S)

    before = set(threading.enumerate())
    threads = [threading.Thread(target=exchange) for _ in range(count)]
    for thread in threads:
        thread.start()
    all_in.wait(_LONG_S)
    watching = set(threading.enumerate()) - before - set(threads)
    done.set()
    for thread in threads:
        thread.join(_LONG_S)
    assert len(watching) == 1


def test_after_a_thread_that_could_not_be_had_there_are_limits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = Deadlines()
    made = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError), deadlines.limit(later(0.01), made.set):
            raise AssertionError("it has no limit")
    with deadlines.limit(later(0.05), made.set):
        assert made.wait(_LONG_S)
