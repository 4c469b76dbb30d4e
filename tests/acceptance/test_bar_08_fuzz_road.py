"""Bar 8: hostile bytes on the whole road: read, extract, store, map to every version and profile, JSON and XML.

Nothing may come of any bytes but resources, or a :class:`~dicom2fhir.errors.BridgeError` that is not a fault of the
bridge.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO, StringIO
from itertools import count
from pathlib import Path
from random import Random

import orjson
import pytest
from rich.console import Console

from dicom2fhir.cli.mapping_tables import explain_tables
from dicom2fhir.dicom.attributes import Attribute, taken
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.study import assemble
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import BridgeError, BridgeFault
from dicom2fhir.fhir.mapping.engine import MappingOptions, trace_study
from dicom2fhir.fhir.profile.trace import trace_profile
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.fhir.version.formats import Format, dump
from dicom2fhir.jobs.conversion import as_resources
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.wiring.translation import Explained
from testdata.make_dicom import CASES, encoded
from tests.acceptance.fuzzing import VALUES, corpus, fuzz, mutated
from tests.any_data_set import SCRIPTS, any_file
from tests.unit.test_any_study import PROFILES, written

pytestmark = pytest.mark.bar(8)

FORMATS: tuple[Format, ...] = ("json", "xml")
IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Those with a length of 32 bits after two reserved bytes (PS3.5 section 7.1.2)."""
UNDEFINED = 0xFFFFFFFF
CHARACTER_SETS = (
    b"", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149", b"\\",
    b"ISO_IR\x00 100", b"ISO 2022 IR 87\\ISO 2022 IR 87", b"ISO-IR 100", b"zlib", b"rot13", b"idna", b"punycode",
    b"undefined", b"utf-16", b"utf-7", b"hex", b"base64", b"raw_unicode_escape", b"unicode_escape", b"mbcs", b"oem",
    b"ISO_IR 192\\ISO 2022 IR 13", b"\xff\xfe", b"ISO_IR 6 \x00", b"\\\\\\\\", b"A" * 70_000, b"ISO_IR 149", b"GBK",
)  # fmt: skip


def hostile(random: Random) -> bytes:
    """A value: bytes of the list, several of them, or any bytes."""
    match random.randrange(4):
        case 0:
            return random.randbytes(random.randrange(20))
        case 1:
            return b"\\".join(random.choices(VALUES, k=random.randint(2, 4)))
        case _:
            return random.choice(VALUES)


