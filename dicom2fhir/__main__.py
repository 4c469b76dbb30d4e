"""``python -m dicom2fhir`` is ``dicom2fhir``."""

from dicom2fhir.cli import main

if __name__ == "__main__":
    main()
