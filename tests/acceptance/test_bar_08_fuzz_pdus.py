"""Bar 8: bytes that nobody meant, over real connections to one receiver."""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Received
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from tests.acceptance.fuzzing import corpus, fuzz, keeping, mutated, search
from tests.scripted_peer import (
    ABORT,
    CT,
    DATA,
    ECHO,
    EXPLICIT_LE,
    IMPLICIT_LE,
    MR,
    PIXELS,
    REJECTED,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    Kept,
    Peer,
    associate,
    associate_rq,
    command,
    context,
    data_set,
    element,
    item,
    p_data,
    pdu,
    pdv,
    store,
    until,
)

pytestmark = pytest.mark.bar(8)

ACCEPTED = 2
Scale = Callable[[int, int], int]

PATIENCE_S = 0.2
"""Of a receiver whose peers fall silent."""
LONGEST_S = 30.0
"""Until a connection must have ended whose peer says no more; usually at once."""

BUDGETS = Budgets(header_bytes=64 * 1024, elements=1000, depth=8)


@dataclass
class Target:
    """A receiver that many examples are played to."""

    kept: Kept
    scp: StorageSCP
    logged: Any = field(default_factory=list)

    def join(self) -> None:
        """Wait for the end of all that is open."""
        for thread in list(self.scp._open.values()):
            thread.join(LONGEST_S)
            assert not thread.is_alive(), "a connection did not end"

    def forget(self) -> None:
        self.kept.received.clear()
        self.kept.rejected.clear()
        self.kept.ended.clear()
        self.logged.clear()

    def check(self) -> None:
        """Nothing went wrong that no peer can be blamed for."""
        assert self.scp.is_alive()
        errors = [entry for entry in self.logged if entry["log_level"] not in ("debug", "info", "warning")]
        assert not errors


@contextlib.contextmanager
def receiver(patience_s: float) -> Iterator[Target]:
    kept = Kept()
    scp = StorageSCP(
        Listen(
            port=0,
            acse_timeout_s=patience_s,
            dimse_timeout_s=patience_s,
            network_timeout_s=patience_s,
            max_pdu_bytes=4096,
            budgets=BUDGETS,
        ),
        on_received=kept.on_received,
        on_created=kept.created.append,
        on_set=kept.updated.append,
        on_rejected=kept.on_rejected,
        on_association_ended=kept.ended.append,
    )
    scp.start()
    yield Target(kept, scp)
    scp.stop(5.0)
    assert not scp._open


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with receiver(4 * LONGEST_S) as target:
        yield target


@pytest.fixture
def target(running: Target, caplog: pytest.LogCaptureFixture) -> Iterator[Target]:
    """The receiver; a good association must work when all examples were played, and nothing may be left behind."""

    def left() -> int:
        with associate(running.scp) as peer:
            peer.send(store() + ECHO + RELEASE_RQ)
            assert [peer.status(), peer.status()] == [0, 0]
            assert peer.receive()[0] == RELEASE_RP
        running.join()
        gc.collect()  # what other tests left behind
        return threading.active_count() + len(list(Path("/proc/self/fd").iterdir()))

    before = left()
    with capture_logs() as running.logged, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # as in a daemon: an error would hide what comes after it
        yield running
    running.check()
    until(lambda: left() <= before)
    running.forget()
    assert not warned and not caplog.get_records("call"), "libraries quote what peers send"


def read_all(peer: Peer) -> tuple[list[tuple[int, bytes]], bool]:
    """All PDUs to the end of the connection or to one after which peers close it; whether it was lost instead."""
    found: list[tuple[int, bytes]] = []
    while True:
        try:
            head = peer.socket.recv(6, socket.MSG_WAITALL)
            if not head:
                return found, False
            assert len(head) == 6, head
            length = int.from_bytes(head[2:], "big")
            assert length <= 1 << 17
            body = peer.socket.recv(length, socket.MSG_WAITALL) if length else b""
        except ConnectionResetError:
            return found, True
        assert len(body) == length
        found.append((head[0], body))
        if head[0] in (REJECTED, RELEASE_RP, ABORT):
            return found, False


def played(target: Target, data: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """What a receiver answers to bytes after which nothing comes."""
    with Peer(target.scp.address) as peer:
        peer.socket.settimeout(LONGEST_S)
        was_cut = False
        try:
            peer.send(data)
            peer.socket.shutdown(socket.SHUT_WR)
        except OSError:
            was_cut = True
        answers, lost = read_all(peer)
    target.join()
    return answers, lost or was_cut


# Damage

OPERATIONS = ("flip", "delete", "repeat", "insert", "overwrite", "cut")
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(OPERATIONS),
        st.integers(0, 1 << 16),
        st.integers(1, 60),
        st.sampled_from([b"\0", b"\xff", b"\0\0", b"\xff\xff", b"\xff" * 4, bytes(4), b"\0\0\0\2"])
        | st.binary(max_size=9),
    ),
    max_size=3,
)


