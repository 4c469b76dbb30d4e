"""Write ``dicom2fhir/fhir/version/data/snomed.json``: ``python -m tests.data.make_snomed``.

The SNOMED RT style code values that DICOM used before 2019, under the designators SRT, SNM3 and 99SDM, each with its
SNOMED CT concept id (PS3.16 Annex O, table O-1). The pairs are those that pydicom ships.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydicom.sr._snomed_dict import mapping

TABLE = Path(__file__).parents[2] / "dicom2fhir" / "fhir" / "version" / "data" / "snomed.json"


def main() -> None:
    """Run the command."""
    source = "DICOM PS3.16 Annex O, table O-1: SNOMED RT style code values and their SNOMED CT concept ids"
    TABLE.write_text(json.dumps({"_source": source, **dict(sorted(mapping["SRT"].items()))}, indent=0) + "\n")


if __name__ == "__main__":
    main()
