"""``instance.type`` up to 1.4.0: the Directory Record Type (PS3.3 F.3.2.2) of each SOP class."""

from __future__ import annotations

import json

import pytest
from pydicom import uid as sop

from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version import code_tables
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Instance, Series, Study
from tests.data.make_record_types import TABLE, WITHOUT, pydicom_types, record_type, storage_sop_classes

BY_THE_STANDARD = {
    sop.CTImageStorage: "IMAGE",
    sop.EnhancedMRImageStorage: "IMAGE",
    sop.SegmentationStorage: "IMAGE",
    sop.ParametricMapStorage: "IMAGE",
    sop.RTImageStorage: "IMAGE",
    sop.OphthalmicThicknessMapStorage: "IMAGE",
    sop.RTDoseStorage: "RT DOSE",
    sop.RTStructureSetStorage: "RT STRUCTURE SET",
    sop.RTPlanStorage: "RT PLAN",
    sop.RTIonPlanStorage: "RT PLAN",
    sop.RTBeamsTreatmentRecordStorage: "RT TREAT RECORD",
    sop.RTBrachyTreatmentRecordStorage: "RT TREAT RECORD",
    sop.RTTreatmentSummaryRecordStorage: "RT TREAT RECORD",
    sop.RTIonBeamsTreatmentRecordStorage: "RT TREAT RECORD",
    sop.RTBeamsDeliveryInstructionStorage: "PLAN",
    sop.RTPhysicianIntentStorage: "RADIOTHERAPY",
    sop.CArmPhotonElectronRadiationStorage: "RADIOTHERAPY",
    sop.GrayscaleSoftcopyPresentationStateStorage: "PRESENTATION",
    sop.VolumeRenderingVolumetricPresentationStateStorage: "PRESENTATION",
    sop.BasicStructuredDisplayStorage: "PRESENTATION",
    sop.TwelveLeadECGWaveformStorage: "WAVEFORM",
    sop.ComprehensiveSRStorage: "SR DOCUMENT",
    sop.XRayRadiationDoseSRStorage: "SR DOCUMENT",
    sop.SpectaclePrescriptionReportStorage: "SR DOCUMENT",
    sop.MacularGridThicknessAndVolumeReportStorage: "SR DOCUMENT",
    sop.KeyObjectSelectionDocumentStorage: "KEY OBJECT DOC",
    sop.MRSpectroscopyStorage: "SPECTROSCOPY",
    sop.RawDataStorage: "RAW DATA",
    sop.SpatialRegistrationStorage: "REGISTRATION",
    sop.DeformableSpatialRegistrationStorage: "REGISTRATION",
    sop.SpatialFiducialsStorage: "FIDUCIAL",
    sop.EncapsulatedPDFStorage: "ENCAP DOC",
    sop.EncapsulatedSTLStorage: "ENCAP DOC",
    sop.RealWorldValueMappingStorage: "VALUE MAP",
    sop.StereometricRelationshipStorage: "STEREOMETRIC",
    sop.LensometryMeasurementsStorage: "MEASUREMENT",
    sop.IntraocularLensCalculationsStorage: "MEASUREMENT",
    sop.SurfaceSegmentationStorage: "SURFACE",
    sop.SurfaceScanMeshStorage: "SURFACE SCAN",
    sop.TractographyResultsStorage: "TRACT",
    sop.ContentAssessmentResultsStorage: "ASSESSMENT",
    sop.MicroscopyBulkSimpleAnnotationsStorage: "ANNOTATION",
    sop.InventoryStorage: "INVENTORY",
    sop.HangingProtocolStorage: "HANGING PROTOCOL",
    sop.ColorPaletteStorage: "PALETTE",
    sop.GenericImplantTemplateStorage: "IMPLANT",
    sop.ImplantAssemblyTemplateStorage: "IMPLANT ASSY",
    sop.ImplantTemplateGroupStorage: "IMPLANT GROUP",
}


def type_in(version: str, sop_class: str) -> str | None:
    image = Instance("1.2.3", {"SOPClassUID": sop_class})
    made = Study("1.2.1", 1, {"PatientID": "P1"}, {}, (Series("1.2.2", {"Modality": "OT"}, (image,)),))
    (written,) = map_study(made, DIALECTS[version], MappingOptions()).entries[0].resource["series"][0]["instance"]
    type_: str | None = written.get("type")
    return type_


@pytest.mark.parametrize("version", ["DSTU2", "1.4.0"])
def test_each_sop_class_has_the_type_of_the_standard(version: str) -> None:
    assert {sop_class: type_in(version, sop_class) for sop_class in BY_THE_STANDARD} == BY_THE_STANDARD


@pytest.mark.parametrize("sop_class", ["1.2.826.0.1.3680043.8.498.1", sop.CTDefinedProcedureProtocolStorage])
def test_a_sop_class_without_directory_record_has_no_type(sop_class: str) -> None:
    assert type_in("DSTU2", sop_class) is None


def test_every_storage_sop_class_of_the_dictionary_has_a_type_or_is_known_to_have_none() -> None:
    assert storage_sop_classes().keys() <= code_tables.record_types().keys() | WITHOUT
    assert pydicom_types().items() <= code_tables.record_types().items()


def test_the_table_is_what_its_script_writes() -> None:
    table = json.loads(TABLE.read_text("utf-8"))
    for uid, name in storage_sop_classes().items():
        assert table.get(uid, "") == ("" if uid in WITHOUT else record_type(uid, name)), name
