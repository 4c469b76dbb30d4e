"""A C-STORE service class user that costs little (PS3.7 section 9.1.1, PS3.8 section 9.3): ``python -m bench.sender``.

What it sends is encoded before its clock starts, as far as that is possible. As a program it sends generated CT slices
over several associations at once and prints what it found as JSON.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from itertools import islice
from types import TracebackType
from typing import Self

import orjson

from testdata.make_dicom import EncodedInstance, ct_instances

_TIMEOUT_S = 120.0
_SUCCESS = struct.pack("<HHLH", 0, 0x0900, 2, 0)
"""The Status (0000,0900) with its length of 2, and 0000 for Success."""
_LONGEST_PDU_BYTES = 128 * 1024
_PDV_BYTES = 6


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def _associate_rq(instance: EncodedInstance, called: str) -> bytes:
    syntaxes = _item(0x30, instance.sop_class.encode()) + _item(0x40, instance.transfer_syntax.encode())
    context = _item(0x20, b"\x01\0\0\0" + syntaxes)
    user = _item(0x50, _item(0x51, struct.pack(">L", 1 << 17)) + _item(0x52, b"2.25.1"))
    titles = called.encode().ljust(16) + b"BENCH".ljust(16)
    return _pdu(1, b"\0\x01\0\0" + titles + bytes(32) + _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user)


def _command(instance: EncodedInstance, message_id: int) -> bytes:
    command = b"".join(
        (
            _element(0x0002, instance.sop_class.encode()),
            _element(0x0100, struct.pack("<H", 0x0001)),
            _element(0x0110, struct.pack("<H", message_id & 0xFFFF)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 1)),
            _element(0x1000, instance.sop_instance.encode()),
        )
    )
    return _element(0x0000, struct.pack("<L", len(command))) + command


def p_data(control: int, data: bytes) -> bytes:
    """A P-DATA-TF with one presentation data value; ``control`` is its message control header (PS3.8 section E.2)."""
    return _pdu(4, struct.pack(">LBB", len(data) + 2, 1, control) + data)


class Sender:
    """One association; as a context manager it is released at the end.

    Raises
    ------
    ConnectionError
        The association was not accepted.
    """

    def __init__(self, port: int, called: str, like: EncodedInstance) -> None:
        self._message_id = 0
        self._pixels: dict[bytes, bytes] = {}
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        try:
            self._chunk_bytes = self._associate(_associate_rq(like, called))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._socket.sendall(_pdu(5, bytes(4)))
                self._read_pdu()
        finally:
            self._socket.close()

    def _associate(self, request: bytes) -> int:
        """Ask for the association; the bytes of a data set that go into one PDU."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        kind, body = self._read_pdu()
        if kind != 2:
            raise ConnectionError("the association was not accepted")
        at = body.index(b"\x51\0\0\x04") + 4
        longest = int.from_bytes(body[at : at + 4], "big") or _LONGEST_PDU_BYTES
        return min(longest, _LONGEST_PDU_BYTES) - _PDV_BYTES

    def begin(self, instance: EncodedInstance) -> bytes:
        """The PDUs of an instance up to its Pixel Data."""
        self._message_id += 1
        return p_data(3, _command(instance, self._message_id)) + p_data(0, instance.header)

    def pixels(self, instance: EncodedInstance) -> bytes:
        """The PDUs with its Pixel Data; instances with the same pixels share them."""
        pixels, chunk = instance.pixels, self._chunk_bytes
        if pixels not in self._pixels:
            last = (len(pixels) - 1) // chunk * chunk
            parts = (p_data(2 if at == last else 0, pixels[at : at + chunk]) for at in range(0, len(pixels), chunk))
            self._pixels = {pixels: b"".join(parts)}
        return self._pixels[pixels]

    def write(self, data: bytes) -> None:
        """Send PDUs."""
        self._socket.sendall(data)

    def store(self, instance: EncodedInstance) -> None:
        """Send an instance and wait for its answer.

        Raises
        ------
        ConnectionError
            It was not taken.
        """
        begin, pixels = self.begin(instance), self.pixels(instance)
        if len(pixels) < _LONGEST_PDU_BYTES:
            self.write(begin + pixels)
        else:
            self.write(begin)
            self.write(pixels)
        self.finish()

    def finish(self) -> None:
        """Read the answer to the instance that was sent.

        Raises
        ------
        ConnectionError
            It is not Success.
        """
        if _SUCCESS not in self._read_pdu()[1]:
            raise ConnectionError("an instance was not taken")

    def _read_pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self._read(6))
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the receiver closed the connection")
            data += more
        return data


def send(port: int, called: str, instances: Sequence[EncodedInstance], associations: int) -> tuple[float, list[float]]:
    """Send instances over several associations at once: the seconds that took, and those for each instance.

    Raises
    ------
    ConnectionError
        Something was not accepted.
    """
    took: list[float] = []
    errors: list[Exception] = []
    ready = threading.Barrier(associations + 1)

    def work(share: Sequence[EncodedInstance]) -> None:
        try:
            with Sender(port, called, share[0]) as sender:
                sender.pixels(share[0])
                ready.wait(_TIMEOUT_S)
                for instance in share:
                    started = time.perf_counter()
                    sender.store(instance)
                    took.append(time.perf_counter() - started)
        except Exception as error:  # told to who waits
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(instances[n::associations],)) for n in range(associations)]
    for thread in threads:
        thread.start()
    try:
        ready.wait(_TIMEOUT_S)
    except threading.BrokenBarrierError:
        raise ConnectionError(str(errors)) from None
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    if errors:
        raise ConnectionError(str(errors))
    return time.perf_counter() - started, took


def main() -> None:
    """Send, and print instances per second and milliseconds."""
    parser = argparse.ArgumentParser(description="Send generated CT slices.")
    parser.add_argument("port", type=int)
    parser.add_argument("--called", default="DICOM2FHIR")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first one: other numbers are other instances"
    )
    parser.add_argument("--side", type=int, default=64, help="rows and columns, two bytes each")
    parser.add_argument("--associations", type=int, default=1)
    chosen = parser.parse_args()
    total = chosen.first + chosen.count
    instances = list(islice(ct_instances(total, studies=-(-total // 500), side=chosen.side), chosen.first, None))
    seconds, took = send(chosen.port, chosen.called, instances, chosen.associations)
    took.sort()
    found = {
        "per_s": chosen.count / seconds,
        "mb_per_s": sum(len(each.header) + len(each.pixels) for each in instances) / seconds / 1e6,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
    }
    sys.stdout.buffer.write(orjson.dumps(found))


if __name__ == "__main__":
    main()
