"""What moves: the tables of a store, which are the same in a file and in a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from dicom2fhir.store.postgres.statements import storable
from dicom2fhir.store.sql.statements import Row

MOVED = (
    *("reader", "study", "destination", "due_rule", "attrs", "series", "instance", "delivery", "base", "inflight"),
    *("settlement", "origin", "source_folder", "availability", "notification", "step", "awaited", "mention"),
    *("rejected_instance", "rejection", "file", "study_index", "study_key", "attempt", "counted_minute"),
    *("forgotten", "sealed"),
)
"""In the order of their references."""
LEFT_OUT: Mapping[str, str] = {
    "total": "becomes rows of counter",
    "tally": "becomes rows of counter",
    "made": "becomes rows of counter",
    "rejected": "becomes rows of counter",
    "reader.studies": "becomes rows of counter",
    "arrival": "a view",
    "instance_attrs": "a view",
}
"""Tables and columns of a file that a database does not have, and why."""
UNMOVED_TOTALS: Mapping[str, str] = {
    "attached_writes": "commands beside the daemon notice each other by the transactions of the database",
    "revisions": "a database does not lose what it has committed",
    "last_forgotten": "the next number of a study follows it",
}


class Digest(NamedTuple):
    """Number and content of rows, whatever their order."""

    rows: int
    content: int


def digest(rows: Iterable[Row]) -> Digest:
    """The digest of rows from either database, which store truth values in different ways."""
    number = content = 0
    for row in rows:
        plain = [int(value) if isinstance(value, bool) else storable(value) for value in row]
        content += int.from_bytes(blake2b(repr(plain).encode(), digest_size=16).digest(), "big")
        number += 1
    return Digest(number, content)
