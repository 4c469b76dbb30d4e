"""Snapshots of what code makes of the generated cases, each held beside the number that the code has for itself.

A test holds that code with the same number makes the same of the same input. ``make_reader`` and ``make_mapping`` take
the snapshots.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """Hashes of a case's input and of its output."""

    input: str
    output: str


@dataclass(frozen=True)
class Snapshot:
    """What code with a fingerprint made of each case."""

    fingerprint: str
    cases: Mapping[str, Seen]

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """The snapshot in a file."""
        kept = json.loads(path.read_text())
        return cls(kept["fingerprint"], {name: Seen(*seen) for name, seen in kept["cases"].items()})

    def write(self, path: Path) -> None:
        """Keep the snapshot in a file, one line for each case."""
        cases = ",\n".join(f"  {json.dumps(name)}: {json.dumps(seen)}" for name, seen in sorted(self.cases.items()))
        path.write_text(f'{{"fingerprint": "{self.fingerprint}", "cases": {{\n{cases}\n}}}}\n')

    def differences(self, now: Snapshot) -> list[str]:
        """Cases whose input is the same and whose output is another."""
        return [
            name
            for name, seen in self.cases.items()
            if name in now.cases and now.cases[name].input == seen.input and now.cases[name].output != seen.output
        ]


def hashed(*parts: bytes) -> str:
    """A short hash of byte strings and of where each ends."""
    digest = blake2b(digest_size=6)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def retake(path: Path, now: Snapshot, number: str) -> None:
    """Write a snapshot, unless the last one has the same fingerprint and other output; ``number`` is to be raised."""
    if path.exists():
        before = Snapshot.read(path)
        if before.fingerprint == now.fingerprint and (changed := before.differences(now)):
            sys.exit(f"other output with the same fingerprint, raise {number}: {', '.join(changed)}")
    now.write(path)
