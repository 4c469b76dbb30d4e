"""Bar 7: no data set costs much, whether it comes by C-STORE, lies in a folder or is given to ``convert``."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from bench.hostile import element, headers
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS
from testdata.make_notices import Notice
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.costs import MIB, Cost, loop_s
from tests.daemon_process import folder_to_files, run_command, wait_until, with_receiver
from tests.notice_sender import BOTH, REQUEST, message
from tests.scripted_peer import CT, EXPLICIT_LE, Peer, associate_rq, command, context, data_set, p_data, pdv, release

pytestmark = pytest.mark.bar(7)

PDV_BYTES = 100_000
LONGEST = 10
"""Loops of 50 ms: twice the 250 ms of ``bench/hostile.py``, for what receiving, refusing and the log take besides."""
LARGEST = 64 * MIB
SENT_AT_MOST = 12 * MIB
"""Larger ones are held to their budgets elsewhere (``tests/unit/test_header.py``)."""
ASSOCIATIONS = 40
HELD = 32 * MIB
END = p_data(pdv(1, 2, b""))
SETTLED = ("file.processed", "file.left_alone")


@pytest.fixture(scope="module")
def everything() -> dict[str, tuple[str, bytes]]:
    return {what: (syntax, data) for what, syntax, data in headers(DEFAULT_BUDGETS.elements)}


@pytest.fixture(scope="module")
def bombs(everything: dict[str, tuple[str, bytes]]) -> dict[str, tuple[str, bytes]]:
    found = {what: (syntax, data) for what, (syntax, data) in everything.items() if len(data) <= SENT_AT_MOST}
    assert len(found) >= 20
    return found


def messages(data: bytes) -> bytes:
    values = [pdv(1, 0, data[at : at + PDV_BYTES]) for at in range(0, len(data), PDV_BYTES)]
    return b"".join(map(p_data, [pdv(1, 3, command()), *values, pdv(1, 2, b"")]))


def meta(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + b"\2\0\x10\0UI" + len(value).to_bytes(2, "little") + value


@pytest.mark.timeout(300)
def test_bombs_by_c_store(
    daemon: StartDaemon,
    tmp_path: Path,
    history: Path,
    bombs: dict[str, tuple[str, bytes]],
    figure: Callable[[str], None],
) -> None:
    started = daemon("--output-dir", tmp_path / "out")
    cost = Cost(started)
    took: dict[str, tuple[float, float]] = {}
    for what, (syntax, data) in bombs.items():
        with Peer(started.address, associate_rq(contexts=context(1, CT, syntax))) as peer:
            assert peer.receive()[0] == 2
            before = cost.processor_s()
            peer.send(messages(data))
            assert peer.status() in (0xA900, 0xC000), what
            took[what] = cost.processor_s() - before, loop_s(time.process_time)
    (history / "seconds.json").write_text(json.dumps(took, indent=1))
    most_s = max(seconds for seconds, _ in took.values())
    figure(
        f"{len(took)} bombs: {most_s:.2f} s of processor time at most, {cost.grown_bytes() / MIB:.0f} MiB more memory"
    )
    assert {what: times for what, times in took.items() if times[0] > LONGEST * times[1]} == {}
    assert cost.grown_bytes() < LARGEST
    assert started.instances() == {}
    assert started.terminate() == 0


@pytest.mark.timeout(300)
def test_bombs_by_n_create(
    daemon: StartDaemon, tmp_path: Path, bombs: dict[str, tuple[str, bytes]], figure: Callable[[str], None]
) -> None:
    """The data set of a notification or a procedure step may have four times as many elements, and cost as much."""
    started = daemon("--output-dir", tmp_path / "out")
    assert started.reload("", with_receiver("mpps = true"))["event"] == "config.reloaded"
    cost = Cost(started)
    took: dict[str, tuple[float, float]] = {}
    made = {what: found for what, found in bombs.items() if found[0] == EXPLICIT_LE}
    made |= {what: (EXPLICIT_LE, data) for what, data in notice_bombs().items()}
    for what, (_, data) in made.items():
        for sop_class in BOTH:
            notice = Notice("N-CREATE", sop_class, "1.2.3.4", Dataset())
            with Peer(started.address, REQUEST) as peer:
                assert peer.receive()[0] == 2
                before = cost.processor_s()
                peer.send(message(notice, data))
                assert peer.status() in (0x0106, 0x0110, 0x0120, 0x0213), what
                took[f"{what} {sop_class}"] = cost.processor_s() - before, loop_s(time.process_time)
    most_s = max(seconds for seconds, _ in took.values())
    figure(f"{len(took)} bombs by N-CREATE: {most_s:.2f} s of processor time at most")
    assert {what: times for what, times in took.items() if times[0] > 4 * LONGEST * times[1]} == {}
    assert cost.grown_bytes() < 4 * LARGEST
    assert started.status()["stats"]["studies"] == 0
    assert started.terminate() == 0


def notice_bombs() -> dict[str, bytes]:
    """As many items as are read, each without what it must have; and sequences within sequences."""
    item = b"\xfe\xff\x00\xe0"
    one = element(0x00080056, b"CS", b"ONLINE") + element(0x00080054, b"AE", b"PACS")
    many = (item + len(one).to_bytes(4, "little") + one) * 60_000
    series = element(0x00081199, b"SQ", many)
    wide = element(0x00081115, b"SQ", item + len(series).to_bytes(4, "little") + series)
    deep = b""
    for _ in range(40):
        deep = element(0x00081115, b"SQ", item + len(deep).to_bytes(4, "little") + deep)
    return {"many references": wide, "deep references": deep}


def test_bombs_that_are_held_at_the_same_time(
    daemon: StartDaemon, tmp_path: Path, everything: dict[str, tuple[str, bytes]]
) -> None:
    """They stay within ``max_held_bytes`` and some MiB of each; what is passed over takes nothing of it."""
    started = daemon("--output-dir", tmp_path / "out")
    most = with_receiver(f"max_held_bytes = {HELD}")
    assert started.reload("", most)["event"] == "config.reloaded"
    cost = Cost(started)
    found = {}
    for what in ("as many codes as are decoded", "a private value of 60 MiB"):
        syntax, data = everything[what]
        request = associate_rq(contexts=context(1, CT, syntax))
        with ExitStack() as stack:
            peers = [stack.enter_context(Peer(started.address, request)) for _ in range(ASSOCIATIONS)]
            for peer in peers:
                assert peer.receive()[0] == 2
                peer.send(messages(data)[: -len(END)])
            wait_until(cost.is_quiet, 60, "all that was sent is read")
            for peer in peers:
                peer.send(END)
            found[what] = {peer.status() for peer in peers}
            for peer in peers:
                release(peer)  # so that as many may come again
    assert found == {"as many codes as are decoded": {0xA700, 0xC000}, "a private value of 60 MiB": {0xC000}}
    assert cost.grown_bytes() < HELD + 2 * ASSOCIATIONS * MIB + LARGEST
    assert started.terminate() == 0


def test_a_long_value_is_passed_over(daemon: StartDaemon, tmp_path: Path) -> None:
    started = daemon("--output-dir", tmp_path / "out")
    cost = Cost(started)
    long = element(0x00200010, b"UT", bytes(60 * MIB))
    with Peer(started.address, associate_rq()) as peer:
        assert peer.receive()[0] == 2
        peer.send(messages(data_set() + long))
        assert peer.status() == 0
    assert cost.grown_bytes() < LARGEST
    assert started.terminate() == 0


@pytest.mark.timeout(300)
def test_bombs_in_a_folder_and_for_convert(
    daemon: StartDaemon, tmp_path: Path, bombs: dict[str, tuple[str, bytes]]
) -> None:
    started = daemon(settings=folder_to_files(tmp_path))
    cost = Cost(started)
    for what, (syntax, data) in bombs.items():
        name = re.sub(r"\W+", "-", what)
        made = tmp_path / f"{name}.part"
        made.write_bytes(meta(syntax) + data)
        os.rename(made, tmp_path / "inbox" / f"{name}.dcm")
    done = run_command("convert", tmp_path / "inbox", timeout=200)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr

    def settled() -> int:
        return sum(line["event"] in SETTLED for line in started.log_lines())

    wait_until(lambda: settled() >= len(bombs), 100, "every file is refused")
    assert started.instances() == {}
    assert cost.grown_bytes() < LARGEST
    assert started.terminate() == 0
