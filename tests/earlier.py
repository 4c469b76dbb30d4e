"""``python -m tests.earlier``: the bridge as a version whose reader had another revision."""

from __future__ import annotations

from dicom2fhir.dicom import fingerprint

fingerprint.READER_REVISION -= 1

if __name__ == "__main__":
    from dicom2fhir.cli import main

    main()
