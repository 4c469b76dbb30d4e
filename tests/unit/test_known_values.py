"""Decoding with what earlier instances left gives the same records as decoding each by itself."""

from __future__ import annotations

from io import BytesIO
from typing import cast

import pytest

from dicom2fhir.dicom.decode import DecodedCache, decode_instance
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import BridgeError
from dicom2fhir.ingest import Ingest
from dicom2fhir.model import InstanceRecord, Origin, Received
from dicom2fhir.store.base import Store
from testdata.make_dicom import CASES, ct_instances, encoded
from tests.held import held_bytes

STUDY_COMMENTS = 0x00324000


def read(data: bytes, cache: DecodedCache | None) -> InstanceRecord:
    file = read_file(BytesIO(data), WANTED)
    received = file.received(Origin("file"))
    return decode_instance(received, cache)


def outcome(data: bytes, cache: DecodedCache | None) -> InstanceRecord | str:
    try:
        return read(data, cache)
    except BridgeError as error:
        return str(error)


def test_every_generated_file_gives_the_same_record() -> None:
    cache = DecodedCache()
    for _ in range(2):  # the second time everything is cache, notes too
        for name in CASES:
            for data in encoded(name):
                assert outcome(data, cache) == outcome(data, None), name


def test_the_instances_of_a_series_share_what_they_have_in_common() -> None:
    cache = DecodedCache()
    first, second, other = (read(made.file, cache) for made in ct_instances(3, slices=2))
    assert first.series is second.series and first.study is second.study and first.patient is second.patient
    assert other.study is first.study and other.series != first.series


def test_the_same_bytes_in_another_character_set_are_other_values() -> None:
    latin = next(iter(ct_instances(1))).file
    name = b"Synthetic^Testa^Maria^Dr."
    strange = latin.replace(name, name.replace(b"Testa", b"T\xe9sta"))
    cache = DecodedCache()
    texts = set()
    for character_set in (b"ISO_IR 100", b"ISO_IR 144"):
        element = b"\x08\x00\x05\x00CS\x0a\x00" + character_set
        at = strange.index(b"\x08\x00\x16\x00UI")
        texts.add(read(strange[:at] + element + strange[at:], cache).patient["PatientName"])
    assert len(texts) == 2


@pytest.mark.parametrize("length", [100, 300_000])
def test_what_is_known_is_bounded(length: int) -> None:
    made = next(iter(ct_instances(1)))
    file = read_file(BytesIO(made.file), WANTED)
    cache = DecodedCache()
    held = []
    for number in range(1500):
        taken = {**file.taken, STUDY_COMMENTS: b"%d " % number + b"x" * length}
        record = decode_instance(Received(taken, file.transfer_syntax, Origin("file")), cache)
        assert str(record.study["StudyComments"]).startswith(f"{number} ")
        held.append(held_bytes(cache) if number % 50 == 0 else 0)
    assert max(held) < 2_000_000


class Records:
    """Stands in for a store."""

    def __init__(self) -> None:
        self.records: list[InstanceRecord] = []

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        self.records.append(record)


def test_the_records_that_one_reader_makes_share_too() -> None:
    store = Records()
    ingest, reader = Ingest(cast("Store", store)), InstanceReader()
    for made in ct_instances(2):
        ingest.receive(reader.read_file(BytesIO(made.file)).received(Origin("file")), reader)
    first, second = store.records
    assert first.series is second.series and first.study is second.study and first.patient is second.patient
