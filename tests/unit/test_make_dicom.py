"""The generated files are what their descriptions say, and the same every time."""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError

from dicom2fhir.demo.synthetic import instance, make_uid, studies
from testdata.make_dicom import CASES, ct_files, ct_instances, datasets, encoded, write, write_all

READABLE = [case.name for case in CASES.values() if case.readable]


def one(name: str) -> Dataset:
    (data_set,) = datasets(name)
    return data_set


def test_every_case_is_written_the_same_way_twice(tmp_path: Path) -> None:
    once = write_all(tmp_path / "once")
    encoded.cache_clear()
    again = [path for name in CASES for path in write(name, tmp_path / "again")]
    assert len(set(once)) == len(once)
    assert [path.relative_to(tmp_path / "once") for path in once] == [p.relative_to(tmp_path / "again") for p in again]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(once, again, strict=True))
    assert {path.parent.name for path in once} == set(CASES)


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Dataset]]:
    """Every readable case as pydicom reads it, which warns of what some cases are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = {name: datasets(name) for name in READABLE}
        for name in READABLE:
            assert all(list(data_set.iterall()) for data_set in read[name]), name
    return read


def test_an_accepted_case_is_read_by_pydicom_and_has_its_uids(everything: dict[str, list[Dataset]]) -> None:
    for name, read in everything.items():
        if CASES[name].outcome == "accepted":
            assert read, name
            for data_set in read:
                assert data_set.StudyInstanceUID and data_set.SeriesInstanceUID and data_set.SOPInstanceUID, name


def test_what_is_not_readable_is_as_described() -> None:
    assert {case.name for case in CASES.values() if not case.readable} == {"truncated", "not-dicom", "empty-file"}
    for name in ("not-dicom", "empty-file"):
        with pytest.raises((InvalidDicomError, EOFError)):
            dcmread(BytesIO(encoded(name)[0]))
    with pytest.raises(ValueError, match="cannot be read"):
        datasets("truncated")
    (cut,) = encoded("truncated")
    last = list(dcmread(BytesIO(cut)))[-1]
    assert last.keyword == "SeriesInstanceUID"
    assert len(last.value) < len(make_uid("truncated", 1))


def test_no_instance_is_in_two_cases(everything: dict[str, list[Dataset]]) -> None:
    uids = Counter(
        data_set.SOPInstanceUID
        for name, read in everything.items()
        for data_set in read
        if CASES[name].outcome == "accepted"
    )
    assert [value for value, count in uids.items() if count > 1] == []


def test_every_kind_of_instance_is_there(everything: dict[str, list[Dataset]]) -> None:
    kinds = {
        (data_set.Modality, data_set.SOPClassUID)
        for read in everything.values()
        for data_set in read
        if isinstance(data_set.get("Modality"), str) and "SOPClassUID" in data_set
    }
    assert {
        ("CT", uid.CTImageStorage),
        ("CT", uid.EnhancedCTImageStorage),
        ("MR", uid.MRImageStorage),
        ("CR", uid.ComputedRadiographyImageStorage),
        ("DX", uid.DigitalXRayImageStorageForPresentation),
        ("MG", uid.DigitalMammographyXRayImageStorageForPresentation),
        ("US", uid.UltrasoundMultiFrameImageStorage),
        ("PT", uid.PositronEmissionTomographyImageStorage),
        ("NM", uid.NuclearMedicineImageStorage),
        ("XA", uid.XRayAngiographicImageStorage),
        ("SM", uid.VLWholeSlideMicroscopyImageStorage),
        ("RTSTRUCT", uid.RTStructureSetStorage),
        ("RTPLAN", uid.RTPlanStorage),
        ("RTDOSE", uid.RTDoseStorage),
        ("SEG", uid.SegmentationStorage),
        ("SR", uid.XRayRadiationDoseSRStorage),
        ("SR", uid.Comprehensive3DSRStorage),
        ("KO", uid.KeyObjectSelectionDocumentStorage),
        ("PR", uid.GrayscaleSoftcopyPresentationStateStorage),
        ("DOC", uid.EncapsulatedPDFStorage),
        ("OT", uid.SecondaryCaptureImageStorage),
    } <= kinds


def test_the_ct_study_has_40_slices_in_four_series(everything: dict[str, list[Dataset]]) -> None:
    slices = everything["ct"]
    assert len({data_set.SOPInstanceUID for data_set in slices}) == 40
    assert len({data_set.StudyInstanceUID for data_set in slices}) == 1
    assert len({data_set.SeriesInstanceUID for data_set in slices}) == 4


@pytest.mark.parametrize(
    ("name", "transfer_syntax"),
    [
        ("implicit-little-endian", uid.ImplicitVRLittleEndian),
        ("explicit-little-endian", uid.ExplicitVRLittleEndian),
        ("explicit-big-endian", uid.ExplicitVRBigEndian),
        ("deflated", uid.DeflatedExplicitVRLittleEndian),
        ("jpeg-baseline", uid.JPEGBaseline8Bit),
        ("rle-lossless", uid.RLELossless),
    ],
)
def test_transfer_syntaxes(name: str, transfer_syntax: uid.UID) -> None:
    read = one(name)
    assert read.file_meta.TransferSyntaxUID == transfer_syntax
    assert read.StudyDescription == f"Synthetic study {name}"
    if transfer_syntax.is_encapsulated:
        assert len(list(generate_frames(read.PixelData, number_of_frames=read.NumberOfFrames))) == read.NumberOfFrames


@pytest.mark.parametrize(
    ("name", "charset", "family", "value"),
    [
        ("latin-1", "ISO_IR 100", "Åström", b"\xc5str\xf6m^J\xfcrgen"),
        ("greek", "ISO_IR 126", "Διονυσιος", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2 "),
        ("cyrillic", "ISO_IR 144", "Люкceмбypг", b"\xbb\xee\xdace\xdc\xd1yp\xd3"),
        # PS3.5 sections H.3.1 (example 1), H.3.2 (example 2) and I.2
        (
            "japanese",
            ["", "ISO 2022 IR 87"],
            "Yamada",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        (
            "japanese-kana",
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
            "ﾔﾏﾀﾞ",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        ),
        (
            "korean",
            ["", "ISO 2022 IR 149"],
            "Hong",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        ),
        ("chinese", "GB18030", "Wang", "Wang^XiaoDong=王^小东".encode("gb18030")),
        ("utf-8", "ISO_IR 192", "Wang", "Wang^XiaoDong=王^小東".encode()),
    ],
)
def test_character_sets(name: str, charset: str | list[str], family: str, value: bytes) -> None:
    assert value in encoded(name)[0]
    read = one(name)
    assert read.SpecificCharacterSet == charset
    assert read.PatientName.family_name == family
    assert read.StudyDescription == read.InstitutionName


def test_names_in_three_groups() -> None:
    for name, ideographic, phonetic in (
        ("japanese", "山田^太郎", "やまだ^たろう"),
        ("korean", "洪^吉洞", "홍^길동"),
    ):
        patient_name = one(name).PatientName
        assert (patient_name.ideographic, patient_name.phonetic) == (ideographic, phonetic)


def test_odd_values_are_in_the_files_as_they_stand() -> None:
    assert one("patient-id-empty").PatientID == ""
    assert "StudyTime" not in one("study-time-missing")
    assert one("series-number-negative").SeriesNumber == -1
    assert list(one("modality-two-values").Modality) == ["CT", "MR"]
    assert "Modality" not in one("modality-missing")
    assert {len(one("uid-64")[keyword].value) for keyword in ("StudyInstanceUID", "SOPInstanceUID")} == {64}
    assert one("timezone-present").TimezoneOffsetFromUTC == "-0430"
    assert "TimezoneOffsetFromUTC" not in one("timezone-absent")
    assert "SOPClassUID" not in one("sop-class-only-in-meta")
    assert one("sop-class-only-in-meta").file_meta.MediaStorageSOPClassUID == uid.CTImageStorage
    assert one("private-sop-class").SOPClassUID.is_private
    assert one("phantom").QualityControlSubject == "YES"
    assert one("animal").PatientSpeciesDescription == "Canine"
    assert len(one("orders").RequestAttributesSequence) == 3
    for value, name in (
        (b"498.1.03", "uid-leading-zero"),
        (b"LO\x0c\x00  SYN-PAD   ", "padded"),
        (b"PAD-1\0\0\0", "padded"),
        (b".9.111 ", "padded"),
        (b"DOE JOHN", "pn-without-caret"),
        (b"DA\x04\x001964", "birth-date-partial"),
        (b"19640231", "birth-date-invalid"),
        (b"2024.03.11", "date-old-form"),
        (b"20230231", "day-invalid"),
        (b"101560", "time-60-seconds"),
        (b"J\xfcrgen", "charset-missing"),
        (b"ISO_IR 999", "charset-unknown"),
    ):
        assert value in encoded(name)[0], name


@pytest.mark.parametrize("level", ["Study", "Series", "SOP"])
def test_a_missing_uid_is_missing_everywhere(level: str) -> None:
    missing, empty = one(f"{level.lower()}-uid-missing"), one(f"{level.lower()}-uid-empty")
    assert f"{level}InstanceUID" not in missing
    assert empty[f"{level}InstanceUID"].is_empty
    if level == "SOP":
        assert not missing.file_meta.MediaStorageSOPInstanceUID
    assert {CASES[f"{level.lower()}-uid-{state}"].outcome for state in ("missing", "empty")} == {"refused"}


def test_files_without_preamble_and_meta() -> None:
    for name, start in (
        ("no-preamble", b"\x08\x00\x16\x00\x1a\x00\x00\x00"),
        ("no-preamble-explicit", b"\x08\x00\x16\x00UI"),
    ):
        assert encoded(name)[0].startswith(start)


def test_a_dicomdir_lists_one_image() -> None:
    read = one("dicomdir")
    assert read.file_meta.MediaStorageSOPClassUID == uid.MediaStorageDirectoryStorage
    kinds = [record.DirectoryRecordType for record in read.DirectoryRecordSequence]
    assert kinds == ["PATIENT", "STUDY", "SERIES", "IMAGE"]


def test_private_sequences_of_undefined_length() -> None:
    for data, read in zip(encoded("private-undefined-length"), datasets("private-undefined-length"), strict=True):
        assert b"\xff\xff\xff\xff" in data
        assert read.SeriesDescription == "CT series 1"
        assert (0x0009, 0x1001) in read


def test_studies_that_contradict_themselves() -> None:
    one_side, other = datasets("disagreeing")
    assert one_side.SeriesInstanceUID == other.SeriesInstanceUID
    assert one_side.SeriesDescription != other.SeriesDescription
    assert one_side.ReferringPhysicianName != other.ReferringPhysicianName
    north, south = datasets("two-issuers")
    assert north.PatientID == south.PatientID and north.IssuerOfPatientID != south.IssuerOfPatientID
    assert north.StudyInstanceUID != south.StudyInstanceUID
    anna, boris = datasets("two-patients")
    assert anna.StudyInstanceUID == boris.StudyInstanceUID and anna.PatientID != boris.PatientID


def test_many_slices_are_whole_and_distinct(tmp_path: Path) -> None:
    paths = ct_files(tmp_path, 250, studies=2, slices=50)
    read = [dcmread(path) for path in paths]
    assert len({data_set.SOPInstanceUID for data_set in read}) == 250
    assert Counter(data_set.StudyInstanceUID for data_set in read).most_common() == [
        (read[0].StudyInstanceUID, 125),
        (read[-1].StudyInstanceUID, 125),
    ]
    assert len({data_set.SeriesInstanceUID for data_set in read}) == 6
    assert [data_set.InstanceNumber for data_set in read[:51]] == [*range(1, 51), 1]
    assert all(data_set.SOPInstanceUID == data_set.file_meta.MediaStorageSOPInstanceUID for data_set in read)
    assert len({data_set.PatientID for data_set in read}) == 2


def test_an_encoded_slice_comes_in_parts() -> None:
    (made,) = ct_instances(1, side=32)
    read = dcmread(BytesIO(made.file))
    assert (read.SOPClassUID, read.SOPInstanceUID) == (made.sop_class, made.sop_instance)
    assert made.study == read.StudyInstanceUID
    assert made.header.startswith(b"\x08\x00\x16\x00UI")
    assert made.pixels.endswith(read.PixelData) and len(read.PixelData) == 2 * 32 * 32


def test_the_demo_studies_hold_what_the_mapping_feeds_from() -> None:
    names = []
    for name, instances in studies():
        names.append(name)
        assert len({made.StudyInstanceUID for made in instances}) == 1
        assert len({made.PatientID for made in instances}) == 1
        assert len({made.SOPInstanceUID for made in instances}) == len(instances)
        for made in instances:
            assert made.ReferringPhysicianName and made.RequestAttributesSequence and made.OperatorsName
            assert made.get("BodyPartExamined") or made.get("AnatomicRegionSequence")
    assert len(names) == len(set(names)) == 7


def test_an_instance_takes_what_it_is_given() -> None:
    made = instance("CT", "given", 2, 3, StudyDate=None, PatientName="Other^Name", Rows=4, Columns=2)
    assert "StudyDate" not in made
    assert made.PatientName == "Other^Name"
    assert (made.SeriesNumber, made.InstanceNumber, len(made.PixelData)) == (2, 3, 16)
    with pytest.raises(KeyError):
        instance("CT", NoSuchKeyword="")
