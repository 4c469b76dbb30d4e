"""Move a store from a file to a database, batch by batch; a run that was killed is resumed by running it again.

A batch is one transaction, and the rows of a table move in the order of their keys, so that the number of rows that the
database has of a table tells where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.migration.source import Source
from dicom2fhir.store.migration.tables import MOVED, digest
from dicom2fhir.store.migration.target import Target
from dicom2fhir.store.sql.statements import Row
from dicom2fhir.system.text import counted

_BATCH_BYTES = 8 << 20
_ROW_BYTES = 100
"""What a row costs beside its texts, about."""
_REPORT_ROWS = 5_000

OnProgress = Callable[[str, int, int], None]
"""Called with what is done now, and how many rows of how many are done."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved.

    Attributes
    ----------
    source, target
        Path, and URL without password and options.
    rows
        By table, as compared in the end.
    instances
        How many there are, also in sealed studies.
    moved_before
        Of these by earlier runs.
    """

    source: str
    target: str
    rows: Mapping[str, int]
    instances: int
    moved_before: int

    def as_json(self) -> dict[str, object]:
        """The summary as JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The summary as text, with the next step."""
        counts = (counted(self.rows["study"], "study"), counted(self.instances, "instance"))
        rows = counted(sum(self.rows.values()), "row")
        before = f", {self.moved_before:,} of them by earlier runs" if self.moved_before else ""
        yield f"{self.source} was moved to {self.target} and compared: {' and '.join(counts)}, {rows}{before}."
        yield "In [store] of the configuration, replace directory by the url, then start the daemon."
        yield f"{self.source} was not changed. Start no daemon with it any more; it contains patient data."


def move(path: Path, url: str, on_progress: OnProgress) -> Moved:
    """Move a store, which no daemon may use, to a database without tables, and compare both.

    The file is not changed. Until the comparison has succeeded, daemons and commands refuse the database.

    Raises
    ------
    ConfigError, NoStore, StoreInUse, StoreUnavailable
        As :class:`~dicom2fhir.store.migration.source.Source` and :class:`~dicom2fhir.store.migration.target.Target`.
    StoreDamaged
        The rows in the database are not those of the file.
    """
    with Source(path) as source, Target(url, str(path)) as target:
        wanted = {table: source.count(table) for table in MOVED}
        present = {table: target.count(table) for table in MOVED}
        total, done = sum(wanted.values()), sum(present.values())
        on_progress("moving", done, total)
        for table in MOVED:
            rows, columns = source.rows(table, present[table]), source.columns(table)
            while added := target.add(table, columns, _batch(rows)):
                done += added
                on_progress("moving", done, total)
        _compare(source, target, wanted, on_progress)
        target.finish(source.counters(), source.total("last_forgotten"))
        return Moved(str(path), target.location, wanted, source.total("instances"), sum(present.values()))


def _batch(rows: Iterator[Row]) -> Iterator[Row]:
    """The next rows, as many as are moved in one transaction."""
    size = 0
    for row in rows:
        yield row
        size += _ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes | str))
        if size >= _BATCH_BYTES:
            return


def _compare(source: Source, target: Target, wanted: Mapping[str, int], on_progress: OnProgress) -> None:
    """Raise :class:`StoreDamaged` unless both hold the same rows."""
    done, total = 0, 2 * sum(wanted.values())

    def passing(rows: Iterator[Row]) -> Iterator[Row]:
        nonlocal done
        for row in rows:
            yield row
            done += 1
            if done % _REPORT_ROWS == 0:
                on_progress("comparing", done, total)

    on_progress("comparing", done, total)
    for table in MOVED:
        columns = source.columns(table)
        if digest(passing(source.rows(table))) != digest(passing(target.rows(table, columns))):
            raise StoreDamaged(
                f"Table {table} in {target.location} is not that of {source.path}: the store has changed since an"
                " earlier run began, or a row cannot be stored as it is. Run the command again with a new database"
            )
