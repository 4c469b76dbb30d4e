"""The read-only part of a store: each call reads one snapshot and never waits for the writer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from dicom2fhir.dicom.patients import NamedPatient
from dicom2fhir.model import Study
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sql import interventions, status_queries, study_search
from dicom2fhir.store.sql.database import Database
from dicom2fhir.store.sql.forgotten import trace_of
from dicom2fhir.store.sql.rows import read_stated, rejection_of
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_rows import read_study
from dicom2fhir.store.statuses import DestinationStatus, Rejection, State, Stats, StudyStatus, Undelivered
from dicom2fhir.store.study_search import FoundStudy, MinuteCounts, Position, StudyAttempt, StudyDetails, StudyFilter


class StoreReader(Database):
    """The methods of :class:`dicom2fhir.store.base.Store` that only read.

    Parameters
    ----------
    reader
        Fingerprint of the reader of this process: see :mod:`dicom2fhir.dicom.reader_fingerprint`.
    """

    def __init__(self, reader: str) -> None:
        self._reader = reader

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """See :meth:`dicom2fhir.store.base.Store.rejections`."""
        with self._read() as sql:
            return [rejection_of(row) for row in sql.all("rejections", limit=limit)]

    def file_mark(self, path: str) -> FileMark | None:
        """See :meth:`dicom2fhir.store.file_marks.Ledger.file_mark`."""
        with self._read() as sql:
            return self._mark(sql, path)

    def file_marks(self, paths: Iterable[str]) -> Mapping[str, FileMark]:
        """See :meth:`dicom2fhir.store.file_marks.Ledger.file_marks`."""
        with self._read() as sql:
            return {path: mark for path in paths if (mark := self._mark(sql, path))}

    def _mark(self, sql: Statements, path: str) -> FileMark | None:
        row = sql.one("file_mark", path=os.fsencode(path), reader=self._reader)
        if row is None:
            return None
        size_bytes, mtime_ns, outcome, reason, by_other_reader = row
        return FileMark(path, size_bytes, mtime_ns, outcome, reason, bool(by_other_reader))

    def study(self, study_uid: str) -> Study | None:
        """See :meth:`dicom2fhir.store.base.Store.study`.

        Raises
        ------
        StoreDamaged
            The rows of this study cannot be read.
        """
        with self._read() as sql:
            return read_study(sql, study_uid)

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        """See :meth:`dicom2fhir.store.base.Store.patients`."""
        with self._read() as sql:
            row = sql.one("study_id", study_uid=study_uid)
            return interventions.patients_of(sql, row[0]) if row else []

    def stated(self, study_uid: str) -> Mapping[str, Sequence[str]]:
        """See :meth:`dicom2fhir.store.base.Store.stated`."""
        with self._read() as sql:
            row = sql.one("study_id", study_uid=study_uid)
            return read_stated(sql, row[0]) if row else {}

    def requeued(self, destination: str) -> int:
        """See :meth:`dicom2fhir.store.base.Store.requeued`."""
        with self._read() as sql:
            (count,) = sql.one("requeued", destination=destination) or (0,)
        return int(count)

    def study_status(self, study_uid: str) -> StudyStatus | None:
        """See :meth:`dicom2fhir.store.base.Store.study_status`."""
        with self._read() as sql:
            return status_queries.study_status(sql, study_uid)

    def forgotten_at(self, study_uid: str) -> float | None:
        """See :meth:`dicom2fhir.store.base.Store.forgotten_at`."""
        with self._read() as sql:
            trace = trace_of(sql, study_uid)
        return trace.at if trace else None

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        """See :meth:`dicom2fhir.store.base.Store.studies`."""
        with self._read() as sql:
            return status_queries.studies(sql, state, limit)

    def outdated_studies(self, limit: int = 100) -> Sequence[StudyStatus]:
        """See :meth:`dicom2fhir.store.base.Store.outdated_studies`."""
        with self._read() as sql:
            return status_queries.outdated_studies(sql, self._reader, limit)

    def oldest_undelivered(self) -> Undelivered | None:
        """See :meth:`dicom2fhir.store.base.Store.oldest_undelivered`."""
        with self._read() as sql:
            return status_queries.oldest_undelivered(sql)

    def destinations(self) -> Sequence[DestinationStatus]:
        """See :meth:`dicom2fhir.store.base.Store.destinations`."""
        with self._read() as sql:
            return status_queries.destinations(sql)

    def stats(self) -> Stats:
        """See :meth:`dicom2fhir.store.base.Store.stats`; deliveries are counted, one for each study and destination."""
        with self._read() as sql:
            return status_queries.stats(sql, self._reader)

    def find_studies(self, wanted: StudyFilter, after: Position | None = None, limit: int = 50) -> Sequence[FoundStudy]:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.find_studies`."""
        with self._read() as sql:
            return study_search.find_studies(sql, wanted, after, limit)

    def study_details(self, study_uid: str) -> StudyDetails | None:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.study_details`."""
        with self._read() as sql:
            return study_search.study_details(sql, study_uid)

    def last_sent(self, study_uid: str) -> Mapping[str, bytes]:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.last_sent`."""
        with self._read() as sql:
            return dict(sql.all("last_sent", study_uid=study_uid))

    def recent_attempts(self, since: float, limit: int = 100) -> Sequence[StudyAttempt]:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.recent_attempts`."""
        with self._read() as sql:
            return study_search.recent_attempts(sql, since, limit)

    def counts(self, since: float) -> Sequence[MinuteCounts]:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.counts`."""
        with self._read() as sql:
            return study_search.counts(sql, since)
