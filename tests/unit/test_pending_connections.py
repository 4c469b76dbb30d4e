"""Where connections wait before their associations: without threads, and taking turns between addresses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.pending_connections import PendingConnection, PendingConnections
from dicom2fhir.receive.dimse.scp import StorageSCP
from tests.scripted_peer import ECHO, WAIT_S, Kept, Peer, associate, associate_rq, release, until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Room:
    """Pending connections, and their peers."""

    def __init__(self, listener: socket.socket) -> None:
        self.pending = PendingConnections(listener)
        self.peers: list[socket.socket] = []

    def connect(self, peer: str, said: bytes = b"x") -> PendingConnection:
        ours, theirs = socket.socketpair()
        self.peers.append(theirs)
        theirs.sendall(said)
        waiting = PendingConnection(ours, peer, time.monotonic())
        self.pending.add(waiting)
        return waiting

    def turns(self, count: int) -> list[PendingConnection | None]:
        return [self.pending.next() for _ in range(count)]


@pytest.fixture
def room(listener: socket.socket) -> Iterator[Room]:
    made = Room(listener)
    yield made
    made.pending.close()
    for peer in made.peers:
        peer.close()


def test_addresses_take_turns(room: Room) -> None:
    many = [room.connect("flood") for _ in range(4)]
    one, other = room.connect("one"), room.connect("other")
    room.pending.wait(WAIT_S)
    turns = room.turns(6)
    assert turns == [many[0], one, other, *many[1:]]
    for waiting in (*many, one, other):
        waiting.connection.close()


def test_who_has_begun_comes_before_newcomers_of_the_same_address(room: Room) -> None:
    first = room.connect("peer")
    room.pending.wait(WAIT_S)
    assert room.pending.next() is first
    second = room.connect("peer")
    room.pending.wait(WAIT_S)
    room.pending.put_back(first)
    room.pending.wait(WAIT_S)  # which watches it again
    room.pending.wait(WAIT_S)
    assert room.turns(2) == [first, second]
    for waiting in (first, second):
        waiting.connection.close()


def test_who_comes_back_while_wake_ups_are_read_is_watched_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was seen only when the next one came or the time was up, which cost TLS a tenth of a second."""
    waiting = room.connect("peer")
    room.pending.wait(WAIT_S)
    assert room.pending.next() is waiting
    woken = room.pending._woken

    def come_back_and_read(size: int) -> bytes:
        room.pending.put_back(waiting)
        return woken.recv(size)

    room.pending._wake_up.send(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(room.pending, "_woken", Mock(recv=come_back_and_read))
        room.pending.wait(WAIT_S)
    room.pending.wait(0)
    assert waiting.is_ready
    assert room.pending.next() is waiting
    waiting.connection.close()


def test_who_is_shown_out_has_no_turn(room: Room) -> None:
    gone, silent, present = room.connect("a"), room.connect("b", b""), room.connect("c")
    room.pending.wait(WAIT_S)
    room.pending.drop(gone)
    room.pending.drop(silent)
    assert room.pending.connections() == [present]
    assert room.pending.next() is present
    room.pending.put_back(present)
    room.pending.drop(present)
    assert len(room.pending) == 0
    assert [waiting.connection.fileno() for waiting in (gone, silent, present)] == [-1, -1, -1]


def test_closing_ends_all_that_wait(room: Room) -> None:
    silent, ready, under_way = room.connect("a", b""), room.connect("b"), room.connect("c")
    room.pending.wait(WAIT_S)
    turns = room.turns(2)
    assert set(turns) == {ready, under_way}
    room.pending.put_back(ready)
    room.pending.close()
    room.pending.put_back(under_way)
    assert room.pending.next() is None
    assert [waiting.connection.fileno() for waiting in (silent, ready, under_way)] == [-1, -1, -1]


def test_connections_that_say_nothing_take_no_thread() -> None:
    kept = Kept()
    scp = StorageSCP(
        Listen(port=0),
        on_received=kept.on_received,
        on_created=kept.created.append,
        on_set=kept.updated.append,
        on_rejected=kept.on_rejected,
        on_association_ended=kept.ended.append,
    )
    scp.start()
    threads = threading.active_count()
    silent = [socket.create_connection(scp.address) for _ in range(200)]
    try:
        until(lambda: scp.associations == 200)
        assert threading.active_count() <= threads, "those of other tests may have ended meanwhile"
        with associate(scp) as peer:
            peer.send(ECHO)
            assert peer.status() == 0
            release(peer)
    finally:
        scp.stop(5.0)
        for each in silent:
            assert each.recv(1) == b""
            each.close()
    assert scp.associations == 0


def test_a_flood_that_is_not_kept_up_with_pushes_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for us keeps the place; who comes beyond that is turned away at once."""
    kept = Kept()
    busy = threading.Event()
    step, stepping = PendingConnection.step, 0

    def waiting() -> int:
        assert scp._pending is not None
        return sum(waiting.is_ready for waiting in scp._pending.connections())

    def turned_away() -> int:
        return scp.refused.get("connection: too many waiting", 0)

    def slow(self: PendingConnection, tls: object) -> bool:
        nonlocal stepping
        stepping += 1
        assert busy.wait(WAIT_S)
        return step(self, None)

    monkeypatch.setattr(PendingConnection, "step", slow)
    scp = StorageSCP(
        Listen(port=0, max_waiting_per_peer=8),
        on_received=kept.on_received,
        on_created=kept.created.append,
        on_set=kept.updated.append,
        on_rejected=kept.on_rejected,
        on_association_ended=kept.ended.append,
    )
    scp.start()
    said: list[socket.socket] = []
    try:
        for _ in range(10):
            said.append(socket.create_connection(scp.address))
            said[-1].sendall(b"\7")
            until(lambda: stepping + waiting() + turned_away() == len(said))
        assert (stepping, waiting(), turned_away()) == (2, 4, 4)
        with socket.create_connection(scp.address, WAIT_S, ("127.0.0.2", 0)) as other:
            other.sendall(b"\7")
            until(lambda: waiting() == 5)
    finally:
        busy.set()
        scp.stop(5.0)
        for each in said:
            each.close()


def test_who_comes_back_while_the_lobby_closes_is_closed_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, under_way = room.connect("a", b""), room.connect("b")
    room.pending.wait(WAIT_S)
    assert room.pending.next() is under_way
    drop = room.pending.drop

    def drop_late(waiting: PendingConnection) -> None:
        room.pending.put_back(under_way)
        drop(waiting)

    monkeypatch.setattr(room.pending, "drop", drop_late)
    room.pending.close()
    assert [waiting.connection.fileno() for waiting in (silent, under_way)] == [-1, -1]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_thread_that_cannot_be_had_leaves_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    kept = Kept()
    scp = StorageSCP(
        Listen(port=0),
        on_received=kept.on_received,
        on_created=kept.created.append,
        on_set=kept.updated.append,
        on_rejected=kept.on_rejected,
        on_association_ended=kept.ended.append,
    )
    scp.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", Mock(side_effect=error))
            with Peer(scp.address, associate_rq()) as refused:
                assert refused.receive() == (0, b"")
        assert scp.associations == 0
        with associate(scp) as peer:
            release(peer)
    finally:
        scp.stop(5.0)