class Writer:
    """Writes elements as their makers must not: any bytes, in the right value representation or another.

    Nothing is as pydicom would have it, so pydicom cannot write it.
    """

    def __init__(self, random: Random, syntax: str) -> None:
        self._random = random
        self._implicit = syntax == IMPLICIT
        self._order = ">" if syntax == BIG else "<"

    def element(self, tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
        group, number = divmod(tag, 0x10000)
        length = len(value) if length is None else length
        head = struct.pack(f"{self._order}HH", group, number)
        if self._implicit or group == 0xFFFE:
            return head + struct.pack(f"{self._order}L", length) + value
        if vr in LONG_VRS:
            return head + vr + struct.pack(f"{self._order}HL", 0, length) + value
        return head + vr + struct.pack(f"{self._order}H", min(length, 0xFFFF)) + value[:0xFFFF]

    def attribute(self, attribute: Attribute) -> bytes:
        """One attribute that is wanted; a sequence holds its own attributes, damage, or text."""
        vr = attribute.vr.encode()
        if self._random.random() < 0.05:
            vr = self._random.choice([b"UN", b"LO", b"SQ", b"DS", b"OB", b"??", b"\0\0", b"  "])
        if attribute.vr != "SQ" or self._random.random() < 0.1:
            return self.element(attribute.tag, vr, self._even(hostile(self._random)))
        items = b"".join(self._item(attribute.items) for _ in range(self._random.randint(0, 3)))
        if self._random.random() < 0.5:
            return self.element(attribute.tag, vr, items)
        return self.element(attribute.tag, vr, items + self.element(0xFFFEE0DD, b"", b""), UNDEFINED)

    def _item(self, attributes: tuple[Attribute, ...]) -> bytes:
        chosen = [one for one in attributes if self._random.random() < 0.7]
        content = b"".join(self.attribute(one) for one in sorted(chosen, key=lambda one: one.tag))
        if self._random.random() < 0.5:
            return self.element(0xFFFEE000, b"", content)
        return self.element(0xFFFEE000, b"", content + self.element(0xFFFEE00D, b"", b""), UNDEFINED)

    def _even(self, value: bytes) -> bytes:
        return value + b" " * (len(value) % 2) if self._random.random() < 0.9 else value


@cache
def attributes() -> tuple[Attribute, ...]:
    """Every attribute that is taken, by its tag."""
    found = {one.tag: one for attribute in taken() for one in (attribute, *attribute.instead)}
    return tuple(found[tag] for tag in sorted(found))


SOP_INSTANCE = 0x00080018
UIDS = {
    0x00080016: b"1.2.840.10008.5.1.4.1.1.2\0",
    SOP_INSTANCE: b"1.2.3\0",
    0x0020000D: b"1.2.1\0",
    0x0020000E: b"1.2.2\0",
}


def hostile_file(random: Random) -> bytes:
    """A file with most of what the bridge takes, each value hostile; now and then a UID too."""
    syntax = random.choice([IMPLICIT, EXPLICIT, EXPLICIT, BIG, DEFLATED])
    writer = Writer(random, syntax)
    parts = {0x00080005: writer.element(0x00080005, b"CS", character_set(random))}
    part = random.choice([0.2, 0.5, 0.9])
    for attribute in attributes():
        if attribute.tag in UIDS and random.random() < 0.97:
            value = UIDS[attribute.tag]
            if attribute.tag == SOP_INSTANCE:
                value = random.choice([value, b"1.2.4\0", b"1.2.5\0"])
            parts[attribute.tag] = writer.element(attribute.tag, attribute.vr.encode(), value)
        elif random.random() < part:
            parts[attribute.tag] = writer.attribute(attribute)
    content = b"".join(parts[tag] for tag in sorted(parts))
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = packer.compress(content) + packer.flush()
    meta = b"".join(
        Writer(random, EXPLICIT).element(tag, b"UI", value + b"\0" * (len(value) % 2))
        for tag, value in ((0x00020002, b"1.2.840.10008.5.1.4.1.1.2"), (0x00020010, syntax.encode()))
    )
    head = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + head + meta + content


def character_set(random: Random) -> bytes:
    value = hostile(random) if random.random() < 0.2 else random.choice(CHARACTER_SETS)
    return value + b" " * (len(value) % 2)


@cache
def seeds() -> tuple[bytes, ...]:
    """Small files of every kind that the tests know."""
    return tuple(data for name in CASES for data in encoded(name)[:1] if len(data) < 20_000) + corpus("headers")


def any_bytes(random: Random) -> bytes:
    match random.randrange(10):
        case 0:
            return random.randbytes(random.randrange(2000))
        case 1 | 2:
            return mutated(random.choice(seeds()), random)
        case 3:
            return mutated(any_file(random.choice(sorted(SCRIPTS)), random.randrange(2**32)), random)
        case 4 | 5:
            return mutated(hostile_file(random), random)
        case _:
            return hostile_file(random)


def record_of(data: bytes) -> InstanceRecord | None:
    """What is kept of a file; None when it is refused."""
    try:
        return decode_instance(read_file(BytesIO(data), WANTED).received(Origin("file")))
    except BridgeError as error:
        blameless(error)
        return None


def blameless(error: BridgeError) -> None:
    assert not isinstance(error, BridgeFault), "an unexpected exception"
    assert str(error)


def write(mapped: Mapped, version: str) -> None:
    for resource in (*as_resources(mapped), standalone(mapped)):
        for format_ in FORMATS:
            try:
                dump(resource, version, format_).decode("utf-8")
            except BridgeError as error:
                blameless(error)


def explain(study: Study, dialect: Dialect) -> None:
    """What ``dicom2fhir explain`` does with a study."""
    try:
        mapped, traces = trace_study(study, dialect, MappingOptions())
    except BridgeError as error:
        blameless(error)
        return
    for profile in PROFILES:
        if dialect.name in profile.versions:
            traces += trace_profile(profile, mapped, study, dialect.name)
    orjson.dumps(Explained(mapped, traces, None).document())
    Console(file=StringIO(), width=80).print(explain_tables(mapped, traces))


def test_any_bytes_are_read_or_refused(seed: int, scale: Callable[[float, float], float], history: Path) -> None:
    fuzz(record_of_any, any_bytes, "headers", seed=seed, seconds=scale(8.0, 60.0), history=history)


def record_of_any(data: bytes) -> None:
    record_of(data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    kept = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    yield kept
    kept.close()


def test_any_bytes_become_resources_or_are_refused(
    store: SqliteStore, seed: int, scale: Callable[[float, float], float], history: Path
) -> None:
    numbers = count(1)

    def play(data: bytes) -> None:
        map_everywhere(store, f"1.2.840.1.{next(numbers)}", data)

    # some files become one study, which is written in a hundred ways
    fuzz(play, any_bytes, "headers", seed=seed, seconds=scale(8.0, 60.0), history=history, loops=400)


def map_everywhere(store: SqliteStore, uid: str, data: bytes) -> None:
    """Have a file and some others become a study of their own, and write that in every way."""
    random = Random(data)
    files = [data, *(any_bytes(random) for _ in range(random.randrange(3)))]
    records = [replace(record, study_uid=uid) for file in files if (record := record_of(file)) is not None]
    for record in records:
        store.add(record, Origin("file"))
    study = store.study(uid)
    assert (study is None) == (not records)
    if study is not None:
        last = {(record.series_uid, record.sop_uid): record for record in records}
        assert study.series == assemble(uid, 1, last.values()).series
        for version, mapped in written(study):
            write(mapped, version)
        explain(study, random.choice(list(DIALECTS.values())))


def test_the_hostile_files_are_mostly_read() -> None:
    """Files that are refused at the door would test nothing behind it."""
    random = Random(0)
    read = [record_of(hostile_file(random)) for _ in range(100)]
    assert sum(record is not None for record in read) > 50
    levels = [level for record in read if record for level in (record.patient, record.study, record.series)]
    seen = {keyword for level in levels for keyword in level}
    assert len(seen) > 60
