"""Where connections wait before their associations: without threads, and taking turns between addresses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.pending_connections import Guest, Lobby
from dicom2fhir.receive.dimse.scp import StorageSCP
from tests.scripted_peer import ECHO, WAIT_S, Kept, Peer, associate, associate_rq, release, until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Room:
    """A lobby, and peers in it."""

    def __init__(self, listener: socket.socket) -> None:
        self.lobby = Lobby(listener)
        self.peers: list[socket.socket] = []

    def guest(self, peer: str, said: bytes = b"x") -> Guest:
        ours, theirs = socket.socketpair()
        self.peers.append(theirs)
        theirs.sendall(said)
        guest = Guest(ours, peer, time.monotonic())
        self.lobby.take_in(guest)
        return guest

    def turns(self, count: int) -> list[Guest | None]:
        return [self.lobby.next() for _ in range(count)]


@pytest.fixture
def room(listener: socket.socket) -> Iterator[Room]:
    made = Room(listener)
    yield made
    made.lobby.close()
    for peer in made.peers:
        peer.close()


def test_addresses_take_turns(room: Room) -> None:
    many = [room.guest("flood") for _ in range(4)]
    one, other = room.guest("one"), room.guest("other")
    room.lobby.wait(WAIT_S)
    turns = room.turns(6)
    assert turns == [many[0], one, other, *many[1:]]
    for guest in (*many, one, other):
        guest.connection.close()


def test_who_has_begun_comes_before_newcomers_of_the_same_address(room: Room) -> None:
    first = room.guest("peer")
    room.lobby.wait(WAIT_S)
    assert room.lobby.next() is first
    second = room.guest("peer")
    room.lobby.wait(WAIT_S)
    room.lobby.take_back(first)
    room.lobby.wait(WAIT_S)  # which watches it again
    room.lobby.wait(WAIT_S)
    assert room.turns(2) == [first, second]
    for guest in (first, second):
        guest.connection.close()


def test_who_comes_back_while_wake_ups_are_read_is_watched_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was seen only when the next one came or the time was up, which cost TLS a tenth of a second."""
    guest = room.guest("peer")
    room.lobby.wait(WAIT_S)
    assert room.lobby.next() is guest
    woken = room.lobby._woken

    def come_back_and_read(size: int) -> bytes:
        room.lobby.take_back(guest)
        return woken.recv(size)

    room.lobby._wake_up.send(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(room.lobby, "_woken", Mock(recv=come_back_and_read))
        room.lobby.wait(WAIT_S)
    room.lobby.wait(0)
    assert guest.is_ready
    assert room.lobby.next() is guest
    guest.connection.close()


def test_who_is_shown_out_has_no_turn(room: Room) -> None:
    gone, silent, present = room.guest("a"), room.guest("b", b""), room.guest("c")
    room.lobby.wait(WAIT_S)
    room.lobby.show_out(gone)
    room.lobby.show_out(silent)
    assert room.lobby.guests() == [present]
    assert room.lobby.next() is present
    room.lobby.take_back(present)
    room.lobby.show_out(present)
    assert len(room.lobby) == 0
    assert [guest.connection.fileno() for guest in (gone, silent, present)] == [-1, -1, -1]


def test_closing_ends_all_that_wait(room: Room) -> None:
    silent, ready, under_way = room.guest("a", b""), room.guest("b"), room.guest("c")
    room.lobby.wait(WAIT_S)
    turns = room.turns(2)
    assert set(turns) == {ready, under_way}
    room.lobby.take_back(ready)
    room.lobby.close()
    room.lobby.take_back(under_way)
    assert room.lobby.next() is None
    assert [guest.connection.fileno() for guest in (silent, ready, under_way)] == [-1, -1, -1]


def test_connections_that_say_nothing_take_no_thread() -> None:
    kept = Kept()
    scp = StorageSCP(
        Listen(port=0),
        on_received=kept.on_received,
        on_rejected=kept.on_rejected,
        on_association_ended=kept.ended.append,
    )
    scp.start()
    threads = threading.active_count()
    silent = [socket.create_connection(scp.address) for _ in range(200)]
    try:
        until(lambda: scp.associations == 200)
        assert threading.active_count() == threads
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
    step, stepping = Guest.step, 0

    def waiting() -> int:
        assert scp._lobby is not None
        return sum(guest.is_ready for guest in scp._lobby.guests())

    def turned_away() -> int:
        return scp.refused.get("connection: too many waiting", 0)

    def slow(self: Guest, tls: object) -> bool:
        nonlocal stepping
        stepping += 1
        assert busy.wait(WAIT_S)
        return step(self, None)

    monkeypatch.setattr(Guest, "step", slow)
    scp = StorageSCP(
        Listen(port=0, max_waiting_per_peer=8),
        on_received=kept.on_received,
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
    silent, under_way = room.guest("a", b""), room.guest("b")
    room.lobby.wait(WAIT_S)
    assert room.lobby.next() is under_way
    show_out = room.lobby.show_out

    def show_out_late(guest: Guest) -> None:
        room.lobby.take_back(under_way)
        show_out(guest)

    monkeypatch.setattr(room.lobby, "show_out", show_out_late)
    room.lobby.close()
    assert [guest.connection.fileno() for guest in (silent, under_way)] == [-1, -1]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_thread_that_cannot_be_had_leaves_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    kept = Kept()
    scp = StorageSCP(
        Listen(port=0),
        on_received=kept.on_received,
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
