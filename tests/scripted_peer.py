"""A peer that plays bytes to a receiver, and what it plays."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse.scp import StorageSCP

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
WAIT_S = 30.0

REJECTED, DATA, RELEASE_RP, ABORT = 3, 4, 6, 7
UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 1, 2, 5, 6


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def p_data(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


def context(number: int, abstract: str, *syntaxes: str) -> bytes:
    inner = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, bytes((number, 0, 0, 0)) + inner)


def associate_rq(
    *extra: bytes,
    contexts: bytes = b"",
    called: str = "DICOM2FHIR",
    calling: str = "SCRIPT",
    version: int = 1,
    application: str = "1.2.840.10008.3.1.1.1",
    max_length: int = 16384,
) -> bytes:
    contexts = contexts or context(1, CT, EXPLICIT_LE) + context(3, VERIFICATION, IMPLICIT_LE)
    user = item(0x50, item(0x51, struct.pack(">L", max_length)) + item(0x52, b"2.25.1") + b"".join(extra))
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    head = struct.pack(">HH", version, 0) + titles + bytes(32)
    return pdu(1, head + item(0x10, application.encode()) + contexts + user)


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def command(
    uid: str = "1.2.3.4.5",
    field_: int = 0x0001,
    message_id: int = 1,
    data_set: int = 1,
    more: bytes = b"",
    sop: str = CT,
) -> bytes:
    body = element(0x0002, sop.encode()) + element(0x0100, struct.pack("<H", field_))
    body += element(0x0110, struct.pack("<H", message_id)) + element(0x0700, b"\2\0")
    body += element(0x0800, struct.pack("<H", data_set)) + element(0x1000, uid.encode()) + more
    return element(0x0000, struct.pack("<L", len(body))) + body


ECHO = p_data(pdv(3, 3, command(field_=0x0030, data_set=0x0101, sop=VERIFICATION)))
RELEASE_RQ = pdu(5, bytes(4))


def explicit(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    if vr in (b"OW", b"OB", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def data_set(uid: str = "1.2.3.4.5") -> bytes:
    return (
        explicit(8, 0x16, b"UI", CT.encode())
        + explicit(8, 0x18, b"UI", uid.encode())
        + explicit(0x20, 0x0D, b"UI", b"1.2.3")
        + explicit(0x20, 0x0E, b"UI", b"1.2.3.4")
    )


PIXELS = explicit(0x7FE0, 0x10, b"OW", bytes(range(256)) * 8)


def store(uid: str = "1.2.3.4.5", message_id: int = 1) -> bytes:
    return p_data(pdv(1, 3, command(uid, message_id=message_id))) + p_data(pdv(1, 2, data_set(uid) + PIXELS))


class Peer:
    """Sends what it is told, and reads PDUs.

    Parameters
    ----------
    source
        The address to connect from; the system's choice where it is empty.
    tls
        To speak TLS with.
    """

    def __init__(
        self,
        address: tuple[str, int],
        request: bytes | None = None,
        source: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.create_connection(address, WAIT_S, (source, 0) if source else None)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            if request is not None:
                self.send(request)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """The next PDU; (0, b"") when the connection is closed."""
        head = self._exactly(6)
        if not head:
            return 0, b""
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            data += more
        return data

    def response(self) -> dict[int, bytes]:
        """The elements of the next command set, put together of its fragments."""
        found = b""
        while True:
            kind, body = self.receive()
            assert kind == DATA, (kind, body)
            assert int.from_bytes(body[:4], "big") == len(body) - 4
            found += body[6:]
            if body[5] & 2:
                break
        values, at = {}, 0
        while at < len(found):
            _, number, length = struct.unpack_from("<HHL", found, at)
            values[number] = found[at + 8 : at + 8 + length]
            at += 8 + length
        return values

    def status(self) -> int:
        return int.from_bytes(self.response()[0x0900], "little")

    def abort_reason(self) -> tuple[int, int]:
        """Source and reason of the A-ABORT that comes next."""
        kind, body = self.receive()
        assert kind == ABORT, (kind, body)
        return body[2], body[3]


@dataclass
class Kept:
    """What the receiver hands on."""

    received: list[Received] = field(default_factory=list)
    created: list[Received] = field(default_factory=list)
    updated: list[Received] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None

    def on_received(self, received: Received, _reader: InstanceReader) -> None:
        self.entered.set()
        if self.hold is not None:
            assert self.hold.wait(WAIT_S)
        self.received.append(received)

    def on_rejected(self, _origin: Origin, error: BridgeError) -> None:
        self.rejected.append(str(error))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def associate(scp: StorageSCP, request: bytes | None = None) -> Peer:
    peer = Peer(scp.address, request or associate_rq())
    assert peer.receive()[0] == 2
    return peer


def release(peer: Peer) -> None:
    peer.send(RELEASE_RQ)
    assert peer.receive()[0] == RELEASE_RP
