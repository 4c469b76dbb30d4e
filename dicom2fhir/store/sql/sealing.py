"""Seals studies that every destination has and that have been quiet for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.known_rows import KnownRows
from dicom2fhir.store.sql.quiet_studies import QuietStudies, QuietStudy
from dicom2fhir.store.sql.sealed_rows import blocks_of, seal
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_index import Write


class Sealing:
    """Goes through the studies, and seals those that nothing is expected of; for one thread.

    Parameters
    ----------
    read, write
        A snapshot of the store; a transaction.
    known
        What the writer knows of the rows.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Statements]],
        write: Write,
        known: KnownRows,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._studies = QuietStudies(read, "sealable_studies")
        self._write = write
        self._known = known
        self._clock = clock

    def seal_some(self, quiet_s: float) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.seal_delivered`."""
        quiet_since = self._clock() - quiet_s
        found = self._studies.next_part(quiet_since=quiet_since)
        if found is None:
            return None
        return [study.uid for study in found if self._seal(study, quiet_since)]

    def _seal(self, study: QuietStudy, quiet_since: float) -> bool:
        def operation(sql: Statements) -> bool:
            if not self._studies.is_there(sql, study, quiet_since=quiet_since):
                return False
            if sql.all("study_instances", study_id=study.id) != rows:  # another reader has read some since
                return False
            self._known.forget_study(study.uid)
            seal(sql, study.id, blocks)
            return True

        try:
            with self._read() as sql:
                rows = sql.all("study_instances", study_id=study.id)
            blocks = blocks_of(rows)  # before the transaction, because nobody else can write during it
            return self._write(operation)
        except StoreDamaged:  # it stays, and whoever reads it reports that
            return False
