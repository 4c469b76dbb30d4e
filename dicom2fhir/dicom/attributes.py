"""The attributes that are taken from a data set; values of other attributes never leave the receiver.

This table is the only list of DICOM inputs. The header reader uses its tags, :mod:`dicom2fhir.dicom.study` its rules
for instances that disagree, and the documentation its content. Tags and value representations are those of PS3.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["patient", "study", "series", "instance"]

Pick = Literal["common", "earliest", "every"]
"""Which value is used for a study or series if its instances disagree: the most frequent one (ties: the smallest), the
earliest, or every distinct one."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Structured reports, by their template (PS3.3 C.18.8) or by their title: either is enough.

    Attributes
    ----------
    template
        Template Identifier of the Content Template Sequence.
    titles
        Code Values of the concept name of the root.
    """

    template: str
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute that is taken.

    Attributes
    ----------
    follows
        Keyword of the attribute that this one belongs to. Their values come from the same instances, so that a date is
        never combined with the time of another instance, nor an identifier with another issuer.
    others_to
        Keyword of a sequence: the values that are not used for the study are added to it as items, each with the
        attributes that follow it. Without it they are lost.
    many
        Whether there may be more than one value (the Value Multiplicity of PS3.6).
    items
        For a sequence: the attributes that are taken from each item.
    instead
        Attributes of other IODs with the same meaning. If this attribute has no value, the first of them that has one
        replaces it.
    factor
        The value of an attribute in ``instead`` is multiplied by it, to convert it to the unit of the replaced one.
    is_content
        For a sequence: its items are content, see :mod:`dicom2fhir.dicom.content`.
    in_concepts
        For a sequence of content within a content item: Code Value of the concept name of that item -> what is taken
        from each item instead of ``items``.
    of_documents
        For a sequence of content: the documents of which it is taken; None: all of a SOP class.
    is_whole
        Whether numbers are taken as one text, separated by backslashes as in DS, and not at all if there are too many:
        a part of a contour would be another contour.
    noted_as
        Keyword in the notes about it, if not its own: for a sequence that occurs in several places.
    """

    keyword: str
    tag: int
    vr: str
    pick: Pick = "common"
    follows: str = ""
    others_to: str = ""
    many: bool = False
    items: tuple[Attribute, ...] = field(default=())
    instead: tuple[Attribute, ...] = field(default=())
    factor: str = ""
    is_content: bool = False
    in_concepts: tuple[tuple[str, tuple[Attribute, ...]], ...] = ()
    of_documents: Documents | None = None
    is_whole: bool = False
    noted_as: str = ""


def _a(keyword: str, tag: int, vr: str, *items: Attribute) -> Attribute:
    return Attribute(keyword, tag, vr, items=items)


_MICRO = "0.001"
"""Microseconds to milliseconds, microamperes to milliamperes."""


CODE = (
    _a("CodeValue", 0x00080100, "SH"),
    _a("CodingSchemeDesignator", 0x00080102, "SH"),
    _a("CodingSchemeVersion", 0x00080103, "SH"),
    _a("CodeMeaning", 0x00080104, "LO"),
    _a("LongCodeValue", 0x00080119, "UC"),
    _a("URNCodeValue", 0x00080120, "UR"),
)
"""Code Sequence Macro, PS3.3 table 8.8-1."""

_REGION_MODIFIER = (_a("AnatomicRegionModifierSequence", 0x00082220, "SQ", *CODE),)

ISSUER = (
    _a("LocalNamespaceEntityID", 0x00400031, "UT"),
    _a("UniversalEntityID", 0x00400032, "UT"),
    _a("UniversalEntityIDType", 0x00400033, "CS"),
)
"""HL7v2 Hierarchic Designator Macro, PS3.3 table 10-17."""

_PATIENT_ISSUER = (*ISSUER, _a("IdentifierTypeCode", 0x00400035, "CS"))

_PERSON = (_a("PersonIdentificationCodeSequence", 0x00401101, "SQ", *CODE),)
"""Person Identification Macro, PS3.3 table 10-1."""

