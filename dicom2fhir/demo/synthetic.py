"""Synthetic SOP instances: fictitious patients, a few pixels, every attribute that the mapping uses.

The demo sends them, and all test files are made from them. The same arguments give the same bytes: UIDs are hashes of
names (``2.25.`` and a UUID, PS3.5 section B.2), and no clock or random number is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydicom import uid
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

Values = Mapping[str, Any]
"""Keyword -> value; a sequence is a list of such mappings."""


def make_uid(*names: object) -> str:
    """The UID for ``names``, always the same."""
    return f"2.25.{uuid5(NAMESPACE_URL, 'dicom2fhir/' + '/'.join(map(str, names))).int}"


def code(value: str, scheme: str, meaning: str) -> Values:
    """Item of a code sequence (PS3.3 section 8.8); ``scheme`` such as ``SCT``, ``DCM``, ``LN`` or ``99SYN``."""
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def dataset(values: Values) -> Dataset:
    """Make a data set of ``values``, valid or not; ``None`` leaves an attribute out."""
    made = Dataset()
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        vr = dictionary_VR(tag)
        if vr == "SQ" and value is not None:
            value = [dataset(item) for item in value]
        if value is not None:
            made[tag] = DataElement(tag, vr, value, validation_mode=IGNORE)
    return made


def _person(number: str, institution: str = "Synthetic Hospital") -> Values:
    """Item of an identification sequence (PS3.3 table 10-1)."""
    return {"PersonIdentificationCodeSequence": [code(number, "99SYN", "Staff number")], "InstitutionName": institution}


def _issuer(name: str) -> Values:
    """Item of an HL7v2 hierarchic designator (PS3.3 table 10-17)."""
    oid = make_uid("issuer", name)
    return {"LocalNamespaceEntityID": name, "UniversalEntityID": oid, "UniversalEntityIDType": "ISO"}


def _image(rows: int, columns: int, bits: int, samples: int = 1, frames: int = 0) -> Values:
    return {
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if samples == 3 else None,
        "NumberOfFrames": frames or None,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16 if bits > 8 else 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }


@cache
def _pixels(bits_allocated: int, count: int) -> bytes:
    """Ramp of ``count`` pixels, little endian, padded to an even length (PS3.5 section 8.1.1)."""
    if bits_allocated == 16:
        return b"".join((number % 4096).to_bytes(2, "little") for number in range(count))
    ramp = bytes(number % 256 for number in range((count * bits_allocated + 7) // 8))
    return ramp + b"\0" * (len(ramp) % 2)


_PLANE = {"PixelSpacing": ["0.7", "0.7"], "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"]}
_X_RAY = {"KVP": "120", "XRayTubeCurrent": "210", "ExposureTime": "500", "Exposure": "105"}
_CT = {
    **_X_RAY,
    "SliceThickness": "1.0",
    "ReconstructionDiameter": "350",
    "FilterType": "WEDGE 2",
    "ConvolutionKernel": ["Br40d", "3"],
    "SpiralPitchFactor": 0.98,
    "CTDIvol": 6.3,
}
_MR = {
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SP", "MP"],
    "MRAcquisitionType": "3D",
    "SequenceName": "*tfl3d1_16",
    "SliceThickness": "0.9",
    "RepetitionTime": "2200",
    "EchoTime": "2.5",
    "InversionTime": "900",
    "ImagingFrequency": "123.258734",
    "MagneticFieldStrength": "3",
    "ReceiveCoilName": "HeadNeck 20",
    "FlipAngle": "8",
}
_DX = {**_X_RAY, "PatientOrientation": ["L", "F"], "ViewPosition": "PA"}
_US: Values = {
    "SequenceOfUltrasoundRegions": [{"TransducerFrequency": 3500, "PulseRepetitionFrequency": 4000}],
    "TransducerType": "CURVED LINEAR",
    "UltrasoundColorDataPresent": 0,
}


def _tracer(name: str, codes: tuple[Values, Values], dose: str, half_life_s: str) -> Values:
    """Radiopharmaceutical Information Sequence; the dose in Bq for PT (PS3.3 C.8.9.2), in MBq for NM (C.8.4.10)."""
    item = {
        "Radiopharmaceutical": name,
        "RadiopharmaceuticalStartTime": "081500",
        "RadionuclideTotalDose": dose,
        "RadionuclideHalfLife": half_life_s,
        "RadionuclideCodeSequence": [codes[0]],
        "RadiopharmaceuticalCodeSequence": [codes[1]],
    }
    return {
        "RadiopharmaceuticalInformationSequence": [item],
        "AcquisitionDate": "20240311",
        "AcquisitionTime": "092011",
    }


_PT = {
    "SliceThickness": "3",
    "Units": "BQML",
    "SeriesType": ["WHOLE BODY", "IMAGE"],
    "DecayCorrection": "START",
    "CorrectedImage": ["DECY", "ATTN", "SCAT"],
    "AttenuationCorrectionMethod": "CT-derived mu-map",
    "ReconstructionMethod": "PSF+TOF 4i5s",
    "ScatterCorrectionMethod": "Model-based",
    **_tracer(
        "Fluorodeoxyglucose",
        (code("77004003", "SCT", "^18^Fluorine"), code("35321007", "SCT", "Fluorodeoxyglucose F^18^")),
        "320000000",
        "6586.2",
    ),
}
_NM = _tracer(
    "Sodium pertechnetate",
    (code("72454006", "SCT", "^99m^Technetium"), code("19495007", "SCT", "Sodium pertechnetate Tc^99m^")),
    "74.5",
    "21624",
)
_HEART = {"AnatomicRegionSequence": [code("80891009", "SCT", "Heart")]}
_BREAST = {"AnatomicRegionSequence": [code("76752008", "SCT", "Breast")], "ImageLaterality": "L", "ViewPosition": "CC"}
_SPECIMEN = {
    "SpecimenIdentifier": "S24-000042-A1",
    "SpecimenUID": make_uid("specimen", 1),
    "IssuerOfTheSpecimenIdentifierSequence": [_issuer("SYN-PATHOLOGY")],
    "SpecimenShortDescription": "Core biopsy",
    "SpecimenTypeCodeSequence": [code("119376003", "SCT", "Tissue specimen")],
}
_SLIDE = {"ContainerIdentifier": "S24-000042", "SpecimenDescriptionSequence": [_SPECIMEN]}
_KINDS: Mapping[str, tuple[UID, str, Values]] = {
    "CT": (uid.CTImageStorage, "CHEST", {**_image(16, 16, 12), **_PLANE, **_CT}),
    "MR": (uid.MRImageStorage, "BRAIN", {**_image(16, 16, 12), **_PLANE, **_MR}),
    "CR": (uid.ComputedRadiographyImageStorage, "HAND", {"Laterality": "R", **_X_RAY, **_image(16, 8, 12)}),
    "DX": (uid.DigitalXRayImageStorageForPresentation, "CHEST", {"ImageLaterality": "U", **_DX, **_image(16, 16, 12)}),
    "MG": (uid.DigitalMammographyXRayImageStorageForPresentation, "BREAST", {**_X_RAY, **_BREAST, **_image(16, 8, 12)}),
    "US": (uid.UltrasoundMultiFrameImageStorage, "", {**_HEART, **_US, **_image(8, 8, 8, samples=3, frames=5)}),
    "PT": (uid.PositronEmissionTomographyImageStorage, "WHOLEBODY", {**_image(16, 16, 16), **_PLANE, **_PT}),
    "NM": (uid.NuclearMedicineImageStorage, "THYROID", {**_NM, **_image(8, 8, 16, frames=4)}),
    "XA": (uid.XRayAngiographicImageStorage, "HEART", {"FrameTime": "66", **_image(8, 8, 8, frames=6)}),
    "SM": (uid.VLWholeSlideMicroscopyImageStorage, "BREAST", {**_SLIDE, **_image(8, 8, 8, samples=3, frames=4)}),
    "RTSTRUCT": (uid.RTStructureSetStorage, "", {"StructureSetLabel": "PLANNING"}),
    "RTPLAN": (uid.RTPlanStorage, "", {"RTPlanLabel": "PLAN 1", "RTPlanGeometry": "PATIENT"}),
    "RTDOSE": (uid.RTDoseStorage, "", {"DoseUnits": "GY", "DoseType": "PHYSICAL", **_image(8, 8, 16, frames=4)}),
    "SEG": (uid.SegmentationStorage, "", {}),
    "SR": (uid.EnhancedSRStorage, "", {}),
    "KO": (uid.KeyObjectSelectionDocumentStorage, "", {}),
    "PR": (uid.GrayscaleSoftcopyPresentationStateStorage, "", {}),
    "DOC": (uid.EncapsulatedPDFStorage, "", {}),
    "OT": (uid.SecondaryCaptureImageStorage, "", {"ConversionType": "WSD", **_image(8, 8, 8, samples=3)}),
}
"""Modality -> SOP class, Body Part Examined and other attributes of its instances."""

_COMMON: Values = {
    "PatientName": "Synthetic^Testa^Maria^Dr.",
    "IssuerOfPatientID": "SYN-HOSPITAL",
    "TypeOfPatientID": "TEXT",
    "IssuerOfPatientIDQualifiersSequence": [
        {"UniversalEntityID": make_uid("issuer", "SYN-HOSPITAL"), "UniversalEntityIDType": "ISO"}
    ],
    "PatientBirthDate": "19640229",
    "PatientSex": "F",
    "PatientAge": "060Y",
    "PatientSize": "1.68",
    "PatientWeight": "64.5",
    "PatientComments": "Synthetic data, not a person",
    "StudyDate": "20240311",
    "StudyTime": "091530",
    "SeriesDate": "20240311",
    "SeriesTime": "092010.250000",
    "ContentDate": "20240311",
    "ContentTime": "092015",
    "TimezoneOffsetFromUTC": "+0100",
    "IssuerOfAccessionNumberSequence": [_issuer("SYN-RIS")],
    "ReferringPhysicianName": "Referrer^Rita^^Dr.",
    "ReferringPhysicianIdentificationSequence": [_person("1001", "Synthetic Practice")],
    "NameOfPhysiciansReadingStudy": ["Reader^Robin", "Reader^Ruth^^Dr."],
    "PhysiciansReadingStudyIdentificationSequence": [_person("2001"), _person("2002")],
    "AdmissionID": "V-2024-0311",
    "IssuerOfAdmissionIDSequence": [_issuer("SYN-HOSPITAL")],
    "ReasonForTheRequestedProcedure": "Synthetic question",
    "Manufacturer": "Synthetic Systems",
    "InstitutionName": "Synthetic Hospital",
    "InstitutionalDepartmentName": "Imaging",
    "DeviceSerialNumber": "SN-0042",
    "SoftwareVersions": ["1.2", "b7"],
    "PerformingPhysicianName": "Performer^Petra",
    "PerformingPhysicianIdentificationSequence": [_person("3001")],
    "OperatorsName": ["Operator^Olga", "Operator^Omar"],
    "OperatorIdentificationSequence": [_person("4001"), _person("4002")],
}


def instance(modality: str, study: str = "demo", series: int = 1, number: int = 1, **attributes: object) -> Dataset:
    """Make one SOP instance, ready for ``save_as`` and for a C-STORE.

    Parameters
    ----------
    modality
        CT, MR, CR, DX, MG, US, PT, NM, XA, SM, RTSTRUCT, RTPLAN, RTDOSE, SEG, SR, KO, PR, DOC (encapsulated PDF) or OT
        (secondary capture).
    study, series, number
        Name of the study and numbers of series and instance; UIDs, Patient ID and accession number are made from them.
    attributes
        Keyword = value, instead of or besides the usual ones, valid or not; a sequence is a list of mappings and
        ``None`` leaves an attribute out. Pixel Data follows Rows, Columns and so on.

    Returns
    -------
    Dataset
        In explicit VR little endian, with file meta information (PS3.10 section 7.1).
    """
    sop_class, body_part, usual = _KINDS[modality]
    order = make_uid(study)[-6:]
    values: dict[str, Any] = {
        **_COMMON,
        "SOPClassUID": sop_class,
        "SOPInstanceUID": make_uid(study, series, number),
        "StudyInstanceUID": make_uid(study),
        "SeriesInstanceUID": make_uid(study, series),
        "PatientID": f"SYN-P{order}",
        "AccessionNumber": f"SYN-A{order}",
        "StudyID": f"S{order}",
        "StudyDescription": f"Synthetic study {study}",
        "RequestAttributesSequence": [
            {
                "AccessionNumber": f"SYN-A{order}",
                "IssuerOfAccessionNumberSequence": [_issuer("SYN-RIS")],
                "RequestedProcedureID": f"RP{order}",
                "RequestedProcedureDescription": f"Synthetic {modality} order",
                "ReasonForRequestedProcedureCodeSequence": [code("49727002", "SCT", "Cough")],
            }
        ],
        "ProcedureCodeSequence": [code("SYN-1", "99SYN", "Synthetic procedure")],
        "Modality": modality,
        "SeriesNumber": str(series),
        "SeriesDescription": f"{modality} series {series}",
        "StationName": f"{modality}01",
        "ManufacturerModelName": f"Model {modality}",
        "InstanceNumber": str(number),
        "BodyPartExamined": body_part or None,
        **usual,
        **attributes,
    }
    made = dataset(values)
    if "Rows" in made and "PixelData" not in made:
        count = prod(int(values.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"))
        made.PixelData = _pixels(made.BitsAllocated, count)
    made.preamble = bytes(128)
    meta = {
        "FileMetaInformationGroupLength": 0,
        "FileMetaInformationVersion": b"\0\1",
        "MediaStorageSOPClassUID": values["SOPClassUID"] or "",
        "MediaStorageSOPInstanceUID": values["SOPInstanceUID"] or "",
        "TransferSyntaxUID": uid.ExplicitVRLittleEndian,
        "ImplementationClassUID": make_uid("implementation"),
        "ImplementationVersionName": "SYNTHETIC",
    }
    made.file_meta = FileMetaDataset(dataset(meta))
    return made


_ANNA = {"PatientName": "Demo^Anna", "PatientID": "DEMO-1", "PatientBirthDate": "19580412", "PatientSex": "F"}
_BORIS = {"PatientName": "Demo^Boris^Egon", "PatientID": "DEMO-2", "PatientBirthDate": "19791130", "PatientSex": "M"}
_CHEST_CT = {"StudyDescription": "CT chest", "ProcedureCodeSequence": [code("24627-2", "LN", "CT Chest")]}
_BRAIN_MR = {"StudyDescription": "MR brain", "ProcedureCodeSequence": [code("24590-2", "LN", "MR Brain")]}
_SUMMER = {"StudyDate": "20240702", "SeriesDate": "20240702", "TimezoneOffsetFromUTC": "+0200"}
_WHOLE_BODY = {"BodyPartExamined": "WHOLEBODY"}
_DEMO: Mapping[str, tuple[Values, list[tuple[str, int, str, Values]]]] = {
    "ct-chest": (
        {**_ANNA, **_CHEST_CT},
        [("CT", 1, "Topogram", {}), ("CT", 24, "Thorax 1.0 lung", {}), ("CT", 8, "Thorax 5.0 soft", {})],
    ),
    "mr-brain": (
        {**_BORIS, **_BRAIN_MR, **_SUMMER},
        [("MR", 3, "Localizer", {}), ("MR", 16, "T1 MPRAGE", {}), ("MR", 12, "T2 FLAIR", {})],
    ),
    "pet-ct": (
        {**_ANNA, "StudyDescription": "FDG PET/CT"},
        [("CT", 10, "CT attenuation", _WHOLE_BODY), ("PT", 10, "PET corrected", {})],
    ),
    "hand-x-ray": ({**_BORIS, "StudyDescription": "Right hand, 2 views"}, [("CR", 2, "Hand", {})]),
    "chest-x-ray": ({**_BORIS, "StudyDescription": "Chest PA"}, [("DX", 1, "Chest PA", {})]),
    "mammography": (
        {**_ANNA, "StudyDescription": "Mammography screening"},
        [("MG", 2, "Left", {"ImageLaterality": "L"}), ("MG", 2, "Right", {"ImageLaterality": "R"})],
    ),
    "echocardiogram": ({**_BORIS, "StudyDescription": "Echocardiogram"}, [("US", 2, "Apical 4 chamber", {})]),
}
"""Study -> its attributes and its series: modality, number of instances, description, other attributes."""


def studies() -> Iterator[tuple[str, list[Dataset]]]:
    """Yield the demo's studies: a name and the instances of all series."""
    for name, (values, plan) in _DEMO.items():
        instances = []
        for series, (modality, count, description, others) in enumerate(plan, start=1):
            attributes = {"SeriesDescription": description, **values, **others}
            instances += [instance(modality, f"demo/{name}", series, n, **attributes) for n in range(1, count + 1)]
        yield name, instances
