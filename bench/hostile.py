"""Measure what headers cost that are made to cost much: ``python -m bench.hostile``.

Each is read and decoded as the receiver does it, in pieces as they come over the network, on one core. The time is that
of the processor; memory is what Python allocates at most, measured in another run.
"""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from itertools import chain
from statistics import median

from bench.report import Goal, Result, Row, options, progress, show, use_one_core
from dicom2fhir.dicom.data_elements import (
    DEFAULT_BUDGETS,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    LONG_VRS,
    Budgets,
)
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Origin, Received
from dicom2fhir.sop_classes import COMPREHENSIVE_3D_SR

MIB = 1024 * 1024
_ASKED_S, _ASKED_MIB = 0.25, 64.0
_PIECE_BYTES = 16 * 1024
_UNDEFINED = 0xFFFFFFFF
_PRIVATE, _STUDY_ID, _CODE_VALUE, _OTHER_IDS = 0x00091010, 0x00200010, 0x00080100, 0x00101002
_CONTENT, _CONCEPT_NAME, _GRAPHIC_DATA = 0x0040A730, 0x0040A043, 0x00700022
_CODES, _REQUESTS, _REASONS, _SHARED, _ANATOMY = 0x00081032, 0x00400275, 0x0040100A, 0x52009229, 0x00209071
_END_OF_ITEM = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian, with a length of one's own choice."""
    length = len(value) if length is None else length
    tail = struct.pack("<HL", 0, length) if vr in LONG_VRS else struct.pack("<H", length)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + tail + value


def opened(tag: int, items: bytes) -> bytes:
    """A sequence of undefined length."""
    return element(tag, b"SQ", items + _END_OF_SEQUENCE, _UNDEFINED)


def item(value: bytes) -> bytes:
    """An item of known length."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value


def opened_item(value: bytes) -> bytes:
    """An item of undefined length."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED) + value + _END_OF_ITEM