_REQUEST = (
    _a("AccessionNumber", 0x00080050, "SH"),
    _a("IssuerOfAccessionNumberSequence", 0x00080051, "SQ", *ISSUER),
    _a("RequestedProcedureDescription", 0x00321060, "LO"),
    _a("ReasonForTheRequestedProcedure", 0x00401002, "LO"),
    _a("ReasonForRequestedProcedureCodeSequence", 0x0040100A, "SQ", *CODE),
)

_SPECIMEN = (
    _a("SpecimenIdentifier", 0x00400551, "LO"),
    _a("SpecimenUID", 0x00400554, "UI"),
    _a("IssuerOfTheSpecimenIdentifierSequence", 0x00400562, "SQ", *ISSUER),
    _a("SpecimenShortDescription", 0x00400600, "LO"),
)

_OTHER_PATIENT_ID = (
    _a("PatientID", 0x00100020, "LO"),
    _a("IssuerOfPatientID", 0x00100021, "LO"),
    _a("TypeOfPatientID", 0x00100022, "CS"),
    _a("IssuerOfPatientIDQualifiersSequence", 0x00100024, "SQ", *_PATIENT_ISSUER),
)

_TRACER = (
    _a("Radiopharmaceutical", 0x00180031, "LO"),
    _a("RadiopharmaceuticalStartTime", 0x00181072, "TM"),
    _a("RadionuclideTotalDose", 0x00181074, "DS"),
    _a("RadionuclideHalfLife", 0x00181075, "DS"),
    _a("RadiopharmaceuticalRoute", 0x00181070, "LO"),
    _a("RadiopharmaceuticalStartDateTime", 0x00181078, "DT"),
    _a("RadionuclideCodeSequence", 0x00540300, "SQ", *CODE),
    _a("AdministrationRouteCodeSequence", 0x00540302, "SQ", *CODE),
    _a("RadiopharmaceuticalCodeSequence", 0x00540304, "SQ", *CODE),
)
"""Of Radiopharmaceutical Information Sequence (PS3.3 C.8.9.2)."""

