"""Write ``reader.json``, what the reader makes of every generated file: ``python -m tests.data.make_reader``.

Hashes of the files of each case of ``testdata.make_dicom`` and of the records that they give, beside the reader's
fingerprint. A test holds that a reader which gives other records has another fingerprint.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from dicom2fhir.dicom.fingerprint import fingerprint
from dicom2fhir.errors import BridgeError
from testdata.make_cases import record_of
from testdata.make_dicom import CASES, encoded

SNAPSHOT = Path(__file__).with_name("reader.json")
_AT_MOST = 5
"""Files of a case: the others of a long series say nothing more."""


class Seen(NamedTuple):
    """Hashes of a case's files and of what came of them."""

    files: str
    records: str


def observe() -> dict[str, Seen]:
    """What the reader makes of every case."""
    found = {}
    for name in CASES:
        files = encoded(name)[:_AT_MOST]
        found[name] = Seen(_hash(*files), _hash(*map(_outcome, files)))
    return found


def differences(kept: dict[str, Seen], now: dict[str, Seen]) -> list[str]:
    """Cases whose files are the same and give something else."""
    return [
        name
        for name, seen in kept.items()
        if name in now and now[name].files == seen.files and now[name].records != seen.records
    ]


def snapshot() -> tuple[str, dict[str, Seen]]:
    """The fingerprint and what was observed when the snapshot was taken."""
    kept = json.loads(SNAPSHOT.read_text())
    return kept["fingerprint"], {name: Seen(*seen) for name, seen in kept["cases"].items()}


def _outcome(data: bytes) -> bytes:
    try:
        record = asdict(record_of(data))
    except BridgeError as error:
        return error.kind.encode()
    del record["notes"]  # their words may change
    return json.dumps(record, sort_keys=True).encode()


def _hash(*parts: bytes) -> str:
    digest = blake2b(digest_size=6)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def main() -> None:
    """Take the snapshot, unless a reader with the same fingerprint gave something else."""
    now = observe()
    if SNAPSHOT.exists():
        before, kept = snapshot()
        if before == fingerprint() and (changed := differences(kept, now)):
            sys.exit(f"read differently by the same fingerprint, raise READER_REVISION: {', '.join(changed)}")
    cases = ",\n".join(f"  {json.dumps(name)}: {json.dumps(seen)}" for name, seen in sorted(now.items()))
    SNAPSHOT.write_text(f'{{"fingerprint": "{fingerprint()}", "cases": {{\n{cases}\n}}}}\n')


if __name__ == "__main__":
    main()
