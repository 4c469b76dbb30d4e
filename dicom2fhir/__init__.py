"""A bridge from DICOM to FHIR: C-STORE and folders in, ImagingStudy on a FHIR server out."""

__version__ = "0.2.0"
