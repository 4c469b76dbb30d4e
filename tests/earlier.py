"""``python -m tests.earlier``: the bridge as an earlier release, with another reader and without body sites."""

from __future__ import annotations

import dicom2fhir

dicom2fhir.__version__ = "0.0.1"  # before another module asks for it

from dicom2fhir.dicom import reader_fingerprint  # noqa: E402
from dicom2fhir.fhir.mapping import imaging_study  # noqa: E402

reader_fingerprint.READER_REVISION -= 1
imaging_study.body_site = lambda source: None  # before the rules refer to it

from dicom2fhir.fhir.mapping import engine  # noqa: E402

engine.MAPPING_REVISION -= 1

if __name__ == "__main__":
    from dicom2fhir.cli import main

    main()
