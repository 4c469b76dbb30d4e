"""Write ``reader.json``, what the reader makes of every generated file: ``python -m tests.data.make_reader``.

Hashes of the files of each case of ``testdata.make_dicom`` and of the records that they give, beside the reader's
fingerprint. A test holds that a reader which gives other records has another fingerprint.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.errors import BridgeError
from testdata.make_cases import record_of
from testdata.make_dicom import CASES, encoded
from tests.data.snapshots import Seen, Snapshot, hashed, retake

SNAPSHOT = Path(__file__).with_name("reader.json")
_AT_MOST = 5
"""Files of a case: the others of a long series say nothing more."""


def observe() -> Snapshot:
    """What the reader makes of every case."""
    found = {}
    for name in CASES:
        files = encoded(name)[:_AT_MOST]
        found[name] = Seen(hashed(*files), hashed(*map(_outcome, files)))
    return Snapshot(fingerprint(), found)


def _outcome(data: bytes) -> bytes:
    try:
        record = asdict(record_of(data))
    except BridgeError as error:
        return error.kind.encode()
    del record["notes"]  # their words may change
    return json.dumps(record, sort_keys=True).encode()


if __name__ == "__main__":
    retake(SNAPSHOT, observe(), "READER_REVISION")
