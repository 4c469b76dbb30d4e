"""Stores as earlier versions of the schema have them, with the rows of a store of today."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from io import BytesIO
from pathlib import Path

from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.ingest import Ingest
from dicom2fhir.model import Origin
from dicom2fhir.store.sqlite.schema import APPLICATION_ID, steps
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import EncodedInstance

VERSIONS = range(1, len(steps()))
_TABLES = (
    *("destination", "reader", "study", "attrs", "series", "instance", "delivery", "base", "inflight"),
    *("rejection", "file", "origin", "settlement", "rejected_instance"),
)
"""In an order in which each row finds what it refers to."""
_COUNTED = {("study", "series"), ("study", "instances"), ("series", "instances"), ("reader", "studies")}
"""Columns that triggers keep."""
_ADDED = {"reader": (12, "id = -1")}
"""Table -> the version that adds a row by itself, and that row: no earlier store has it."""


def keep(store: SqliteStore, files: Iterable[EncodedInstance]) -> None:
    """Take files into a store, as every way in does."""
    ingest, reader = Ingest(store), InstanceReader()
    for file in files:
        ingest.receive(reader.read_file(BytesIO(file.file)).received(Origin("file")), reader)


def write_earlier(today: Path, earlier: Path, version: int) -> None:
    """Copy the rows into a store of a version, as far as it has room for them; its triggers count them."""
    with closing(sqlite3.connect(earlier, isolation_level=None)) as connection:
        for number, step in enumerate(steps()[:version], start=1):
            connection.executescript(f"BEGIN; {step}; PRAGMA user_version={number}; COMMIT;")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("ATTACH ? AS today", [str(today)])
        connection.execute("BEGIN")
        for table in _TABLES:
            columns = [name for name in _columns(connection, "main", table) if (table, name) not in _COUNTED]
            shared = [name for name in columns if name in _columns(connection, "today", table)]
            if shared:
                names = ", ".join(shared)
                added_by, row = _ADDED.get(table, (0, ""))
                rows = f"today.{table} WHERE NOT {row}" if version < added_by else f"today.{table}"
                connection.execute(f"INSERT OR IGNORE INTO main.{table} ({names}) SELECT {names} FROM {rows}")
        connection.execute("COMMIT")
        connection.execute("DETACH today")
        connection.execute("PRAGMA journal_mode=wal")


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]
