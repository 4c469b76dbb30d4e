"""Malformed and odd data sets in Explicit VR Little Endian, made of bytes: pydicom would put most of them right."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.scripted_peer import CT, EXPLICIT_LE, PIXELS, explicit

STUDY, SERIES, INSTANCE = "1.2.826.0.1.9.1", "1.2.826.0.1.9.2", "1.2.826.0.1.9.3"
Element = tuple[int, int]
GOOD: Mapping[Element, bytes] = {
    (0x0008, 0x0016): explicit(0x0008, 0x0016, b"UI", CT.encode()),
    (0x0008, 0x0018): explicit(0x0008, 0x0018, b"UI", INSTANCE.encode()),
    (0x0008, 0x0060): explicit(0x0008, 0x0060, b"CS", b"CT"),
    (0x0010, 0x0010): explicit(0x0010, 0x0010, b"PN", b"Odd^File"),
    (0x0020, 0x000D): explicit(0x0020, 0x000D, b"UI", STUDY.encode()),
    (0x0020, 0x000E): explicit(0x0020, 0x000E, b"UI", SERIES.encode()),
}
UNDEFINED = b"\xff\xff\xff\xff"
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)


def data_set(changes: Mapping[Element, bytes] | None = None, end: bytes = PIXELS) -> bytes:
    """The good one with other bytes for some elements, and what comes after them."""
    elements = {**GOOD, **(changes or {})}
    return b"".join(elements[tag] for tag in sorted(elements)) + end


def uid(group: int, number: int, value: bytes) -> dict[Element, bytes]:
    return {(group, number): explicit(group, number, b"UI", value)}


def sequence(group: int, number: int, content: bytes, length: bytes = UNDEFINED, vr: bytes = b"SQ") -> bytes:
    return struct.pack("<HH", group, number) + vr + b"\0\0" + length + content


CODE = explicit(0x0008, 0x0100, b"SH", b"CODE")
FILES: Mapping[str, bytes] = {
    "as it should be": data_set(),
    "nothing": b"",
    "no pixel data": data_set(end=b""),
    "text instead of elements": b"This is text and no data set, however long one looks at it. " * 4,
    "zeros instead of elements": bytes(512),
    "cut within the last UID": data_set(end=b"")[:-3],
    "cut within pixel data": data_set()[:-100],
    "a length beyond the end": data_set(end=b"\x10\x40\x01\x00UT\0\0\xff\xff\xff\x7fx"),
    "no study UID": data_set({(0x0020, 0x000D): b""}),
    "an empty series UID": data_set(uid(0x0020, 0x000E, b"")),
    "no SOP instance UID": data_set({(0x0008, 0x0018): b""}),
    "a study UID of letters": data_set(uid(0x0020, 0x000D, b"study-1")),
    "a study UID of 65 characters": data_set(uid(0x0020, 0x000D, b"1." + b"2" * 63)),
    "two study UIDs in one value": data_set(uid(0x0020, 0x000D, b"1.2.3\\1.2.4")),
    "a study UID with spaces around": data_set(uid(0x0020, 0x000D, b" 1.2.826.0.1.9.1 ")),
    "a study UID with a leading zero": data_set(uid(0x0020, 0x000D, b"1.2.826.0.1.09.4")),
    "another SOP instance UID than announced": data_set(uid(0x0008, 0x0018, b"1.2.826.0.1.9.9")),
    "another SOP class than announced": data_set(uid(0x0008, 0x0016, b"1.2.840.10008.5.1.4.1.1.4")),
    "no SOP class": data_set({(0x0008, 0x0016): b""}),
    "elements out of order": data_set(end=b"") + explicit(0x0008, 0x0070, b"LO", b"late") + PIXELS,
    "an element twice": data_set({(0x0008, 0x0060): GOOD[0x0008, 0x0060] * 2}),
    "a value of odd length": data_set({(0x0008, 0x0070): b"\x08\0\x70\0LO\x03\0abc"}),
    "a value representation that is none": data_set({(0x0008, 0x0070): b"\x08\0\x70\0??\x04\0abcd"}),
    "group length elements": data_set({(0x0008, 0x0000): b"\x08\0\0\0UL\x04\0\x63\0\0\0"}),
    "trailing padding": data_set(end=PIXELS + sequence(0xFFFC, 0xFFFC, bytes(16), b"\x10\0\0\0", b"OB")),
    "garbage after pixel data": data_set(end=PIXELS + b"\xde\xad\xbe\xef" * 5),
    "a sequence as UN": data_set(
        {(0x0008, 0x1032): sequence(0x0008, 0x1032, ITEM + UNDEFINED + CODE + ITEM_END + SEQUENCE_END, vr=b"UN")}
    ),
    "a sequence without its end": data_set(
        end=sequence(0x0040, 0x0275, ITEM + UNDEFINED + explicit(0x0040, 0x1001, b"SH", b"RP"))
    ),
    "an item longer than its sequence": data_set(
        {(0x0008, 0x1032): sequence(0x0008, 0x1032, ITEM + b"\xff\0\0\0" + CODE, struct.pack("<L", 8 + len(CODE)))}
    ),
    "an item outside a sequence": data_set(end=ITEM + b"\x0c\0\0\0" + CODE + PIXELS),
    "sequences within sequences, 100 deep": data_set(
        {(0x0040, 0x0275): sequence(0x0040, 0x0275, (ITEM + UNDEFINED + sequence(0x0040, 0x0275, b"")) * 100)}
    ),
    "a name of 5,000 characters": data_set({(0x0010, 0x0010): explicit(0x0010, 0x0010, b"PN", b"N" * 5000)}),
    "a birth date that no calendar has": data_set({(0x0010, 0x0030): explicit(0x0010, 0x0030, b"DA", b"20230231")}),
    "a character set that nobody knows": data_set({(0x0008, 0x0005): explicit(0x0008, 0x0005, b"CS", b"KLINGON")}),
    "bytes that are not of the character set": data_set(
        {
            (0x0008, 0x0005): explicit(0x0008, 0x0005, b"CS", b"ISO_IR 192"),
            (0x0010, 0x0010): explicit(0x0010, 0x0010, b"PN", b"M\xfcller"),
        }
    ),
    "control characters in a name": data_set({(0x0010, 0x0010): explicit(0x0010, 0x0010, b"PN", b"A\x00\x1b[2J\r\nB")}),
    "a modality of two values": data_set({(0x0008, 0x0060): explicit(0x0008, 0x0060, b"CS", b"CT\\MR")}),
    "private elements without creator": data_set({(0x0009, 0x1001): explicit(0x0009, 0x1001, b"LO", b"private")}),
    "an element of the command group": explicit(0x0000, 0x0002, b"UI", CT.encode()) + data_set(),
    "file meta information within": explicit(0x0002, 0x0010, b"UI", EXPLICIT_LE.encode()) + data_set(),
}


def as_file(content: bytes) -> bytes:
    """A file with that data set, by its announced SOP class and instance."""
    meta = explicit(0x0002, 0x0002, b"UI", CT.encode()) + explicit(0x0002, 0x0003, b"UI", INSTANCE.encode())
    meta += explicit(0x0002, 0x0010, b"UI", EXPLICIT_LE.encode())
    return bytes(128) + b"DICM" + explicit(0x0002, 0x0000, b"UL", struct.pack("<L", len(meta))) + meta + content