def deflated(start: bytes, piece: bytes, count: int) -> bytes:
    """A start and a piece many times over, deflated; the piece is compressed once, into blocks that stand alone."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head, blocks = (deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH) for data in (start, piece))
    return head + blocks * count + deflater.flush()


def nested(tag: int, levels: int) -> bytes:
    """Sequences within sequences, an item in each."""
    start = element(tag, b"SQ", b"", _UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED)
    return start * levels + (_END_OF_ITEM + _END_OF_SEQUENCE) * levels


def headers(elements: int, depth: int = DEFAULT_BUDGETS.depth) -> Iterator[tuple[str, str, bytes]]:
    """What it is, its transfer syntax, and a data set; as many elements as are walked over, and some more.

    Parameters
    ----------
    elements, depth
        The budgets that are to be spent.
    """
    explicit, implicit, deflate = (
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )
    many = elements + 10
    code = element(_CODE_VALUE, b"SH", b"1 ")
    foreign = element(0x00080005, b"CS", b"rot13") + element(0x00080104, b"LO", b"\xc3\xa4\\")
    yield "elements without value", explicit, element(_PRIVATE, b"LO", b"") * many
    yield "elements without value, implicit VR", implicit, struct.pack("<HHL", 9, 0x1010, 0) * many
    yield "values that are wanted", explicit, element(_STUDY_ID, b"SH", b"7 ") * many
    yield "elements of 32-bit length", explicit, element(_PRIVATE, b"UN", b"") * many
    yield "zeros", explicit, bytes(8 * many)
    yield "elements of file meta information", explicit, element(0x00020010, b"UI", b"") * many
    unknown = b"".join(struct.pack("<HH2sH", 9 + 2 * (n >> 16), n & 0xFFFF, b"??", 0) for n in range(many))
    yield "elements of unknown VR", explicit, element(0x00080005, b"CS", b"") + unknown
    yield "delimiters too many", explicit, _END_OF_ITEM * many
    yield "empty sequences", explicit, opened(_PRIVATE, b"") * many
    yield "empty items", explicit, opened(_PRIVATE, opened_item(b"") * many)
    yield "empty items that are wanted", explicit, opened(_CODES, opened_item(b"") * many)
    yield "one code for each sequence", explicit, element(_CODES, b"SQ", item(code)) * many
    yield "one code for each item", explicit, opened(_REQUESTS, opened_item(opened(_REASONS, opened_item(code))) * many)
    yield "a million codes", explicit, element(_REQUESTS, b"SQ", item(element(_REASONS, b"SQ", item(code) * 999)) * 999)
    for what, values, cost in (("codes", code, 14.3), ("codes of unknown character sets", foreign, 20)):
        codes = item(element(_REASONS, b"SQ", item(values) * 500))
        yield f"as many {what} as are decoded", explicit, element(_REQUESTS, b"SQ", codes * int(elements / cost / 500))
    yield "frame anatomies", explicit, opened(_SHARED, opened_item(opened(_ANATOMY, b"")) * many)
    yield "sequences of text", explicit, element(_CODES, b"SQ", b"CT HEAD ") * many
    yield "items of text", explicit, opened(_CODES, item(b"CT HEAD ") * many)
    yield "unknown sequences", explicit, element(_CODES, b"UN", item(b"CT HEAD OR SO...")) * many
    yield "text of undefined length", explicit, element(_PRIVATE, b"UT", b"text" + _END_OF_SEQUENCE, _UNDEFINED) * many
    yield "text without end", explicit, element(_PRIVATE, b"UT", bytes(8 * many), _UNDEFINED)
    yield "deep sequences", explicit, nested(_PRIVATE, depth) * (many // depth)
    yield "deep sequences that are wanted", explicit, nested(_REQUESTS, depth) * (many // depth)
    yield "sequences too deep", explicit, nested(_PRIVATE, many)
    other_id = item(element(0x00100020, b"UT", b"\xff\1" * (MIB // 2)))
    yield "1 MiB for each Patient ID", explicit, element(_OTHER_IDS, b"SQ", other_id * 8)
    for what, term, text in (
        ("escape sequences", b"\\ISO 2022 IR 149", b"\x1b$)C\xb0" * 48),
        ("bytes of no character", b"GB18030 ", b"\xff\x81" * 120),
    ):
        ids = item(element(0x00100020, b"LO", text)) * min(elements // 50, 1000)
        yield f"texts of {what}", explicit, element(0x00080005, b"CS", term) + element(_OTHER_IDS, b"SQ", ids)
    yield "a private value of 60 MiB", explicit, element(_PRIVATE, b"OB", bytes(60 * MIB))
    yield "1 GiB of deflated zeros", deflate, deflated(b"", bytes(MIB), 1024)
    value = element(_PRIVATE, b"OB", b"", 1024 * MIB)
    yield "a deflated value of 1 GiB", deflate, deflated(value, bytes(MIB), 1024)


def reports(elements: int) -> Iterator[tuple[str, str, bytes]]:
    """The same of measurement reports; other than :func:`headers`, they are instances, whose content is decoded."""
    code = element(_CODE_VALUE, b"SH", b"1 ")
    name = element(_CONCEPT_NAME, b"SQ", item(code))
    group = opened_item(name + opened(_CONTENT, item(name)))
    yield "measurements", EXPLICIT_VR_LITTLE_ENDIAN, _report(group * elements)
    outline = opened_item(element(_GRAPHIC_DATA, b"FL", struct.pack("<500f", *(number / 7 for number in range(500)))))
    yield "coordinates of measurements", EXPLICIT_VR_LITTLE_ENDIAN, _report(outline * (elements // 1500))


def _report(items: bytes) -> bytes:
    uids = {0x00080016: COMPREHENSIVE_3D_SR, 0x00080018: "1.2", 0x0020000D: "1.2", 0x0020000E: "1.2"}
    own = b"".join(element(tag, b"UI", uid.encode() + b"\0") for tag, uid in uids.items())
    return own + element(_CONCEPT_NAME, b"SQ", item(element(_CODE_VALUE, b"SH", b"126000"))) + opened(_CONTENT, items)


def take(transfer_syntax: str, data: bytes, budgets: Budgets = DEFAULT_BUDGETS) -> None:
    """Read a data set as it comes over the network, and decode it."""
    reader = HeaderReader(transfer_syntax, WANTED, budgets)
    whole = memoryview(data)
    for start in range(0, len(data), _PIECE_BYTES):
        reader.write(whole[start : start + _PIECE_BYTES])
        if reader.is_complete:
            break
    with contextlib.suppress(CannotUnderstand):
        decode_instance(Received(reader.end(), transfer_syntax, Origin("dimse")))


def processor_s(transfer_syntax: str, data: bytes, budgets: Budgets = DEFAULT_BUDGETS) -> float:
    """Processor time of :func:`take`."""
    started = time.thread_time()
    take(transfer_syntax, data, budgets)
    return time.thread_time() - started


def peak_bytes(transfer_syntax: str, data: bytes, budgets: Budgets = DEFAULT_BUDGETS) -> int:
    """What :func:`take` allocates at most."""
    tracemalloc.start()
    try:
        take(transfer_syntax, data, budgets)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(budgets: Budgets, rounds: int) -> Result:
    """Read every header several times."""
    rows: list[Row] = []
    with progress(1, "reading") as advance:
        every = chain(headers(budgets.elements, budgets.depth), reports(budgets.elements))
        for what, syntax, data in every:
            seconds = median(processor_s(syntax, data, budgets) for _ in range(rounds))
            peak = peak_bytes(syntax, data, budgets) / MIB
            rows.append({"header": what, "MiB sent": len(data) / MIB, "processor s": seconds, "peak MiB": peak})
        advance()
    slowest = max(float(row["processor s"]) for row in rows)
    largest = max(float(row["peak MiB"]) for row in rows)
    goals = [
        Goal("processor time of the slowest, s", slowest, f"<= {_ASKED_S:g}", slowest <= _ASKED_S),
        Goal("memory of the largest, MiB", largest, f"<= {_ASKED_MIB:g}", largest <= _ASKED_MIB),
    ]
    remarks = [f"up to {budgets.elements:,} elements, median of {rounds} rounds; memory by tracemalloc"]
    return Result("Hostile headers", rows, goals, remarks)


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    use_one_core()
    budgets = Budgets(elements=3000) if chosen.quick else DEFAULT_BUDGETS
    show(measure(budgets, 1 if chosen.quick else chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