def damaged(data: bytes, damage: list[tuple[str, int, int, bytes]]) -> bytes:
    for operation, where, count, some in damage:
        at = where % (len(data) + 1)
        match operation:
            case "flip":
                data = data[:at] + bytes(byte ^ (1 << count % 8) for byte in data[at : at + 1]) + data[at + 1 :]
            case "delete":
                data = data[:at] + data[at + count :]
            case "repeat":
                data = data[: at + count] + data[at:]
            case "insert":
                data = data[:at] + some + data[at:]
            case "overwrite":
                data = data[:at] + some + data[at + len(some) :]
            case _:
                data = data[:at]
    return data


# Association requests


def of_class(kind: int, uid: str, rest: bytes) -> bytes:
    return item(kind, struct.pack(">H", len(uid)) + uid.encode() + rest)


REQUESTS = (
    associate_rq(),
    associate_rq(
        of_class(0x54, CT, b"\1\1"),
        of_class(0x54, MR, b"\0\1"),
        of_class(0x56, CT, b"\2\0\3\0\1\0"),
        of_class(0x57, CT, b"\0\x03" + b"1.2" + b"\0\x05\0\x03" + b"1.3"),
        item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret"),
        item(0x53, struct.pack(">HH", 0, 0)),
        item(0x55, b"FUZZ 1"),
        contexts=context(1, CT, EXPLICIT_LE, IMPLICIT_LE) + context(3, MR, EXPLICIT_LE) + context(5, "1.2.3", "1.2.4"),
    ),
)