LEVELS: Mapping[Level, tuple[Attribute, ...]] = {
    "patient": (
        Attribute("PatientName", 0x00100010, "PN", follows="PatientID"),
        Attribute("PatientID", 0x00100020, "LO"),
        Attribute("IssuerOfPatientID", 0x00100021, "LO", follows="PatientID"),
        Attribute("IssuerOfPatientIDQualifiersSequence", 0x00100024, "SQ", follows="PatientID", items=_PATIENT_ISSUER),
        Attribute("PatientBirthDate", 0x00100030, "DA", follows="PatientID"),
        Attribute("PatientSex", 0x00100040, "CS", follows="PatientID"),
        Attribute("QualityControlSubject", 0x00100200, "CS"),
        Attribute("OtherPatientIDsSequence", 0x00101002, "SQ", items=_OTHER_PATIENT_ID),
        Attribute("PatientSpeciesDescription", 0x00102201, "LO"),
        Attribute("PatientSpeciesCodeSequence", 0x00102202, "SQ", items=CODE),
    ),
    "study": (
        Attribute("StudyDate", 0x00080020, "DA", pick="earliest"),
        Attribute("StudyTime", 0x00080030, "TM", follows="StudyDate"),
        # a published order remains one of the study's orders, even if later instances name another
        Attribute("AccessionNumber", 0x00080050, "SH", others_to="RequestAttributesSequence"),
        Attribute("IssuerOfAccessionNumberSequence", 0x00080051, "SQ", follows="AccessionNumber", items=ISSUER),
        Attribute("ReferringPhysicianName", 0x00080090, "PN"),
        Attribute(
            "ReferringPhysicianIdentificationSequence",
            0x00080096,
            "SQ",
            follows="ReferringPhysicianName",
            items=_PERSON,
        ),
        Attribute(
            "CodingSchemeIdentificationSequence",
            0x00080110,
            "SQ",
            pick="every",
            items=(
                _a("CodingSchemeDesignator", 0x00080102, "SH"),
                _a("CodingSchemeUID", 0x0008010C, "UI"),
            ),
        ),
        Attribute("TimezoneOffsetFromUTC", 0x00080201, "SH", follows="StudyDate"),
        Attribute("StudyDescription", 0x00081030, "LO"),
        Attribute("InstitutionalDepartmentName", 0x00081040, "LO"),
        Attribute(
            "InstitutionalDepartmentTypeCodeSequence",
            0x00081041,
            "SQ",
            follows="InstitutionalDepartmentName",
            items=CODE,
        ),
        Attribute("ProcedureCodeSequence", 0x00081032, "SQ", items=CODE),
        Attribute("NameOfPhysiciansReadingStudy", 0x00081060, "PN", many=True),
        Attribute(
            "PhysiciansReadingStudyIdentificationSequence",
            0x00081062,
            "SQ",
            follows="NameOfPhysiciansReadingStudy",
            items=_PERSON,
        ),
        Attribute("StudyID", 0x00200010, "SH"),
        Attribute("RequestedProcedureDescription", 0x00321060, "LO"),
        Attribute("StudyComments", 0x00324000, "LT"),
        Attribute("AdmissionID", 0x00380010, "LO"),
        Attribute("IssuerOfAdmissionIDSequence", 0x00380014, "SQ", follows="AdmissionID", items=ISSUER),
        Attribute("PerformedLocation", 0x00400243, "SH"),
        Attribute("RequestAttributesSequence", 0x00400275, "SQ", pick="every", items=_REQUEST),
        Attribute("ReasonForTheRequestedProcedure", 0x00401002, "LO"),
        Attribute("ReasonForRequestedProcedureCodeSequence", 0x0040100A, "SQ", items=CODE),
        Attribute("ReasonForPerformedProcedureCodeSequence", 0x00401012, "SQ", items=CODE),
        Attribute("PatientSize", 0x00101020, "DS"),
        Attribute("PatientWeight", 0x00101030, "DS"),
    ),
    "series": (
        Attribute("SeriesDate", 0x00080021, "DA", pick="earliest"),
        Attribute("SeriesTime", 0x00080031, "TM", follows="SeriesDate"),
        Attribute("TimezoneOffsetFromUTC", 0x00080201, "SH", follows="SeriesDate"),
        Attribute("Modality", 0x00080060, "CS"),
        Attribute("Manufacturer", 0x00080070, "LO"),
        Attribute("InstitutionName", 0x00080080, "LO"),
        Attribute("InstitutionCodeSequence", 0x00080082, "SQ", follows="InstitutionName", items=CODE),
        Attribute("StationName", 0x00081010, "SH"),
        Attribute("SeriesDescription", 0x0008103E, "LO"),
        Attribute("PerformingPhysicianName", 0x00081050, "PN", many=True),
        Attribute(
            "PerformingPhysicianIdentificationSequence",
            0x00081052,
            "SQ",
            follows="PerformingPhysicianName",
            items=_PERSON,
        ),
        Attribute("OperatorsName", 0x00081070, "PN", many=True),
        Attribute("OperatorIdentificationSequence", 0x00081072, "SQ", follows="OperatorsName", items=_PERSON),
        Attribute("ManufacturerModelName", 0x00081090, "LO", follows="Manufacturer"),
        Attribute("AnatomicRegionSequence", 0x00082218, "SQ", items=CODE),
        Attribute("BodyPartExamined", 0x00180015, "CS"),
        Attribute("DeviceSerialNumber", 0x00181000, "LO", follows="Manufacturer"),
        Attribute("DeviceUID", 0x00181002, "UI", follows="Manufacturer"),
        Attribute("SoftwareVersions", 0x00181020, "LO", follows="Manufacturer", many=True),
        Attribute("SeriesNumber", 0x00200011, "IS"),
        Attribute("Laterality", 0x00200060, "CS"),
        Attribute("PerformedProcedureStepStartDate", 0x00400244, "DA", pick="earliest"),
        Attribute("PerformedProcedureStepStartTime", 0x00400245, "TM", follows="PerformedProcedureStepStartDate"),
        Attribute("SpecimenIdentifier", 0x00400551, "LO"),
        Attribute(
            "IssuerOfTheSpecimenIdentifierSequence", 0x00400562, "SQ", follows="SpecimenIdentifier", items=ISSUER
        ),
        Attribute("SpecimenDescriptionSequence", 0x00400560, "SQ", pick="every", items=_SPECIMEN),
        # acquisition parameters that are the same throughout a series; profiles use them
        Attribute("ContrastBolusAgent", 0x00180010, "LO"),
        Attribute("ContrastBolusAgentSequence", 0x00180012, "SQ", items=CODE),
        Attribute("ContrastBolusStartTime", 0x00181042, "TM", follows="ContrastBolusAgent"),
        Attribute("ContrastBolusStopTime", 0x00181043, "TM", follows="ContrastBolusAgent"),
        Attribute("ScanningSequence", 0x00180020, "CS", many=True),
        Attribute("SequenceVariant", 0x00180021, "CS", many=True),
        Attribute("MRAcquisitionType", 0x00180023, "CS"),
        Attribute("SliceThickness", 0x00180050, "DS"),
        Attribute("KVP", 0x00180060, "DS"),
        Attribute("RepetitionTime", 0x00180080, "DS"),
        Attribute("EchoTime", 0x00180081, "DS", instead=(_a("EffectiveEchoTime", 0x00189082, "FD"),)),
        Attribute(
            "InversionTime", 0x00180082, "DS", instead=(Attribute("InversionTimes", 0x00189079, "FD", many=True),)
        ),
        Attribute(
            "ImagingFrequency",
            0x00180084,
            "DS",
            instead=(Attribute("TransmitterFrequency", 0x00189098, "FD", many=True),),
        ),
        Attribute("MagneticFieldStrength", 0x00180087, "DS"),
        Attribute("DataCollectionDiameter", 0x00180090, "DS"),
        Attribute("ReconstructionDiameter", 0x00181100, "DS"),
        Attribute("FilterType", 0x00181160, "SH"),
        Attribute("ConvolutionKernel", 0x00181210, "SH", many=True),
        Attribute("ReceiveCoilName", 0x00181250, "SH"),
        Attribute("FlipAngle", 0x00181314, "DS"),
        Attribute("TransducerFrequency", 0x00186030, "UL"),
        Attribute("TransducerType", 0x00186031, "CS"),
        Attribute("PulseRepetitionFrequency", 0x00186032, "UL"),
        Attribute("SpiralPitchFactor", 0x00189311, "FD"),
        Attribute("ReconstructionFieldOfView", 0x00189317, "FD", many=True),
        Attribute("Rows", 0x00280010, "US"),
        Attribute("Columns", 0x00280011, "US"),
        Attribute("PixelSpacing", 0x00280030, "DS", many=True),
        Attribute("BurnedInAnnotation", 0x00280301, "CS"),
        Attribute("MeasurementUnitsCodeSequence", 0x004008EA, "SQ", items=CODE),
        Attribute("RadiopharmaceuticalInformationSequence", 0x00540016, "SQ", items=_TRACER),
        Attribute("SeriesType", 0x00541000, "CS", many=True),
        Attribute("Units", 0x00541001, "CS"),
        Attribute(
            "AttenuationCorrectionMethod",
            0x00541101,
            "LO",
            instead=(_a("AttenuationCorrectionSource", 0x00189738, "CS"),),
        ),
        Attribute("ReconstructionMethod", 0x00541103, "LO", instead=(_a("ReconstructionAlgorithm", 0x00189315, "CS"),)),
        Attribute("ScatterCorrectionMethod", 0x00541105, "LO"),
    ),
    "instance": (
        Attribute("ImageType", 0x00080008, "CS", many=True),
        Attribute("SOPClassUID", 0x00080016, "UI"),
        Attribute("AcquisitionDate", 0x00080022, "DA"),
        Attribute("ContentDate", 0x00080023, "DA"),
        Attribute("AcquisitionDateTime", 0x0008002A, "DT", instead=(_a("FrameAcquisitionDateTime", 0x00189074, "DT"),)),
        Attribute("AcquisitionTime", 0x00080032, "TM"),
        Attribute("ContentTime", 0x00080033, "TM"),
        Attribute("InstanceAvailability", 0x00080056, "CS"),
        Attribute("InstanceNumber", 0x00200013, "IS"),
        Attribute("NumberOfFrames", 0x00280008, "IS"),
        # the region belongs to the series; its modifier may change from image to image (PS3.3 tables 10-5 to 10-7)
        Attribute("AnatomicRegionSequence", 0x00082218, "SQ", items=_REGION_MODIFIER),
        Attribute("ImageLaterality", 0x00200062, "CS", instead=(_a("FrameLaterality", 0x00209072, "CS"),)),
        Attribute("AcquisitionDuration", 0x00189073, "FD"),
        Attribute("ConceptNameCodeSequence", 0x0040A043, "SQ", items=CODE),
        Attribute("CompletionFlag", 0x0040A491, "CS"),
        Attribute("VerificationFlag", 0x0040A493, "CS"),
        Attribute("PreliminaryFlag", 0x0040A496, "CS"),
        Attribute("HL7InstanceIdentifier", 0x0040E001, "ST"),
        Attribute("RetrieveLocationUID", 0x0040E011, "UI"),
        Attribute("DocumentTitle", 0x00420010, "ST"),
        Attribute("ContentLabel", 0x00700080, "CS"),
        # these change from image to image: at series level each image would need its own mapping
        Attribute("SequenceName", 0x00180024, "SH", instead=(_a("PulseSequenceName", 0x00189005, "SH"),)),
        Attribute(
            "ExposureTime",
            0x00181150,
            "IS",
            instead=(
                _a("ExposureTimeInms", 0x00189328, "FD"),
                Attribute("ExposureTimeInuS", 0x00188150, "DS", factor=_MICRO),
            ),
        ),
        Attribute(
            "XRayTubeCurrent",
            0x00181151,
            "IS",
            instead=(
                _a("XRayTubeCurrentInmA", 0x00189330, "FD"),
                Attribute("XRayTubeCurrentInuA", 0x00188151, "DS", factor=_MICRO),
            ),
        ),
        Attribute(
            "Exposure",
            0x00181152,
            "IS",
            instead=(
                _a("ExposureInmAs", 0x00189332, "FD"),
                Attribute("ExposureInuAs", 0x00181153, "IS", factor=_MICRO),
            ),
        ),
        Attribute("ViewPosition", 0x00185101, "CS"),
        Attribute("CTDIvol", 0x00189345, "FD"),
        Attribute("PatientOrientation", 0x00200020, "CS", many=True),
        Attribute("UltrasoundColorDataPresent", 0x00280014, "US"),
        Attribute("ViewCodeSequence", 0x00540220, "SQ", items=CODE),
    ),
}

UIDS = (
    _a("SOPInstanceUID", 0x00080018, "UI"),
    _a("StudyInstanceUID", 0x0020000D, "UI"),
    _a("SeriesInstanceUID", 0x0020000E, "UI"),
)
"""The UIDs that identify an instance; fields of the record, not attributes of a level."""

SPECIFIC_CHARACTER_SET = Attribute("SpecificCharacterSet", 0x00080005, "CS", many=True)


HELD = (*LEVELS["series"], *LEVELS["instance"])
"""Attributes that may be in functional groups and similar sequences."""


def taken() -> Iterator[Attribute]:
    """Every top-level attribute that is read, including the UIDs and the character set."""
    yield SPECIFIC_CHARACTER_SET
    yield from UIDS
    for attributes in LEVELS.values():
        yield from attributes
