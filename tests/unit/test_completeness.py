"""Whether a file holds all of its data set, told by seeks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence

from dicom2fhir.dicom.attributes import UIDS
from dicom2fhir.dicom.completeness import Completeness, completeness, noted
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import CannotUnderstand, NotDicom
from dicom2fhir.model import Note

DELIMITER = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def data_set(transfer_syntax: str = uid.ExplicitVRLittleEndian) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = uid.CTImageStorage
    ds.SOPInstanceUID = "1.2.3.4"
    ds.StudyInstanceUID = "1.2.3"
    ds.SeriesInstanceUID = "1.2.3.1"
    ds.PatientName = "Canary^Yellow"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax)
    return ds


def encoded(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def native(transfer_syntax: str = uid.ExplicitVRLittleEndian) -> Dataset:
    ds = data_set(transfer_syntax)
    ds.Rows, ds.BitsAllocated = 4, 8
    ds.add_new("PixelData", "OW", bytes(64))
    return ds


def encapsulated() -> Dataset:
    ds = native(uid.JPEGBaseline8Bit)
    ds.add_new("PixelData", "OB", encapsulate([bytes(30), bytes(range(20))]))
    ds["PixelData"].is_undefined_length = True
    return ds


def extended() -> Dataset:
    ds = encapsulated()
    ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended([bytes(30)])
    return ds


def followed(ds: Dataset) -> Dataset:
    ds.add_new("DataSetTrailingPadding", "OB", bytes(20))
    return ds


def frames(is_open: bool) -> Dataset:
    ds = native()
    group = Dataset()
    group.FrameContentSequence = Sequence([Dataset()])
    group.FrameContentSequence[0].StackID = "1"
    group.is_undefined_length_sequence_item = is_open
    ds.PerFrameFunctionalGroupsSequence = Sequence([group, group])
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = is_open
    group["FrameContentSequence"].is_undefined_length = is_open
    return ds


def waveform() -> Dataset:
    ds = data_set()
    item = Dataset()
    item.add_new("WaveformData", "OW", bytes(20))
    item.is_undefined_length_sequence_item = True
    ds.WaveformSequence = Sequence([item])
    ds["WaveformSequence"].is_undefined_length = True
    return ds


def document() -> Dataset:
    ds = data_set()
    ds.add_new("EncapsulatedDocument", "OB", b"%PDF" + bytes(60))
    return ds


FILES: dict[str, Callable[[], Dataset]] = {
    "native": native,
    "implicit": lambda: native(uid.ImplicitVRLittleEndian),
    "big endian": lambda: native(uid.ExplicitVRBigEndian),
    "encapsulated": encapsulated,
    "extended offsets": extended,
    "frames": lambda: frames(False),
    "frames of undefined length": lambda: frames(True),
    "waveform": waveform,
    "document": document,
}


def state_of(content: bytes, **options: int) -> Completeness:
    file = BytesIO(content)
    return completeness(file, read_file(file, WANTED).rest, len(content), **options)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file(name: str) -> None:
    whole = encoded(FILES[name]())
    assert state_of(whole) is Completeness.WHOLE
    assert state_of(whole + bytes(6)) is Completeness.WHOLE
    assert state_of(encoded(followed(FILES[name]()))) is Completeness.WHOLE


@pytest.mark.parametrize("name", FILES)
def test_no_part_of_a_file_is_taken_for_all_of_it(name: str) -> None:
    whole = encoded(FILES[name]())
    identified = whole.index(b"1.2.3.1\0") + 8
    for length in range(len(whole)):
        file = BytesIO(whole[:length])
        try:
            header = read_file(file, WANTED)
        except NotDicom:
            assert length < 132
            continue
        except CannotUnderstand:
            continue
        state = completeness(file, header.rest, length)
        if header.rest is None:
            assert state is Completeness.UNKNOWN
            assert (length >= identified) is (header.taken.keys() >= {uid.tag for uid in UIDS})
        elif whole.startswith(b"\xe0\x7f\x10\0", length):
            assert state is Completeness.UNKNOWN  # behind the functional groups
        else:
            assert state is Completeness.CUT, length


def test_what_follows_the_pixels_counts() -> None:
    whole = encoded(followed(encapsulated()))
    end = whole.index(DELIMITER) + len(DELIMITER)
    assert state_of(whole[:end]) is Completeness.WHOLE  # the padding is not begun
    for length in range(end + 1, len(whole)):
        expected = Completeness.WHOLE if not whole[end:length].strip(b"\0") else Completeness.CUT
        assert state_of(whole[:length]) is expected


@pytest.mark.parametrize("follows", [bytes(512), b"\x08\0\x05\0CS\x0a\0ISO_IR 100", b"\xfc\xff\xfc\xff??\x10\0"])
def test_what_is_no_element_tells_nothing(follows: bytes) -> None:
    assert state_of(encoded(native()) + follows) is Completeness.UNKNOWN


@pytest.mark.parametrize("value", [b"no item.", struct.pack("<HHL", 0xFFFE, 0xE00D, 0)])
def test_undefined_length_without_items_tells_nothing(value: bytes) -> None:
    whole = encoded(encapsulated())
    begin = whole.index(b"\xe0\x7f\x10\0OB") + 12
    assert state_of(whole[:begin] + value + whole[begin:-8]) is Completeness.UNKNOWN


def test_no_more_fragments_are_counted_than_allowed() -> None:
    ds = encapsulated()
    ds.PixelData = encapsulate([bytes(8)] * 500)
    whole = encoded(ds)
    assert state_of(whole, most_heads=100) is Completeness.WHOLE  # by its end
    assert state_of(whole[:-8], most_heads=100) is Completeness.UNKNOWN
    assert state_of(whole[:-8]) is Completeness.CUT


def test_items_within_items_have_a_bound() -> None:
    head = b"\x00\x54\x00\x01SQ\0\0\xff\xff\xff\xff"
    nested = b"\x00\x54\x00\x01SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    assert state_of(encoded(data_set()) + head + nested[12:]) is Completeness.UNKNOWN


@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        ("native", "PixelData"),
        ("big endian", "PixelData"),
        ("encapsulated", "PixelData"),
        ("frames", "PerFrameFunctionalGroupsSequence"),
        ("waveform", "WaveformSequence"),
        ("document", "EncapsulatedDocument"),
    ],
)
def test_readers_that_take_the_header_all_the_same_note_it(name: str, keyword: str) -> None:
    whole = encoded(FILES[name]())
    for content, expected in (
        (whole, ()),
        (whole[:-9], (Note("warning", keyword, "the file ends within it, or within what follows it"),)),
    ):
        file = BytesIO(content)
        assert noted(file, read_file(file, WANTED).rest, len(content)) == expected
