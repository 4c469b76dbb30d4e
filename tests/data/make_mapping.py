"""Write ``mapping.json``, hashes of all golden files: ``python -m tests.data.make_mapping``.

Beside them stands the revision of the mapping. A test holds that golden files which changed have another revision.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dicom2fhir.fhir.mapping.engine import MAPPING_REVISION
from testdata.make_cases import CASES, case_of, expected_file, organization_of, profile_of, study_and_options, variants
from tests.data.snapshots import Seen, Snapshot, hashed, retake

SNAPSHOT = Path(__file__).with_name("mapping.json")


def observe() -> Snapshot:
    """What every golden case is mapped to."""
    seen = {
        f"{name} {variant}": Seen(hashed(_study(name), _options(name, variant)), hashed(_output(name, variant)))
        for name in CASES
        for variant in variants(name)
    }
    return Snapshot(str(MAPPING_REVISION), seen)


def _study(name: str) -> bytes:
    study = asdict(study_and_options(name)[0])
    del study["notes"]  # their words may change
    return json.dumps(study, default=sorted, sort_keys=True).encode()


def _options(name: str, variant: str) -> bytes:
    given = {key: value for key, value in case_of(name).items() if key in ("policy", "archive", "profile_missing")}
    profile = profile_of(variant)
    asked = [profile.content(), organization_of(profile)] if profile else None
    return json.dumps([given, asked], sort_keys=True).encode()


def _output(name: str, variant: str) -> bytes:
    text = expected_file(name, variant).read_bytes()
    return text if text.startswith(b"[") else b"refused"  # the words of a refusal may change


if __name__ == "__main__":
    retake(SNAPSHOT, observe(), "MAPPING_REVISION")
