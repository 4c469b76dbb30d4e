"""Instances of studies whose rows this daemon knows: most of what comes over an association."""

from __future__ import annotations

from collections.abc import Sequence

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.store.sql.arrivals import KEY_COLUMNS, instances_as_json
from dicom2fhir.store.sql.known_rows import Arrival, KnownRows
from dicom2fhir.store.sql.statements import Statements


def add_known(sql: Statements, known: KnownRows, arrivals: Sequence[Arrival], now: float) -> bool:
    """Store instances by one statement; False if they must be looked up first, and nothing was stored.

    Other daemons may have changed what is known: the statement compares what decides how little an instance changes.
    """
    rows = [row for arrival in arrivals if (row := known.former_row(arrival))]
    if len(rows) < len(arrivals) or len({row[:KEY_COLUMNS] for row in rows}) < len(rows):
        return False
    found = sql.one(
        "arrive_known", instances=instances_as_json(rows), now=now, reader=known.reader, expired=RETENTION_EXPIRED
    )
    is_stored, is_reopened = found or (False, False)
    sql.wake |= bool(is_reopened)
    return bool(is_stored)
