"""Decoding with what earlier instances left gives the same records as decoding each by itself."""

from __future__ import annotations

from io import BytesIO

from dicom2fhir.dicom.attributes import WANTED
from dicom2fhir.dicom.extract import Known, extract
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.errors import BridgeError
from dicom2fhir.model import InstanceRecord, Origin, Received
from testdata.make_dicom import CASES, ct_instances, encoded


def read(data: bytes, known: Known | None) -> InstanceRecord:
    file = read_file(BytesIO(data), WANTED)
    received = Received(file.taken, file.transfer_syntax, Origin("file"), file.sop_class, file.sop_instance)
    return extract(received, known)


def outcome(data: bytes, known: Known | None) -> InstanceRecord | str:
    try:
        return read(data, known)
    except BridgeError as error:
        return str(error)


def test_every_generated_file_gives_the_same_record() -> None:
    known = Known()
    for _ in range(2):  # the second time everything is known, notes too
        for name in CASES:
            for data in encoded(name):
                assert outcome(data, known) == outcome(data, None), name


def test_the_instances_of_a_series_share_what_they_have_in_common() -> None:
    known = Known()
    first, second, other = (read(made.file, known) for made in ct_instances(3, slices=2))
    assert first.series is second.series and first.study is second.study and first.patient is second.patient
    assert other.study is first.study and other.series != first.series


def test_the_same_bytes_in_another_character_set_are_other_values() -> None:
    latin = next(iter(ct_instances(1))).file
    name = b"Synthetic^Testa^Maria^Dr."
    strange = latin.replace(name, name.replace(b"Testa", b"T\xe9sta"))
    known = Known()
    texts = set()
    for character_set in (b"ISO_IR 100", b"ISO_IR 144"):
        element = b"\x08\x00\x05\x00CS\x0a\x00" + character_set
        at = strange.index(b"\x08\x00\x16\x00UI")
        texts.add(read(strange[:at] + element + strange[at:], known).patient["PatientName"])
    assert len(texts) == 2
