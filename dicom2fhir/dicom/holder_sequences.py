"""Sequences with attributes that other IODs have at the top level of the data set."""

from __future__ import annotations

from collections.abc import Mapping

FUNCTIONAL_GROUPS: Mapping[str, int] = {
    "PixelMeasuresSequence": 0x00289110,
    "FrameContentSequence": 0x00209111,
    "FrameAnatomySequence": 0x00209071,
    "PatientOrientationInFrameSequence": 0x00209450,
    "MRImagingModifierSequence": 0x00189006,
    "MRReceiveCoilSequence": 0x00189042,
    "MRTimingAndRelatedParametersSequence": 0x00189112,
    "MREchoSequence": 0x00189114,
    "MRModifierSequence": 0x00189115,
    "MRAveragesSequence": 0x00189119,
    "MRFOVGeometrySequence": 0x00189125,
    "CTAcquisitionTypeSequence": 0x00189301,
    "CTAcquisitionDetailsSequence": 0x00189304,
    "CTTableDynamicsSequence": 0x00189308,
    "CTGeometrySequence": 0x00189312,
    "CTReconstructionSequence": 0x00189314,
    "CTExposureSequence": 0x00189321,
    "CTXRayDetailsSequence": 0x00189325,
    "CTPositionSequence": 0x00189326,
    "FrameAcquisitionSequence": 0x00189417,
    "XRayAcquisitionDoseSequence": 0x00189542,
    "XRayFilterSequence": 0x00189556,
    "PETFrameAcquisitionSequence": 0x00189732,
    "PETReconstructionSequence": 0x00189749,
    "UnassignedSharedConvertedAttributesSequence": 0x00209170,
    "UnassignedPerFrameConvertedAttributesSequence": 0x00209171,
    "ContrastAdministrationProfileSequence": 0x00189340,
    "RealWorldValueMappingSequence": 0x00409096,
}
"""Sequences of the functional group macros with attributes of the table (PS3.3 C.7.6.16.2, and those of each IOD)."""

HOLDERS: Mapping[str, int] = {
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,  # of the first frame: reading ends there, see data_elements
    "MultienergyCTAcquisitionSequence": 0x00189362,
    "XRay3DAcquisitionSequence": 0x00189507,
    "SequenceOfUltrasoundRegions": 0x00186011,
    "ContrastBolusAgentSequence": 0x00180012,
}
"""Sequences with attributes that other IODs have at the top level, in order of precedence. Shared functional groups
apply to all frames (PS3.3 C.7.6.16). The others are defined in C.8.2.2, C.8.21.3, C.8.5.5 and C.7.6.4b."""