def items_of(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append(data[at:end])
        at = end
    return found


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """An association request with damage to its items, whose length is right, and then to all of it."""
    whole = draw(st.sampled_from(REQUESTS))
    head, items = whole[6:74], items_of(whole[74:])
    user = items_of(items.pop()[4:])
    order = st.lists(st.sampled_from(range(9)), max_size=6)
    if draw(st.booleans()):
        user = [user[number % len(user)] for number in draw(order)]
    user = [damaged(each, draw(DAMAGE)) if draw(st.integers(0, 5)) == 5 else each for each in user]
    items.append(item(0x50, b"".join(user)))
    if draw(st.booleans()):
        items = [items[number % len(items)] for number in draw(order)]
    items = [damaged(each, draw(DAMAGE)) if draw(st.integers(0, 5)) == 5 else each for each in items]
    made = pdu(1, head + b"".join(items))
    return damaged(made, draw(DAMAGE)) if draw(st.booleans()) else made


def test_any_association_request(target: Target, seed: int, scale: Scale, history: Path) -> None:
    def play(sent: bytes) -> None:
        with keeping(sent, history / "request.bin"):
            check_request(target, sent)

    search(play, scale(500, 8_000), seed, sent=st.binary(max_size=200) | requests())


def check_request(target: Target, request: bytes) -> None:
    target.forget()
    answers, _ = played(target, request + RELEASE_RQ)
    target.check()
    kinds = [kind for kind, _ in answers]
    assert kinds in ([], [REJECTED], [ABORT], [ACCEPTED], [ACCEPTED, RELEASE_RP], [ACCEPTED, ABORT])
    if kinds and kinds[0] == ACCEPTED:
        proposed = request[74:]
        for each in items_of(answers[0][1][68:]):
            assert each[0] in (0x10, 0x21, 0x50)
            if each[0] == 0x21 and each[6] == 0:
                assert items_of(each[8:])[0][4:].rstrip(b"\0") in proposed, "of what was proposed"
        assert len(target.kept.ended) == 1
    else:
        assert target.kept.ended == []
    assert target.kept.received == []


# Messages


MORE = (b"", element(0x1030, b"MOVER") + element(0x1031, b"\7\0"))
KINDS = ("store", "store", "store", "echo", "other")


@st.composite
def values(draw: st.DrawFn, may_damage: bool = True) -> list[bytes]:
    """The presentation data values of one message, in any fragments."""

    def hurt(data: bytes) -> bytes:
        return damaged(data, draw(DAMAGE)) if may_damage and not draw(st.integers(0, 3)) else data

    number, context_id = draw(st.integers(1, 5)), 1
    uid = f"1.2.{number}"
    match draw(st.sampled_from(KINDS)):
        case "store":
            request = command(uid, message_id=number, more=draw(st.sampled_from(MORE)))
            parts = [(1, hurt(request)), (0, hurt(data_set(uid) + draw(st.sampled_from([b"", PIXELS]))))]
        case "echo":
            parts, context_id = [(1, hurt(command(field_=0x0030, data_set=0x0101, sop=VERIFICATION)))], 3
        case _:
            parts = [(1, hurt(command(field_=0x0140))), (0, hurt(data_set()))]
    found = []
    for control, data in parts:
        for size in draw(st.lists(st.integers(0, 300), max_size=5)):
            found.append(pdv(context_id, control, data[:size]))
            data = data[size:]
        found.append(pdv(context_id, control | 2, data))
    return found


def packed(parts: list[bytes], together: list[bool]) -> bytes:
    """Put values into PDUs, alone or with the one before."""
    bodies: list[bytes] = []
    for index, value in enumerate(parts):
        joins = bodies and together[index % len(together)] and len(bodies[-1]) + len(value) <= 4096
        bodies[-1:] = [bodies[-1] + value] if joins else [*bodies[-1:], value]
    return b"".join(map(p_data, bodies))


TOGETHER = st.lists(st.booleans(), min_size=1, max_size=7)
DISORDER = st.lists(
    st.tuples(st.sampled_from(["swap", "drop", "repeat", "context", "control"]), st.integers(0, 99)), max_size=2
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Messages whose values may be in disorder, strange PDUs between them, and damage to all of it."""
    parts = [value for message in draw(st.lists(values(), min_size=1, max_size=5)) for value in message]
    for operation, where in draw(DISORDER) if draw(st.booleans()) else ():
        at = where % (len(parts) + 1)
        match operation:
            case "swap":
                parts[at : at + 2] = reversed(parts[at : at + 2])
            case "drop":
                del parts[at : at + 1]
            case "repeat":
                parts[at:at] = parts[at : at + 1]
            case "context":
                parts[at : at + 1] = [part[:4] + bytes((part[4] ^ 2,)) + part[5:] for part in parts[at : at + 1]]
            case _:
                flip = 1 + where % 3
                parts[at : at + 1] = [part[:5] + bytes((part[5] ^ flip,)) + part[6:] for part in parts[at : at + 1]]
    cut = draw(st.integers(0, len(parts)))
    strange = draw(st.lists(STRANGE, max_size=2)) if draw(st.booleans()) else []
    together = draw(TOGETHER)
    stream = packed(parts[:cut], together) + b"".join(strange) + packed(parts[cut:], together)
    return damaged(stream, draw(DAMAGE)) if not draw(st.integers(0, 3)) else stream


STRANGE = st.one_of(
    st.builds(lambda kind, body: pdu(kind, body), st.integers(0, 255), st.binary(max_size=12)),
    st.builds(
        lambda number, control, data: p_data(pdv(number, control, data)),
        st.sampled_from([0, 1, 2, 3, 5, 255]),
        st.integers(0, 255),
        st.binary(max_size=40) | st.just(command()),
    ),
    st.builds(
        lambda length, number, control, data: p_data(struct.pack(">LBB", length, number, control) + data),
        st.sampled_from([0, 1, 2, 3, 1000, 0xFFFFFFFF]),
        st.sampled_from([1, 3]),
        st.integers(0, 3),
        st.binary(max_size=20),
    ),
    st.just(p_data(pdv(1, 3, command(field_=0x0140)), pdv(1, 2, data_set()))),
    st.just(p_data(pdv(1, 3, command(field_=0x0FFF, data_set=0x0101)))),
    st.just(p_data(pdv(1, 3, command(uid="", data_set=0x0101)))),
    st.just(RELEASE_RQ),
    st.just(pdu(7, bytes(4))),
    st.binary(max_size=30),
)


def elements_of(command_set: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 8 <= len(command_set):
        _, number, length = struct.unpack_from("<HHL", command_set, at)
        found[number] = command_set[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def uid_of(elements: dict[int, bytes]) -> str:
    return elements.get(0x1000, b"").decode("latin-1").strip("\0 ")


def sent_stores(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """The UIDs and data sets of C-STORE requests in a stream, up to the first thing that is out of order."""
    at, message = 0, 0
    command_set = data = b""
    elements: dict[int, bytes] = {}
    while stream[at : at + 1] == bytes((DATA,)) and at + 6 <= len(stream):
        end = at + 6 + int.from_bytes(stream[at + 2 : at + 6], "big")
        body = stream[at + 6 : end]
        at = end
        while body:
            count = int.from_bytes(body[:4], "big")
            if count < 2 or len(body) < 4 + count or message not in (0, body[4]):
                return
            message, control, fragment, body = body[4], body[5], body[6 : 4 + count], body[4 + count :]
            if bool(control & 1) is bool(elements):
                return
            if control & 1:
                command_set += fragment
            else:
                data += fragment
            if not control & 2:
                continue
            if not elements:
                elements = elements_of(command_set)
                if elements.get(0x0800, b"\1\1") != b"\1\1":
                    continue
            elif elements.get(0x0100) == b"\1\0":
                yield uid_of(elements), data
            message, command_set, data, elements = 0, b"", b"", {}


def is_of(received: Received, sent: bytes) -> bool:
    """Whether what was handed over was taken out of these bytes."""
    try:
        return received.taken == scan(sent, EXPLICIT_LE, WANTED, BUDGETS)
    except CannotUnderstand:
        return False


def check_answers(target: Target, stream: bytes, answers: list[tuple[int, bytes]], lost: bool) -> list[str]:
    """UIDs of what was acknowledged, which must be what was handed over, which must be what was sent."""
    target.check()
    assert answers[0][0] == ACCEPTED
    acknowledged, command_set = [], b""
    assert all(kind == DATA for kind, _ in answers[1:-1])
    for kind, body in answers[1:]:
        assert kind in (DATA, RELEASE_RP, ABORT)
        if kind == DATA:
            length, _, control = struct.unpack_from(">LBB", body)
            assert length == len(body) - 4 and control & 1
            command_set += body[6:]
            if control & 2:
                elements = elements_of(command_set)
                assert elements[0x0100][1] & 0x80
                status = int.from_bytes(elements[0x0900], "little")
                assert status in (0, 0xC000, 0x0211, 0x0122)
                if elements[0x0100] == b"\1\x80" and not status:
                    acknowledged.append(uid_of(elements))
                command_set = b""
    handed_over = [received.sop_instance for received in target.kept.received]
    assert handed_over[: len(acknowledged)] == acknowledged
    assert lost or handed_over == acknowledged
    sent = sent_stores(stream)
    for received in target.kept.received:  # in the order in which they were sent
        assert any(uid == received.sop_instance and is_of(received, data) for uid, data in sent)
    assert len(target.kept.ended) == 1
    return acknowledged


def test_any_messages(target: Target, seed: int, scale: Scale, history: Path) -> None:
    def play(sent: bytes) -> None:
        with keeping(sent, history / "messages.bin"):
            check_stream(target, sent)

    search(play, scale(500, 8_000), seed, sent=streams())


def test_damaged_messages(target: Target, seed: int, scale: Scale, history: Path) -> None:
    """Those of the corpus, and what chance makes of them."""

    def made(random: Random) -> bytes:
        return mutated(random.choice(corpus("messages")), random)

    fuzz(lambda sent: check_stream(target, sent), made, "messages", seed=seed, seconds=scale(3, 60), history=history)


def check_stream(target: Target, stream: bytes) -> None:
    target.forget()
    answers, lost = played(target, associate_rq() + stream)
    check_answers(target, stream, answers, lost)


def test_good_messages_in_any_fragments(target: Target, seed: int, scale: Scale) -> None:
    def play(messages: list[list[bytes]], together: list[bool]) -> None:
        target.forget()
        stream = packed([value for message in messages for value in message], together)
        answers, lost = played(target, associate_rq() + stream + RELEASE_RQ)
        acknowledged = check_answers(target, stream, answers, lost)
        assert acknowledged == [uid for uid, _ in sent_stores(stream)]
        assert len(answers) == 2 + len(messages)
        assert answers[-1][0] == RELEASE_RP

    good = st.lists(values(may_damage=False), max_size=6)
    search(play, scale(100, 2_000), seed, messages=good, together=TOGETHER)


def test_peers_that_fall_silent_are_ended(seed: int, scale: Scale) -> None:
    any_bytes = st.binary(max_size=99) | streams() | requests()
    search(fall_silent, scale(5, 50), seed, played_=st.lists(any_bytes, min_size=10, max_size=10))


def fall_silent(played_: list[bytes]) -> None:
    """They come all at once and do not close their connections."""
    with receiver(PATIENCE_S) as target, capture_logs() as target.logged, contextlib.ExitStack() as peers:
        silent = []
        for number, stream in enumerate(played_):
            peer = peers.enter_context(Peer(target.scp.address))
            peer.socket.settimeout(LONGEST_S)
            with contextlib.suppress(ConnectionError):
                peer.send(stream if number % 2 else associate_rq() + stream)
            silent.append(peer)
        for peer in silent:
            read_all(peer)
            peer.socket.close()
        target.join()
        target.check()
