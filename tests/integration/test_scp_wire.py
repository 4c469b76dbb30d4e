"""The receiver against a scripted peer that plays bytes, and against peers that mean harm."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.reader import scan
from dicom2fhir.dicom.substitutes import TOO_LONG
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.receive.dimse import association
from dicom2fhir.receive.dimse.negotiation import IMPLEMENTATION_CLASS_UID
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from tests.scripted_peer import (
    ABORT,
    CT,
    ECHO,
    EXPLICIT_LE,
    INVALID_PARAMETER,
    MR,
    PIXELS,
    REJECTED,
    RELEASE_RP,
    RELEASE_RQ,
    UNEXPECTED_PARAMETER,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    WAIT_S,
    Kept,
    Peer,
    associate,
    associate_rq,
    command,
    context,
    data_set,
    element,
    explicit,
    item,
    p_data,
    pdu,
    pdv,
    release,
    store,
    until,
)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def start(kept: Kept) -> Iterator[Callable[..., StorageSCP]]:
    running: list[StorageSCP] = []

    def begin(listen: Listen | None = None) -> StorageSCP:
        scp = StorageSCP(
            listen or Listen(port=0),
            on_received=kept.on_received,
            on_created=kept.created.append,
            on_set=kept.updated.append,
            on_rejected=kept.on_rejected,
            on_association_ended=kept.ended.append,
        )
        scp.start()
        running.append(scp)
        return scp

    yield begin
    if kept.hold is not None:
        kept.hold.set()
    for scp in running:
        scp.stop(5.0)


Start = Callable[..., StorageSCP]
TAKEN = scan(data_set(), EXPLICIT_LE, WANTED)


# Fragmentation


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("together", [False, True], ids=["a PDU for each PDV", "all PDVs in one PDU"])
def test_any_fragmentation(start: Start, kept: Kept, size: int, together: bool) -> None:
    values = [(3 if last else 1, part) for part, last in marked(pieces(command(), size))]
    values += [(2 if last else 0, part) for part, last in marked(pieces(data_set() + PIXELS, size))]
    encoded = [pdv(1, control, part) for control, part in values]
    with associate(start()) as peer:
        peer.send(p_data(*encoded) if together else b"".join(map(p_data, encoded)))
        assert peer.status() == 0
        release(peer)
    assert [received.taken for received in kept.received] == [TAKEN]


def marked(parts: list[bytes]) -> list[tuple[bytes, bool]]:
    return [(part, index == len(parts) - 1) for index, part in enumerate(parts)]


def test_bytes_that_come_one_by_one(start: Start, kept: Kept) -> None:
    with Peer(start().address) as peer:
        for byte in associate_rq():
            peer.send(bytes((byte,)))
        assert peer.receive()[0] == 2
        for byte in store():
            peer.send(bytes((byte,)))
        assert peer.status() == 0
        release(peer)
    assert kept.received[0].taken == TAKEN


def test_empty_fragments_mean_nothing(start: Start, kept: Kept) -> None:
    with associate(start()) as peer:
        peer.send(p_data(pdv(1, 1, b""), pdv(1, 1, command()), pdv(1, 3, b"")))
        peer.send(p_data(pdv(1, 0, b""), pdv(1, 0, data_set()), pdv(1, 2, b"")))
        assert peer.status() == 0
    assert kept.received[0].taken == TAKEN


def test_a_pdu_of_the_greatest_length_and_one_longer(start: Start, kept: Kept) -> None:
    with associate(start(Listen(port=0, max_pdu_bytes=4096))) as peer:
        head = data_set() + explicit(0x7FE0, 0x10, b"OW", bytes(4000))
        assert len(head) > 4096 - 6
        peer.send(p_data(pdv(1, 3, command())))
        peer.send(p_data(pdv(1, 0, head[: 4096 - 6])) + p_data(pdv(1, 2, head[4096 - 6 :])))
        assert peer.status() == 0
        peer.send(p_data(pdv(1, 3, command())) + p_data(pdv(1, 2, bytes(4096 - 5))))
        assert peer.abort_reason() == (2, INVALID_PARAMETER)
    assert kept.received[0].taken == TAKEN


def test_an_answer_is_cut_for_peers_that_take_little(start: Start) -> None:
    with associate(start(), associate_rq(max_length=30)) as peer:
        peer.send(store())
        response = peer.response()
    assert response[0x1000].rstrip(b"\0") == b"1.2.3.4.5"
    assert response[0x0900] == b"\0\0"


def test_pixels_of_any_size_cost_no_memory(start: Start, kept: Kept) -> None:
    with associate(start(Listen(port=0, budgets=Budgets(header_bytes=65536)))) as peer:
        peer.send(p_data(pdv(1, 3, command())))
        head = data_set() + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFFE)
        peer.send(p_data(pdv(1, 0, head)))
        chunk = p_data(pdv(1, 0, bytes(128 * 1024 - 6)))
        for _ in range(400):
            peer.send(chunk)
        peer.send(p_data(pdv(1, 2, b"")))
        assert peer.status() == 0
    assert kept.received[0].taken == TAKEN


# Order


def test_sent_ahead_is_answered_in_order(start: Start, kept: Kept) -> None:
    with associate(start()) as peer:
        peer.send(b"".join(store(f"1.2.{number}", number) for number in range(1, 101)) + RELEASE_RQ)
        ids = [int.from_bytes(peer.response()[0x0120], "little") for _ in range(100)]
        assert peer.receive()[0] == RELEASE_RP
    assert ids == list(range(1, 101))
    assert len(kept.received) == 100


def test_a_release_while_an_instance_is_stored_waits_for_its_answer(start: Start, kept: Kept) -> None:
    kept.hold = threading.Event()
    with associate(start()) as peer:
        peer.send(store())
        assert kept.entered.wait(WAIT_S)
        peer.send(RELEASE_RQ)
        kept.hold.set()
        assert peer.status() == 0
        assert peer.receive()[0] == RELEASE_RP
        until(lambda: kept.ended)


@pytest.mark.parametrize(
    ("played", "reason"),
    [
        (pdu(0x08, b""), UNRECOGNIZED_PDU),
        (pdu(0x00, bytes(4)), UNRECOGNIZED_PDU),
        (associate_rq(), UNEXPECTED_PDU),
        (pdu(2, bytes(68)), UNEXPECTED_PDU),
        (pdu(3, bytes(4)), UNEXPECTED_PDU),
        (pdu(6, bytes(4)), UNEXPECTED_PDU),  # nobody asked for a release
        (pdu(5, bytes(6)), INVALID_PARAMETER),
        (p_data(), INVALID_PARAMETER),
        (p_data(b"\0\0\0"), INVALID_PARAMETER),
        (p_data(struct.pack(">LBB", 1, 1, 3)), INVALID_PARAMETER),
        (p_data(struct.pack(">LBB", 0xFFFFFFFF, 1, 3) + b"abc"), INVALID_PARAMETER),
        (p_data(struct.pack(">LBB", 100, 1, 3) + b"abc"), INVALID_PARAMETER),
        (b"\x04\0\xff\xff\xff\xff", INVALID_PARAMETER),
        (p_data(pdv(5, 3, command())), INVALID_PARAMETER),  # no such context
        (p_data(pdv(2, 3, command())), INVALID_PARAMETER),
        (p_data(pdv(0, 3, command())), INVALID_PARAMETER),
        (p_data(pdv(1, 2, data_set())), UNEXPECTED_PARAMETER),
        (p_data(pdv(1, 3, command()), pdv(1, 3, command())), UNEXPECTED_PARAMETER),
        (p_data(pdv(1, 1, command()), pdv(1, 2, data_set())), UNEXPECTED_PARAMETER),
        (p_data(pdv(1, 3, command()), pdv(3, 2, data_set())), UNEXPECTED_PARAMETER),
        (p_data(pdv(1, 3, b"garbage")), INVALID_PARAMETER),
        (p_data(pdv(1, 3, b"\x08\0\x05\0\x02\0\0\0ab")), INVALID_PARAMETER),
        (p_data(pdv(1, 3, element(0x0100, b"\1\0") + element(0x0800, b"\1\0"))), INVALID_PARAMETER),
        (p_data(pdv(1, 3, element(0x0100, b"\1\0\0\0"))), INVALID_PARAMETER),
        (p_data(pdv(1, 3, command(field_=0x8001, data_set=0x0101))), INVALID_PARAMETER),
        (p_data(pdv(1, 1, bytes(20_000))), INVALID_PARAMETER),
    ],
)
def test_breaches_of_the_protocol_are_aborted(start: Start, kept: Kept, played: bytes, reason: int) -> None:
    scp = start()
    with associate(scp) as peer:
        peer.send(played)
        assert peer.abort_reason() == (2, reason)
    until(lambda: kept.ended and not scp.associations)
    assert kept.received == []
    with associate(scp) as other:
        other.send(ECHO)
        assert other.status() == 0


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", UNRECOGNIZED_PDU),
        (b"\x16\x03\x01\x02\x00\x01\x00", UNRECOGNIZED_PDU),  # TLS
        (pdu(4, bytes(10)), UNEXPECTED_PDU),
        (pdu(5, bytes(4)), UNEXPECTED_PDU),
        (pdu(1, b""), INVALID_PARAMETER),
        (pdu(1, bytes(67)), INVALID_PARAMETER),
        (b"\x01\0\xff\xff\xff\xff", INVALID_PARAMETER),
        (pdu(1, struct.pack(">HH", 1, 0) + bytes(64) + item(0x10, b"1.2")[:-1]), INVALID_PARAMETER),
        (pdu(1, struct.pack(">HH", 1, 0) + b" " * 32 + bytes(32) + b"\x99\0\0\0"), INVALID_PARAMETER),
        (pdu(1, struct.pack(">HH", 1, 0) + b"A" * 32 + bytes(32) + item(0x10, b"") * 60_000), INVALID_PARAMETER),
        (associate_rq(*[item(0x52, b"")] * 15_000), INVALID_PARAMETER),
        (associate_rq(contexts=context(2, CT, EXPLICIT_LE)), INVALID_PARAMETER),
        (associate_rq(contexts=context(1, CT)), INVALID_PARAMETER),
    ],
)
def test_what_is_no_request_is_aborted(start: Start, kept: Kept, first: bytes, reason: int) -> None:
    with Peer(start().address, first) as peer:
        assert peer.abort_reason() == (2, reason)
    assert kept.ended == []


def test_an_abort_before_the_association_is_not_answered(start: Start) -> None:
    with Peer(start().address, pdu(7, bytes(4))) as peer:
        assert peer.receive() == (0, b"")


def test_nothing_is_done_after_the_release(start: Start, kept: Kept) -> None:
    with associate(start()) as peer:
        peer.send(RELEASE_RQ + store() + RELEASE_RQ)
        assert peer.receive()[0] == RELEASE_RP
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.receive() == (0, b"")
        until(lambda: kept.ended)
    assert kept.received == []


def test_the_longest_association_request_and_one_longer(start: Start) -> None:
    request = associate_rq(item(0x55, b"x" * 5000))
    scp = start(Listen(port=0, max_associate_bytes=len(request) - 6))
    with associate(scp, request):
        pass
    with Peer(scp.address, associate_rq(item(0x55, b"x" * 5001))) as peer:
        assert peer.abort_reason() == (2, INVALID_PARAMETER)


@pytest.mark.parametrize("cut", [1, 10, 74, 200, 400])
def test_an_abort_in_the_middle(start: Start, kept: Kept, cut: int) -> None:
    scp = start()
    message = p_data(pdv(1, 3, command())) + p_data(pdv(1, 0, data_set()))
    with associate(scp) as peer:
        peer.send(store() + message[: len(message)] + pdu(7, bytes(4)))
        assert peer.status() == 0
    with associate(scp) as peer:
        peer.send(message[:cut])
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: len(kept.ended) == 2 and not scp.associations)
    assert len(kept.received) == 1


# Negotiation


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (associate_rq(version=2), (1, 2, 2)),
        (associate_rq(application="1.2.3"), (1, 1, 2)),
        (associate_rq(called="SOMEONE"), (1, 1, 7)),
    ],
)
def test_rejections(start: Start, request_: bytes, answer: tuple[int, int, int]) -> None:
    with Peer(start().address, request_) as peer:
        kind, body = peer.receive()
    assert kind == REJECTED
    assert tuple(body[1:]) == answer


def test_extended_negotiation(start: Start) -> None:
    def role(sop_class: str, scu: int, scp: int) -> bytes:
        return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp)))

    extended = item(0x56, struct.pack(">H", len(CT)) + CT.encode() + b"\2\0\3\0\1\0")
    common = item(0x57, struct.pack(">H", len(CT)) + CT.encode() + b"\0\x03" + b"1.2" + b"\0\0")
    identity = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    window = item(0x53, struct.pack(">HH", 0, 0))
    contexts = context(1, CT, EXPLICIT_LE) + context(3, MR, EXPLICIT_LE)
    request = associate_rq(role(CT, 1, 1), role(MR, 0, 1), extended, common, identity, window, contexts=contexts)
    with Peer(start().address, request) as peer:
        kind, body = peer.receive()
    assert kind == 2
    assert item(0x53, struct.pack(">HH", 1, 1)) in body
    assert role(CT, 1, 0) in body
    assert item(0x56, struct.pack(">H", len(CT)) + CT.encode() + bytes(6)) in body
    assert item(0x52, IMPLEMENTATION_CLASS_UID.encode()) in body
    assert b"D2F_" in body
    assert b"\x59\0" not in body  # who the user is was not looked at, which is said by not answering
    assert item(0x21, b"\1\0\0\0" + item(0x40, EXPLICIT_LE.encode())) in body
    # the one who wants to be the provider of MR storage is refused that
    assert item(0x21, b"\3\0\1\0" + item(0x40, EXPLICIT_LE.encode())) in body


def test_items_that_nobody_knows_are_passed_over(start: Start) -> None:
    """PS3.8 section 9.3.1."""
    strange = item(0x99, b"strange")
    request = associate_rq(strange, contexts=context(1, CT, EXPLICIT_LE) + strange)
    with associate(start(), request) as peer:
        peer.send(store())
        assert peer.status() == 0


def test_priority_and_move_originator(start: Start, kept: Kept) -> None:
    more = element(0x1030, b"MOVER") + element(0x1031, b"\7\0")
    with associate(start()) as peer:
        peer.send(p_data(pdv(1, 3, command(message_id=9, more=more)), pdv(1, 2, data_set())))
        assert peer.response()[0x0120] == b"\x09\0"
    assert len(kept.received) == 1


def test_operations_that_are_not_ours(start: Start, kept: Kept) -> None:
    with associate(start()) as peer:
        peer.send(p_data(pdv(1, 3, command(field_=0x0140)), pdv(1, 2, data_set())))  # N-CREATE with a data set
        response = peer.response()
        assert response[0x0100] == b"\x40\x81"
        assert response[0x0900] == b"\x11\x02"
        peer.send(p_data(pdv(1, 3, command(field_=0x0FFF, data_set=0x0101))))  # C-CANCEL has no answer
        peer.send(store())
        assert peer.status() == 0
    assert len(kept.received) == 1


def test_a_store_without_data_set_or_uid(start: Start, kept: Kept) -> None:
    with associate(start()) as peer:
        peer.send(p_data(pdv(1, 3, command(data_set=0x0101))))
        assert peer.status() == 0xC000
        peer.send(p_data(pdv(1, 3, command(uid="")), pdv(1, 2, data_set())))
        assert peer.status() == 0xC000
    assert len(kept.rejected) == 2


# Data sets that mean harm

DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = b"\xff" * 4


def nested(levels: int) -> bytes:
    start = struct.pack("<HH2sH", 0x40, 0x275, b"SQ", 0) + UNDEFINED + b"\xfe\xff\0\xe0" + UNDEFINED
    return start * levels


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("budgets", "syntax", "data", "reason"),
    [
        (Budgets(elements=1000), EXPLICIT_LE, explicit(8, 0x50, b"SH", b"") * 1001, "more than 1000 elements"),
        (Budgets(depth=8), EXPLICIT_LE, nested(9), "nested deeper than 8"),
        (Budgets(header_bytes=100_000), EXPLICIT_LE, explicit(9, 0x10, b"OB", bytes(100_000)), "longer than 100000"),
        (Budgets(inflated_bytes=100_000), DEFLATED, deflated(bytes(10_000_000)), "inflates to more than 100000"),
        (Budgets(), DEFLATED, os.urandom(100_001), "cannot be inflated"),
    ],
    ids=["elements", "depth", "header bytes", "inflated bytes", "not deflated"],
)
def test_a_budget_that_is_passed(
    start: Start, kept: Kept, budgets: Budgets, syntax: str, data: bytes, reason: str
) -> None:
    with associate(start(Listen(port=0, budgets=budgets)), associate_rq(contexts=context(1, CT, syntax))) as peer:
        values = [pdv(1, 0, piece) for piece in pieces(data_set() + data if syntax == EXPLICIT_LE else data, 100_000)]
        peer.send(b"".join(map(p_data, [pdv(1, 3, command()), *values, pdv(1, 2, b"")])))
        assert peer.status() == 0xC000
        made = data_set() if syntax == EXPLICIT_LE else deflated(data_set())
        peer.send(p_data(pdv(1, 3, command()), pdv(1, 2, made)))
        assert peer.status() == 0
    assert reason in kept.rejected[0]
    assert [received.taken for received in kept.received] == [TAKEN]


def test_a_value_that_is_too_long_is_left_out(start: Start, kept: Kept) -> None:
    with associate(start(Listen(port=0, budgets=Budgets(value_bytes=1024)))) as peer:
        peer.send(p_data(pdv(1, 3, command()), pdv(1, 2, data_set() + explicit(0x20, 0x10, b"LT", b"x" * 1025))))
        assert peer.status() == 0
    assert kept.received[0].taken == TAKEN | {0x00200010: TOO_LONG}


def test_all_associations_together_hold_so_much(start: Start, kept: Kept) -> None:
    """What does not fit is to be sent again, and what was held by those who end in any way is free again."""
    mib = 1024 * 1024
    scp = start(Listen(port=0, max_pdu_bytes=8 * mib, max_held_bytes=6 * mib))
    long = explicit(0x20, 0x10, b"UT", b"\xff" * mib)  # takes 5 MiB of memory when it is decoded
    begun = p_data(pdv(1, 3, command())) + p_data(pdv(1, 0, data_set() + long + explicit(0x21, 9, b"OB", bytes(mib))))
    end = p_data(pdv(1, 2, b""))
    with associate(scp) as first, associate(scp) as second, associate(scp) as third:
        first.send(begun)
        until(lambda: scp._space._left == mib)
        second.send(begun + end)
        assert second.status() == 0xA700
        second.send(store())
        assert second.status() == 0
        first.send(end)
        assert first.status() == 0
        until(lambda: scp._space._left == 6 * mib)
        second.send(begun)
        until(lambda: scp._space._left == mib)
        second.socket.close()
        until(lambda: scp._space._left == 6 * mib)
        third.send(begun + end)
        assert third.status() == 0
    assert len(kept.received) == 3
    assert kept.rejected == []


def test_what_is_passed_over_takes_no_space(start: Start, kept: Kept) -> None:
    """Nor does what waited for the rest of its value once the value was passed over or the data set was given up."""
    mib = 1024 * 1024
    scp = start(Listen(port=0, max_held_bytes=8 * mib, budgets=Budgets(value_bytes=2 * mib)))
    private = data_set() + explicit(0x21, 9, b"OB", bytes(8 * mib))
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(associate(scp)) for _ in range(8)]
        for peer in peers:
            peer.send(p_data(pdv(1, 3, command())))
            for piece in pieces(private, 100_000):
                peer.send(p_data(pdv(1, 0, piece)))
        for peer in peers:
            peer.send(p_data(pdv(1, 2, b"")))
            assert peer.status() == 0
        assert scp._space._left == 8 * mib
        waiting = explicit(0x21, 9, b"UT", b"x" * (2 * mib))[:8] + UNDEFINED + b"x" * (3 * mib // 2)
        damaged = p_data(pdv(1, 3, command())), *(p_data(pdv(1, 0, piece)) for piece in pieces(waiting, 100_000))
        peers[0].send(b"".join(damaged))
        until(lambda: scp._space._left < 8 * mib)
        peers[0].send(b"".join(p_data(pdv(1, 0, piece)) for piece in pieces(b"x" * (3 * mib), 100_000)))
        until(lambda: scp._space._left == 8 * mib)
    assert len(kept.received) == 8


# Time and number


def test_a_message_must_come_at_a_rate(start: Start, kept: Kept) -> None:
    scp = start(Listen(port=0, dimse_timeout_s=0.4, min_bytes_per_s=1e6))
    with associate(scp) as peer:
        peer.send(p_data(pdv(1, 3, command())))
        stop = threading.Event()

        def dribble() -> None:
            while not stop.wait(0.05):
                try:
                    peer.send(p_data(pdv(1, 0, b"ab")))
                except OSError:
                    return

        dribbler = threading.Thread(target=dribble)
        dribbler.start()
        try:
            assert peer.receive()[0] in (0, ABORT)
        finally:
            stop.set()
            dribbler.join()
    until(lambda: kept.ended)
    assert kept.received == []


def test_a_pdu_within_an_association_must_come_within_its_time(start: Start, kept: Kept) -> None:
    with associate(start(Listen(port=0, dimse_timeout_s=0.3))) as peer:
        peer.send(store()[:50])
        assert peer.abort_reason() == (0, 0)
    until(lambda: kept.ended)


def test_a_request_that_dribbles_must_come_within_its_time(start: Start) -> None:
    scp = start(Listen(port=0, acse_timeout_s=0.5, dimse_timeout_s=WAIT_S))
    with Peer(scp.address) as peer:
        peer.socket.settimeout(0.02)
        for byte in associate_rq():
            peer.send(bytes((byte,)))
            with contextlib.suppress(TimeoutError):
                assert peer.socket.recv(1) == b""
                break
        else:
            pytest.fail("the whole request was waited for")


def test_who_does_not_close_after_the_end_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "_GOODBYE_S", 0.2)
    scp = start()
    with associate(scp) as peer:
        release(peer)
        until(lambda: not scp._open)
        assert peer.receive() == (0, b"")


def test_connections_are_kept_alive(start: Start) -> None:
    """A peer whose machine is gone is noticed within two minutes."""
    scp = start()
    with associate(scp):
        (present,) = scp._open
        connection = present.wire._socket
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
        assert [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 15, 4]


def test_a_peer_that_takes_no_answers_is_ended(start: Start, kept: Kept) -> None:
    scp = start(Listen(port=0, dimse_timeout_s=0.5))
    with associate(scp) as peer:
        peer.socket.setblocking(False)
        left = b""

        def ended() -> bool:
            nonlocal left
            try:
                while not kept.ended:
                    left = left or ECHO * 100
                    left = left[peer.socket.send(left) :]
            except OSError:
                pass
            return bool(kept.ended)

        until(ended)
    until(lambda: not scp.associations)


def test_associations_per_peer(start: Start) -> None:
    scp = start(Listen(port=0, max_associations_per_peer=2))
    with associate(scp) as first, associate(scp):
        assert list(scp.senders.values()) == [2]
        with Peer(scp.address, associate_rq()) as refused:
            kind, body = refused.receive()
        assert (kind, *body[1:]) == (REJECTED, 2, 3, 2)
        release(first)
        with associate(scp):
            pass
    until(lambda: not scp.senders)


def test_the_oldest_silent_connection_makes_room(start: Start) -> None:
    scp = start(Listen(port=0, max_waiting_per_peer=3))
    silent = [Peer(scp.address) for _ in range(3)]
    with associate(scp) as peer:
        assert silent[0].receive() == (0, b"")
        peer.send(ECHO)
        assert peer.status() == 0
    for each in silent:
        each.socket.close()


@pytest.mark.parametrize("last", [RELEASE_RQ, pdu(8, b"")], ids=["released", "aborted"])
def test_those_who_do_not_close_after_the_end_make_room_too(start: Start, last: bytes) -> None:
    scp = start(Listen(port=0, max_waiting_per_peer=3))
    with contextlib.ExitStack() as peers:
        for _ in range(20):
            peer = peers.enter_context(associate(scp))
            peer.send(last)
            assert peer.receive()[0] in (RELEASE_RP, ABORT)
            assert sum(not each.wire.is_cut for each in list(scp._open)) <= 3 + 1


def test_an_address_with_many_silent_connections_makes_room_of_its_own(start: Start) -> None:
    scp = start(Listen(port=0, max_waiting=4))
    with contextlib.ExitStack() as peers:
        slow = [peers.enter_context(Peer(scp.address, source=f"127.0.0.{number}")) for number in (2, 3)]
        until(lambda: scp.associations == 2)
        for _ in range(10):
            peers.enter_context(Peer(scp.address, source="127.0.0.4"))
        with Peer(scp.address, associate_rq(), "127.0.0.4") as last:
            assert last.receive()[0] == 2
        for each in slow:
            each.send(associate_rq())
            assert each.receive()[0] == 2


def test_silent_connections_of_all_peers_together(start: Start) -> None:
    scp = start(Listen(port=0, max_waiting=3))
    with contextlib.ExitStack() as sockets:
        silent = [
            sockets.enter_context(socket.create_connection(scp.address, WAIT_S, (f"127.0.0.{number}", 0)))
            for number in range(2, 6)
        ]
        assert silent[0].recv(1) == b""
        with associate(scp) as peer:
            assert silent[1].recv(1) == b""
            peer.send(ECHO)
            assert peer.status() == 0


def test_stop_lets_a_data_set_under_way_finish(start: Start, kept: Kept) -> None:
    scp = start()
    message = store()
    with associate(scp) as peer, associate(scp) as idle:
        idle.send(ECHO)
        assert idle.status() == 0
        until(lambda: all(association.is_idle for association in scp._open))
        peer.send(message[:-100])
        until(lambda: any(not association.is_idle for association in scp._open))
        stopper = threading.Thread(target=scp.stop, args=(WAIT_S,))
        stopper.start()
        assert idle.abort_reason() == (0, 0)
        peer.send(message[-100:] + store("1.2.9"))
        assert peer.status() == 0
        assert peer.receive()[0] in (0, ABORT)
        stopper.join()
    assert [received.sop_instance for received in kept.received] == ["1.2.3.4.5"]
    assert len(kept.ended) == 2


def test_stop_does_not_wait_for_ever_for_a_data_set(start: Start, kept: Kept) -> None:
    scp = start()
    with associate(scp) as peer:
        peer.send(store()[:-100])
        until(lambda: any(not association.is_idle for association in scp._open))
        scp.stop(0.2)
        assert scp.associations == 0
    assert kept.received == []


def test_several_processes_may_share_a_port(start: Start) -> None:
    """The system deals the connections out; that one of two gets none of fifty is as good as impossible."""
    first = start(Listen(port=0, reuse_port=True))
    second = start(Listen(port=first.address[1], reuse_port=True))
    assert first.address == second.address
    with contextlib.ExitStack() as peers:
        for number in range(50):
            peers.enter_context(associate(first))
            assert first.associations + second.associations == number + 1
        assert first.associations and second.associations
