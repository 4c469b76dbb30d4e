"""Attributes in functional groups and similar sequences are read like those at the top level of the data set."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmwrite, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom2fhir.demo.synthetic import Values, code, instance
from dicom2fhir.dicom.attributes import LEVELS
from dicom2fhir.dicom.decode import DecodedCache, decode_instance
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.fhir.profile.description import parts_of
from dicom2fhir.fhir.profile.template import sources_in
from dicom2fhir.model import InstanceRecord, Origin, items_of
from dicom2fhir.wiring.options import profile
from testdata.make_cases import record_of, studies_of

SHARED, FRAMES = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
TECHNIQUE = {
    "SliceThickness": "PixelMeasuresSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "ReceiveCoilName": "MRReceiveCoilSequence",
    "KVP": "CTXRayDetailsSequence",
    "FilterType": "CTXRayDetailsSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "ReconstructionDiameter": "PETReconstructionSequence",
    "DataCollectionDiameter": "CTAcquisitionDetailsSequence",
    "SpiralPitchFactor": "CTTableDynamicsSequence",
    "CTDIvol": "CTExposureSequence",
    "ContrastBolusStartTime": "ContrastAdministrationProfileSequence",
}
RENAMED = [
    ("EchoTime", "EffectiveEchoTime", 4.6, "4.6"),
    ("InversionTime", "InversionTimes", [900.5, 1200.0], ["900.5", "1200.0"]),
    ("ImagingFrequency", "TransmitterFrequency", 123.25, "123.25"),
    ("SequenceName", "PulseSequenceName", "tfl3d", "tfl3d"),
    ("ExposureTime", "ExposureTimeInms", 62.5, "62.5"),
    ("ExposureTime", "ExposureTimeInuS", "62500", "62.5"),
    ("XRayTubeCurrent", "XRayTubeCurrentInmA", 211.5, "211.5"),
    ("XRayTubeCurrent", "XRayTubeCurrentInuA", "211500", "211.5"),
    ("Exposure", "ExposureInmAs", 0.1, "0.1"),
    ("Exposure", "ExposureInuAs", "103", "0.103"),
    ("AttenuationCorrectionMethod", "AttenuationCorrectionSource", "CT", "CT"),
    ("ReconstructionMethod", "ReconstructionAlgorithm", "RAMLA", "RAMLA"),
    ("ImageLaterality", "FrameLaterality", "L", "L"),
    ("AcquisitionDateTime", "FrameAcquisitionDateTime", "20240311092010", "20240311092010"),
]
TOP_LEVEL = {
    "Rows", "Columns", "ImageType", "BurnedInAnnotation", "PatientSize", "PatientWeight", "AcquisitionDuration",
    "MagneticFieldStrength", "MRAcquisitionType",
    "ScatterCorrectionMethod", "ContrastBolusAgentSequence",
}  # fmt: skip
"""Attributes that CT, MR and PET objects have at the top level of the data set, enhanced or not."""
CLASSIC_ONLY = {"ScanningSequence", "SequenceVariant", "ContrastBolusAgent", "SeriesType", "Units"}
"""Attributes that no enhanced IOD has; the units of a PET image are in Measurement Units Code Sequence there."""


def plain(number: int = 1, **attributes: Any) -> bytes:
    """A file without attributes of technique but those given."""
    made = instance("OT", "groups", 1, number, **attributes)
    buffer = BytesIO()
    dcmwrite(buffer, made)
    return buffer.getvalue()


def found(keyword: str, **attributes: Any) -> Any:
    record = record_of(plain(**attributes))
    return {**record.series, **record.instance}.get(keyword)


def group(keyword: str, **values: Any) -> Any:
    return [{keyword: [values]}]


@pytest.mark.parametrize("holder", [SHARED, FRAMES])
@pytest.mark.parametrize(("keyword", "macro"), TECHNIQUE.items())
def test_what_stands_in_a_functional_group_is_read(keyword: str, macro: str, holder: str) -> None:
    value = 12.5 if dictionary_VR(keyword) == "FD" else "12.5"
    assert found(keyword, **{holder: group(macro, **{keyword: value})}) == "12.5"


@pytest.mark.parametrize(
    ("keyword", "other", "value", "expected"),
    RENAMED,
)
def test_other_keywords_of_the_same_in_its_unit(keyword: str, other: str, value: Any, expected: Any) -> None:
    assert found(keyword, **{other: value}) == expected
    assert found(keyword, **{SHARED: group("FrameAcquisitionSequence", **{other: value})}) == expected


@pytest.mark.parametrize("text", [b"much", b"9E99999999", b"    "])
def test_what_is_no_number_has_no_unit_to_change(text: bytes) -> None:
    data = plain(ExposureTimeInuS="1234567890"[: len(text)])
    record = record_of(data.replace(b"1234567890"[: len(text)], text))
    assert "ExposureTime" not in record.instance


def test_lists_and_codes_of_groups() -> None:
    groups: Any = [
        {
            "CTReconstructionSequence": [{"ReconstructionFieldOfView": [340.0, 330.0]}],
            "RealWorldValueMappingSequence": [{"MeasurementUnitsCodeSequence": [code("Bq/ml", "UCUM", "Bq/ml")]}],
        }
    ]
    assert found("ReconstructionFieldOfView", **{SHARED: groups}) == ["340.0", "330.0"]
    (unit,) = items_of(found("MeasurementUnitsCodeSequence", **{SHARED: groups}))
    assert unit["CodeValue"] == "Bq/ml"


def keywords_of(name: str) -> Iterator[str]:
    """The attributes that a profile's extensions of series and instances take for CT, MR and PET."""
    for extension in profile(name).extension:
        for _, part in parts_of(extension) if extension.at != "study" else ():
            if not part.modalities or {"CT", "MR", "PT"} & {*part.modalities}:
                yield from (source for source in sources_in(part) if source.isalnum())


