"""Write ``dicom2fhir/fhir/version/data/record_types.json``: ``python -m tests.data.make_record_types``.

The Directory Record Type (0004,1430) of each storage SOP class of PS3.6, which is what a DICOMDIR calls its instances
(PS3.3 F.3.2.2). The SOP classes are those of pydicom's dictionary, and so are their types, where pydicom has one. What
stands below is from the directory record definitions of PS3.3 F.5 for the others, and from those of PS3.3-2004 for
retired SOP classes. A SOP class that has no record type (protocols, and what belongs to security and to material
testing) is in :data:`WITHOUT`, so that a new one is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import fileset
from pydicom._uid_dict import UID_dictionary

TABLE = Path(__file__).parents[2] / "dicom2fhir" / "fhir" / "version" / "data" / "record_types.json"

_BEGINNINGS: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.11.": "PRESENTATION",
    "1.2.840.10008.5.1.4.1.1.9.": "WAVEFORM",
    "1.2.840.10008.5.1.4.1.1.88.": "SR DOCUMENT",
    "1.2.840.10008.5.1.4.1.1.104.": "ENCAP DOC",
    "1.2.840.10008.5.1.4.34.": "PLAN",
}
"""How the UIDs of SOP classes begin that are all of one type (F.5.23, 24, 25, 32 and 40)."""

_OTHERS: Mapping[str, str] = {
    "1.2.840.10008.5.1.1.27": "STORED PRINT",  # retired
    "1.2.840.10008.5.1.4.1.1.8": "OVERLAY",  # retired
    "1.2.840.10008.5.1.4.1.1.9": "CURVE",  # retired
    "1.2.840.10008.5.1.4.1.1.129": "CURVE",  # retired
    "1.2.840.10008.5.1.4.1.1.10": "MODALITY LUT",  # retired
    "1.2.840.10008.5.1.4.1.1.11": "VOI LUT",  # retired
    "1.2.840.10008.5.1.4.1.1.78.8": "MEASUREMENT",  # F.5.41: Intraocular Lens Calculations has the Measurements IE
    "1.2.840.10008.5.1.4.1.1.91.1": "ANNOTATION",  # F.5.47
    "1.2.840.10008.5.1.4.1.1.201.1": "INVENTORY",  # F.5.48
    "1.2.840.10008.5.1.4.1.1.481.5": "RT PLAN",  # F.5.21
    "1.2.840.10008.5.1.4.1.1.481.8": "RT PLAN",  # F.5.21
    # F.5.46: the second generation (A.86.1), whose images are images
    **dict.fromkeys((f"1.2.840.10008.5.1.4.1.1.481.{n}" for n in (*range(10, 23), 25)), "RADIOTHERAPY"),
}

_IMAGES_OF_OTHER_NAMES = {
    "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
    "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation, after pydicom's edition
    "1.2.840.10008.5.1.4.1.1.66.8",  # Height Map Segmentation, after pydicom's edition
    "1.2.840.10008.5.1.4.1.1.77.1.5.8",  # Ophthalmic Optical Coherence Tomography B-scan Volume Analysis
    "1.2.840.10008.5.1.4.1.1.81.1",  # Ophthalmic Thickness Map
    "1.2.840.10008.5.1.4.1.1.82.1",  # Corneal Topography Map
    "1.2.840.10008.5.1.4.1.1.501.4",  # DICOS 2D AIT
    "1.2.840.10008.5.1.4.1.1.501.5",  # DICOS 3D AIT
}
"""SOP classes whose instances have the Image IE, though they are not called images (F.5.4)."""

WITHOUT = {
    "1.2.840.10008.1.3.10",  # Media Storage Directory: the DICOMDIR itself
    "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.200.2",  # CT Performed Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
    "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.200.8",  # XA Performed Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.501.3",  # DICOS Threat Detection Report
    "1.2.840.10008.5.1.4.1.1.501.6",  # DICOS Quadrupole Resonance
}
"""Storage SOP classes that no directory record type is defined for."""


def storage_sop_classes() -> dict[str, str]:
    """UID -> name of every storage SOP class of pydicom's dictionary."""
    return {
        uid: name
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and "Commitment" not in name
    }


def pydicom_types() -> dict[str, str]:
    """UID -> record type, of the SOP classes that pydicom knows to be no images."""
    internals: Any = fileset
    return {str(uid): str(type_) for uid, type_ in internals._FOUR_LEVEL_SOP_CLASSES.items()} | {
        str(uid): str(type_) for uid, type_ in internals._SINGLE_LEVEL_SOP_CLASSES.items()
    }


def record_type(uid: str, name: str) -> str:
    """The record type of a SOP class; empty when this script does not know it."""
    known = pydicom_types().get(uid) or _OTHERS.get(uid)
    if known:
        return known
    beginning = next((type_ for start, type_ in _BEGINNINGS.items() if uid.startswith(start)), "")
    return beginning or ("IMAGE" if "Image" in name or uid in _IMAGES_OF_OTHER_NAMES else "")


def main() -> None:
    """Run the command."""
    names = dict.fromkeys(_IMAGES_OF_OTHER_NAMES, "") | storage_sop_classes()
    types = {uid: record_type(uid, name) for uid, name in sorted(names.items()) if uid not in WITHOUT}
    if unknown := [uid for uid, type_ in types.items() if not type_]:
        raise SystemExit(f"of which type are {', '.join(unknown)}?")
    source = "DICOM PS3.3 F.3.2.2 and F.5; tests/data/make_record_types.py says what is from where"
    TABLE.write_text(json.dumps({"_source": source, **types}, indent=1) + "\n")


if __name__ == "__main__":
    main()
