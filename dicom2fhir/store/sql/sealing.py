"""Seals studies that no destination waits for and that have been quiet for long."""

from __future__ import annotations

from collections.abc import Sequence

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.sealed_rows import blocks_of, seal
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.upkeep import QuietStudy, Upkeep


class Sealing(Upkeep):
    """Seals the studies of which nothing is expected, see ``sealable_studies``."""

    def seal_some(self, quiet_s: float) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.seal_delivered`."""
        quiet_since = self._clock() - quiet_s
        found = self._next_part(quiet_since=quiet_since)
        if found is None:
            return None
        return [study.uid for study in found if self._seal(study, quiet_since)]

    def _seal(self, study: QuietStudy, quiet_since: float) -> bool:
        try:
            with self._read() as sql:
                rows = sql.all("study_instances", study_id=study.id)
        except StoreDamaged:  # it stays, and whoever reads it reports that
            return False
        blocks = blocks_of(rows)  # before the transaction, because nobody else can write during it

        def operation(sql: Statements) -> bool:
            if sql.all("study_instances", study_id=study.id) != rows:  # another reader has read some since
                return False
            self._known.forget_study(study.uid)
            seal(sql, study.id, blocks)
            return True

        return self._change(study, operation, quiet_since=quiet_since)