@pytest.mark.parametrize("name", ["osiris", "mii-bildgebung"])
def test_the_technique_that_profiles_ask_for_is_read_of_enhanced_objects(name: str) -> None:
    grouped = {"ReconstructionFieldOfView", "MeasurementUnitsCodeSequence", *TECHNIQUE, *(one for one, *_ in RENAMED)}
    assert set(keywords_of(name)) - grouped - TOP_LEVEL - CLASSIC_ONLY == set()


def test_the_data_set_comes_before_all_frames_and_they_before_the_first() -> None:
    both = {
        SHARED: group("PixelMeasuresSequence", SliceThickness="2"),
        FRAMES: group("PixelMeasuresSequence", SliceThickness="3", PixelSpacing=["1", "1"]),
    }
    assert found("SliceThickness", SliceThickness="1", **both) == "1"
    assert found("SliceThickness", SliceThickness="", **both) == "2"
    assert found("SliceThickness", **both) == "2"
    assert found("PixelSpacing", **both) == ["1", "1"]


def test_of_the_frames_the_first_counts() -> None:
    frames = [{"MREchoSequence": [{"EffectiveEchoTime": time}]} for time in (4.6, 9.2, 1.0)]
    assert found("EchoTime", **{FRAMES: frames}) == "4.6"


@pytest.mark.parametrize(
    "place",
    [
        {"XRay3DAcquisitionSequence": [{"KVP": "29"}]},
        {"MultienergyCTAcquisitionSequence": group("CTXRayDetailsSequence", KVP="29")},
        {SHARED: group("UnassignedSharedConvertedAttributesSequence", KVP="29")},
        {FRAMES: group("UnassignedPerFrameConvertedAttributesSequence", KVP="29")},
        {SHARED: [{"KVP": "29"}]},
    ],
    ids=["tomosynthesis", "multi-energy CT", "converted, shared", "converted, of a frame", "in no group"],
)
def test_other_sequences_that_hold_technique(place: Values) -> None:
    assert found("KVP", **place) == "29"


def test_the_first_ultrasound_region_that_knows_it() -> None:
    regions = [{"TransducerFrequency": 3500}, {"TransducerFrequency": 2000, "PulseRepetitionFrequency": 4000}]
    assert found("TransducerFrequency", SequenceOfUltrasoundRegions=regions) == "3500"
    assert found("PulseRepetitionFrequency", SequenceOfUltrasoundRegions=regions) == "4000"


def test_time_zone_and_anatomy_of_groups() -> None:
    groups: Any = [
        {
            "UnassignedSharedConvertedAttributesSequence": [{"TimezoneOffsetFromUTC": "-0500"}],
            "FrameAnatomySequence": [{"AnatomicRegionSequence": [code("12738006", "SCT", "Brain")]}],
        }
    ]
    record = record_of(plain(TimezoneOffsetFromUTC=None, **{SHARED: groups}))
    assert record.study["TimezoneOffsetFromUTC"] == record.series["TimezoneOffsetFromUTC"] == "-0500"
    (region,) = items_of(record.series["AnatomicRegionSequence"])
    assert region["CodeValue"] == "12738006"


def test_sides_of_two_enhanced_images_are_no_common_side() -> None:
    files = [
        plain(number=n, **{SHARED: group("FrameAnatomySequence", FrameLaterality=side)})
        for n, side in enumerate("LRR", start=1)
    ]
    (study,) = studies_of(files)
    assert [image.attrs["ImageLaterality"] for image in study.series[0].instances] == ["L", "R", "R"]


def test_a_group_that_is_no_sequence_is_passed_over() -> None:
    data = plain(SliceThickness="1", PixelSpacing=["1", "1"], **{SHARED: group("PixelMeasuresSequence")})
    tag = b"\x28\x00\x10\x91"
    assert data.count(tag + b"SQ") == 1
    record = record_of(data.replace(tag + b"SQ", tag + b"OB"))
    assert record.series["SliceThickness"] == "1"


def test_records_hold_no_groups() -> None:
    record = record_of(plain(**{SHARED: group("PixelMeasuresSequence", SliceThickness="2")}))
    names = {name for attrs in (record.study, record.series, record.instance) for name in attrs}
    assert not names & {*HOLDERS, *FUNCTIONAL_GROUPS}
    assert names <= {attribute.keyword for attributes in LEVELS.values() for attribute in attributes}


def test_instances_of_a_series_share_what_their_groups_say() -> None:
    cache = DecodedCache()

    def read(number: int, thickness: str, echo_time: float) -> InstanceRecord:
        shared = group("PixelMeasuresSequence", SliceThickness=thickness)
        frames = group("MREchoSequence", EffectiveEchoTime=echo_time)
        data = plain(number=number, **{SHARED: shared, FRAMES: frames})
        return decode_instance(read_file(BytesIO(data), WANTED).received(Origin("file")), cache)

    first, second, third, fourth = (read(1, "2", 1.0), read(2, "2", 1.0), read(3, "3", 1.0), read(4, "3", 2.5))
    assert first.series is second.series
    assert third.series["SliceThickness"] == "3"
    assert (third.series["EchoTime"], fourth.series["EchoTime"]) == ("1.0", "2.5")


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_in_every_encoding(syntax: uid.UID) -> None:
    groups = group("MREchoSequence", EffectiveEchoTime=4.6)
    made = instance("OT", SharedFunctionalGroupsSequence=groups)
    made.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, made)
    assert record_of(buffer.getvalue()).series["EchoTime"] == "4.6"


@pytest.mark.parametrize(("keyword", "tag"), [*HOLDERS.items(), *FUNCTIONAL_GROUPS.items()])
def test_tags_are_those_of_the_standard(keyword: str, tag: int) -> None:
    assert tag_for_keyword(keyword) == tag
    assert dictionary_VR(tag) == "SQ"
