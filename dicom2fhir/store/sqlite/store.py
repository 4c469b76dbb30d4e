"""The store of one process: an SQLite file with a write-ahead log, one writer at a time, group commit.

A call that changes something returns when it is on disk. Reads see one snapshot each and never wait for the writer.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import structlog

from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.store.base import (
    DEFAULT_MAX_WAIT_S,
    DEFAULT_MIN_FREE_BYTES,
    DEFAULT_QUIET_PERIOD_S,
    Change,
    Claim,
    Damage,
    DestinationStatus,
    Failing,
    FileMark,
    Rejection,
    State,
    Stats,
    StudyStatus,
)
from dicom2fhir.store.sqlite import arrivals, damage, deliveries, interventions, status_queries
from dicom2fhir.store.sqlite.arrivals import Arrival, DueRule
from dicom2fhir.store.sqlite.clock import Clock
from dicom2fhir.store.sqlite.disk import Anchor, Room, Space, is_locked, require_permission
from dicom2fhir.store.sqlite.ownership import follow, lock_path, own
from dicom2fhir.store.sqlite.progress_mark import Progress
from dicom2fhir.store.sqlite.read_connections import Readers
from dicom2fhir.store.sqlite.rows import Packer, read_records, read_stated, rejection_of
from dicom2fhir.store.sqlite.schema import connect, is_damage, require_version, steps
from dicom2fhir.store.sqlite.statements import Statements
from dicom2fhir.store.sqlite.writer import Writer

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Access(Enum):
    """What a process wants with the file."""

    OWN = "own"
    """The daemon: migrates it, ends leases and associations of its former life, keeps other daemons out."""
    ATTACH = "attach"
    """Short writes beside a daemon that may be running."""
    READ = "read"


class SqliteStore:
    """:class:`dicom2fhir.store.base.Store` in one SQLite file.

    Parameters
    ----------
    path
        The file; ``path``-wal, ``path``-shm and ``path``.lock lie beside it. Made when absent, for its user only.
    quiet_period_s, max_wait_s
        A study is due when nothing changed for the one, at the latest the other after its first undelivered change.
    clock, steady
        Seconds since the epoch; seconds that only go forward: see :class:`dicom2fhir.store.sqlite.clock.Clock`.
    min_free_bytes
        Below this :meth:`add` raises :class:`dicom2fhir.errors.OutOfSpace`.
    busy_timeout_s
        How long another process may keep the file.
    on_failure
        Called once, in any thread, with the reason why nothing can be written any more (:attr:`failure`).
    reader
        What instances and files are read by in this process: see :mod:`dicom2fhir.dicom.reader_fingerprint`.

    Attributes
    ----------
    set_aside
        Where a damaged file went that was found here; None when there was none.

    Raises
    ------
    ConfigError
        Another daemon uses the file, it lies on a network file system, or it is of a newer version or another program.
    StoreUnavailable
        It cannot be opened as it must be.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        quiet_period_s: float = DEFAULT_QUIET_PERIOD_S,
        max_wait_s: float = DEFAULT_MAX_WAIT_S,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        min_free_bytes: int = DEFAULT_MIN_FREE_BYTES,
        busy_timeout_s: float = 5.0,
        on_failure: Callable[[str], None] = lambda _reason: None,
        reader: str = "",
        access: Access = Access.OWN,
    ) -> None:
        self.path = Path(path).absolute()
        self.set_aside: Path | None = None
        self._rule = DueRule(quiet_period_s=quiet_period_s, max_wait_s=max_wait_s)
        self._clock = Clock(clock, steady)
        self._space = Space(self.path.parent, min_free_bytes)
        self._subscribers: tuple[Callable[[], None], ...] = ()
        self._wake = False
        self._packer = Packer()
        self._reader = reader
        self._owns = access is Access.OWN
        self._known = arrivals.KnownRows(sees_claims=self._owns)
        self._ended: set[str] = set()
        """Associations that hold studies although they have ended, because that could not be written."""
        self._writer: Writer | None = None
        self._progress: Progress | None = None
        with ExitStack() as undo:  # in reverse order, because the last connection to close brings the WAL home
            writing = None
            if self._owns:
                lock, writing, self.set_aside = own(self.path, steps(), self._end_former_life, busy_timeout_s)
                undo.callback(os.close, lock)
            else:
                require_permission(self.path, os.R_OK if access is Access.READ else os.R_OK | os.W_OK)
            if access is Access.ATTACH:
                writing = connect(self.path, read_only=False, busy_timeout_s=busy_timeout_s)
            if writing and self._owns:
                self._progress = follow(self.path, Statements(writing))
                undo.callback(self._progress.close)
            if writing:
                self._writer = Writer(
                    writing,
                    confirm=self._confirm,
                    on_commit=self._notify,
                    on_roll_back=self._known.forget,
                    on_failure=on_failure,
                )
                undo.callback(self._writer.close)
            self._readers = Readers(self.path, busy_timeout_s)
            undo.callback(self._readers.close)
            with self._readers.snapshot() as connection:
                require_version(connection, self.path, len(steps()), exact=True)
            if self._writer:
                file, log, index = (self.path.with_name(f"{self.path.name}{end}") for end in damage.FILES)
                self._anchor, self._index_anchor = Anchor(file, log), Anchor(index)
                self._known.reader = self._reader_number()
            undo.callback(self._end_progress)
            self._undo = undo.pop_all()

    @classmethod
    def open_readonly(cls, path: str | os.PathLike[str], **options: Any) -> SqliteStore:
        """Open a store to look at it, beside a daemon or without one; every change raises StoreUnavailable."""
        return cls(path, **options, access=Access.READ)

    @classmethod
    def attach(cls, path: str | os.PathLike[str], **options: Any) -> SqliteStore:
        """Open a store for short writes (:meth:`requeue`, :meth:`add_many`) beside a daemon or without one."""
        return cls(path, **options, access=Access.ATTACH)

    def _end_former_life(self, sql: Statements) -> None:
        arrivals.end_former_life(sql, self._clock.now(), self._rule)

    def _reader_number(self) -> int:
        with self._read() as sql:
            row = sql.one("reader_id", fingerprint=self._reader)
        return row[0] if row else self._write(lambda sql: arrivals.reader_number(sql, self._reader))

    @property
    def is_owned(self) -> bool:
        """Whether a daemon, this process or another, uses the store now."""
        return is_locked(lock_path(self.path))

    @property
    def room(self) -> Room:
        """How much room the disk has for what comes in; OSError where it does not answer."""
        return self._space.room

    @property
    def failure(self) -> str | None:
        """Why nothing can be written any more; None while all is well."""
        return self._writer.failure if self._writer else None

    @property
    def damages(self) -> Sequence[Damage]:
        """What happened to the file and nobody has acknowledged; the oldest first."""
        return damage.damages(self.path)

    def look(self) -> None:
        """See that the files are still those that were opened, and write down the progress; to be called every second.

        The store has failed where they are not.
        """
        try:
            self._confirm()
            self._index_anchor.check()
            self._note_progress()
        except (StoreUnavailable, OSError) as error:
            self._require_writer().fail(str(error))

    def _note_progress(self) -> None:
        if self._progress:
            with self._read() as sql:
                self._progress.follow(sql)

    def _end_progress(self) -> None:
        with suppress(StoreUnavailable, OSError):  # what the store failed for has been said
            self._note_progress()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.subscribe`."""
        self._subscribers = (*self._subscribers, callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.unsubscribe`."""
        self._subscribers = tuple(one for one in self._subscribers if one != callback)

    def close(self) -> None:
        """Commit what waits, end the writer's thread, close the files, give up the lock; again is harmless."""
        self._undo.close()

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        """See :meth:`dicom2fhir.store.base.Store.add`.

        Raises
        ------
        OutOfSpace
            The disk is below its watermark.
        CannotUnderstand
            The record is not JSON as it stands.
        """
        self._space.check()
        arrival = Arrival(self._packer.pack(record), origin.association, origin.calling_ae)
        self._require_writer().run_together(self._add, arrival)

    def _add(self, connection: sqlite3.Connection, waiting: Sequence[Arrival]) -> Sequence[None]:
        sql = Statements(connection)
        arrivals.add(sql, self._known, waiting, self._clock.now(), self._rule)
        self._wake |= sql.wake
        return [None] * len(waiting)

    def add_many(
        self,
        records: Sequence[InstanceRecord],
        origin: Origin,
        marks: Sequence[FileMark] = (),
        rejections: Sequence[Rejection] = (),
    ) -> Sequence[Change]:
        """See :meth:`dicom2fhir.store.base.Store.add_many`; raises what :meth:`add` does."""
        self._space.check()
        batch = [Arrival(self._packer.pack(record), origin.association, origin.calling_ae) for record in records]

        def operation(sql: Statements) -> Sequence[Change]:
            changes = arrivals.add_many(sql, self._known, batch, self._clock.now(), self._rule)
            arrivals.mark_files(sql, self._known, marks)
            for rejection in rejections:
                arrivals.reject(sql, rejection)
            return changes

        return self._write(operation)

    def association_ended(self, association: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.association_ended`."""
        try:
            self._end([association])
        except StoreUnavailable:
            with self._read() as sql:  # readers do not wait for whoever keeps the file
                holds = sql.all("held_by", association=association)
            if holds:
                self._ended.add(association)
            raise

    def _end(self, associations: Iterable[str]) -> None:
        def operation(sql: Statements) -> None:
            for association in associations:
                arrivals.end_association(sql, self._known, association, self._rule)

        self._write(operation)
        self._ended.difference_update(associations)

    def reject(self, rejection: Rejection) -> None:
        """See :meth:`dicom2fhir.store.base.Store.reject`; the latest 10,000 are kept, all are counted."""
        self._write(lambda sql: arrivals.reject(sql, rejection))

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """See :meth:`dicom2fhir.store.base.Store.rejections`."""
        with self._read() as sql:
            return [rejection_of(row) for row in sql.all("rejections", limit=limit)]

    def file_mark(self, path: str) -> FileMark | None:
        """See :meth:`dicom2fhir.store.base.Ledger.file_mark`."""
        with self._read() as sql:
            return self._mark(sql, path)

    def file_marks(self, paths: Iterable[str]) -> Mapping[str, FileMark]:
        """See :meth:`dicom2fhir.store.base.Ledger.file_marks`."""
        with self._read() as sql:
            return {path: mark for path in paths if (mark := self._mark(sql, path))}

    def _mark(self, sql: Statements, path: str) -> FileMark | None:
        row = sql.one("file_mark", path=os.fsencode(path), reader=self._reader)
        if row is None:
            return None
        size_bytes, mtime_ns, outcome, reason, by_other_reader = row
        return FileMark(path, size_bytes, mtime_ns, outcome, reason, bool(by_other_reader))

    def mark_file(self, mark: FileMark) -> None:
        """See :meth:`dicom2fhir.store.base.Ledger.mark_file`."""
        self._write(lambda sql: arrivals.mark_files(sql, self._known, [mark]))

    def set_destinations(self, names: Iterable[str]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_destinations`."""
        wanted = frozenset(names)
        self._write(lambda sql: deliveries.set_destinations(sql, wanted, self._clock.now(), self._rule))

    def set_mapping_fingerprint(self, destination: str, fingerprint: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_mapping_fingerprint`."""
        self._write(lambda sql: sql.run("set_mapping_fingerprint", destination=destination, fingerprint=fingerprint))

    def claim(self, destination: str, owner: str, lease_s: float, passed_over: int = 0) -> Claim | None:
        """See :meth:`dicom2fhir.store.base.Store.claim`; an owner may hold many studies, each once.

        Raises
        ------
        StoreUnavailable
            This process does not own the file: the owner would not know of the claim.
        """
        if not self._owns:
            raise StoreUnavailable(f"The store {self.path} was not opened to deliver from")
        self._catch_up()
        with self._read() as sql:  # asking costs the writer nothing while nothing is due
            if deliveries.claimable(sql, destination, self._clock.now()) is None:
                return None

        def operation(sql: Statements) -> Claim | None:
            return deliveries.claim(sql, destination, owner, lease_s, self._clock.now(), passed_over)

        return self._write(operation)

    def _catch_up(self) -> None:
        """Do what due times rest on and what could not be done before."""
        step_s = self._clock.step_s()
        if step_s:
            log.warning("store.clock_set", step_s=round(step_s, 1))
            self._follow_clock()
        if self._ended:
            self._end(tuple(self._ended))

    def _follow_clock(self) -> None:
        if self._writer:
            reading = self._clock.read()
            self._write(lambda sql: arrivals.follow_clock(sql, reading.now, self._rule))
            self._clock.forget_steps(reading)

    def next_due_at(self, destination: str) -> float | None:
        """See :meth:`dicom2fhir.store.base.Store.next_due_at`.

        A study that an association holds is due at its cap, one that is being sent when its lease ends.
        """
        self._catch_up()
        first, last = self._dues(destination)
        if last is not None and last > self._clock.now() + deliveries.horizon_s(self._rule):
            self._follow_clock()  # another process wrote while the clock was wrong
            first, _ = self._dues(destination)
        return first

    def _dues(self, destination: str) -> tuple[float | None, float | None]:
        with self._read() as sql:
            return sql.one("next_due", destination=destination) or (None, None)

    def study(self, study_uid: str) -> Study | None:
        """See :meth:`dicom2fhir.store.base.Store.study`.

        Raises
        ------
        StoreDamaged
            The rows of this study cannot be read.
        """
        with self._read() as sql:
            row = sql.one("study_row", study_uid=study_uid)
            if row is None:
                return None
            study_id, revision = row
            records = read_records(sql, study_id, study_uid)
            settlement = interventions.settlement_of(sql, study_id)
        return assemble(study_uid, revision, records, settlement)

    def patients(self, study_uid: str) -> Sequence[NamedPatient]:
        """See :meth:`dicom2fhir.store.base.Store.patients`."""
        with self._read() as sql:
            row = sql.one("study_id", study_uid=study_uid)
            return interventions.patients_of(sql, row[0]) if row else []

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.settle`."""
        self._write(lambda sql: interventions.settle_patients(sql, study_uid, verdicts, self._clock.now()))

    def forget(self, study_uid: str) -> bool:
        """See :meth:`dicom2fhir.store.base.Store.forget`; leases of a daemon that runs no more do not hold."""
        leases_hold = self.is_owned
        return self._write(lambda sql: interventions.forget(sql, study_uid, self._clock.now(), leases_hold))

    def stated(self, study_uid: str) -> Mapping[str, Sequence[str]]:
        """See :meth:`dicom2fhir.store.base.Store.stated`."""
        with self._read() as sql:
            row = sql.one("study_id", study_uid=study_uid)
            return read_stated(sql, row[0]) if row else {}

    def delivered(
        self,
        claim: Claim,
        revision: int,
        base: bytes,
        fingerprint: str = "",
        unlinked: str = "",
        accepted: bool = False,
    ) -> None:
        """See :meth:`dicom2fhir.store.base.Store.delivered`; where the lease has gone, only ``accepted`` counts."""
        now, rule = self._clock.now(), self._rule
        self._write(
            lambda sql: deliveries.delivered(
                sql, claim, revision, base, fingerprint, unlinked, now, rule, accepted=accepted
            ),
        )

    def failing(self, claim: Claim, most_s: float) -> Failing:
        """See :meth:`dicom2fhir.store.base.Store.failing`."""
        with self._read() as sql:
            return deliveries.failing(sql, claim, most_s, self._clock.now())

    def retry(
        self, claim: Claim, after_s: float, reason: str, count: bool = True, failing: Failing | None = None
    ) -> None:
        """See :meth:`dicom2fhir.store.base.Store.retry`; nothing happens when the lease has gone to another."""
        self._write(
            lambda sql: deliveries.retry(sql, claim, after_s, reason, count, failing, self._clock.now(), self._rule),
        )

    def refuse(self, claim: Claim, revision: int, reason: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.refuse`; nothing happens when the lease has gone to another."""
        self._write(lambda sql: deliveries.refuse(sql, claim, revision, reason, self._clock.now(), self._rule))

    def exclude(self, claim: Claim, reason: str, selection: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.exclude`; nothing happens when the lease has gone to another."""
        self._write(lambda sql: deliveries.exclude(sql, claim, reason, selection, self._rule))

    def set_selection(self, destination: str, selection: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_selection`."""
        self._write(lambda sql: deliveries.set_selection(sql, destination, selection, self._clock.now()))

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """See :meth:`dicom2fhir.store.base.Store.requeue`; what is being sent is left alone."""
        now = self._clock.now()
        self._write(lambda sql: sql.run("note_requeue", destination=destination))
        if study_uid is not None:
            return self._write(lambda sql: deliveries.requeue(sql, study_uid, destination, all_states, now))
        with self._read() as sql:
            (last,) = sql.one("last_study") or (None,)
        # by number and not by state, or what is delivered meanwhile would come round again
        firsts = range(0, (last or 0) + 1, deliveries.AT_ONCE)
        return sum(self._requeue_some(first, destination, all_states, now) for first in firsts)

    def _requeue_some(self, first: int, destination: str | None, all_states: bool, now: float) -> int:
        return self._write(lambda sql: deliveries.requeue_some(sql, first, destination, all_states, now))

    def relink(
        self,
        destination: str,
        study_uid: str | None = None,
        since: float = 0.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """See :meth:`dicom2fhir.store.base.Store.relink`."""
        now = self._clock.now()
        if study_uid is not None:
            return self._write(lambda sql: deliveries.relink(sql, study_uid, destination, now))
        with self._read() as sql:
            (last,) = sql.one("last_study") or (None,)
        count, total = 0, last or 0
        for first in range(0, total + 1, deliveries.AT_ONCE):
            count += self._relink_some(first, destination, since, now)
            if on_progress:
                on_progress(min(first + deliveries.AT_ONCE, total), total)
        return count

    def _relink_some(self, first: int, destination: str, since: float, now: float) -> int:
        return self._write(lambda sql: deliveries.relink_some(sql, first, destination, since, now))

    def requeued(self, destination: str) -> int:
        """See :meth:`dicom2fhir.store.base.Store.requeued`."""
        with self._read() as sql:
            (count,) = sql.one("requeued", destination=destination) or (0,)
        return int(count)

    def study_status(self, study_uid: str) -> StudyStatus | None:
        """See :meth:`dicom2fhir.store.base.Store.study_status`."""
        with self._read() as sql:
            return status_queries.study_status(sql, study_uid)

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        """See :meth:`dicom2fhir.store.base.Store.studies`."""
        with self._read() as sql:
            return status_queries.studies(sql, state, limit)

    def outdated_studies(self, limit: int = 100) -> Sequence[StudyStatus]:
        """See :meth:`dicom2fhir.store.base.Store.outdated_studies`."""
        with self._read() as sql:
            return status_queries.outdated_studies(sql, self._reader, limit)

    def destinations(self) -> Sequence[DestinationStatus]:
        """See :meth:`dicom2fhir.store.base.Store.destinations`."""
        with self._read() as sql:
            return status_queries.destinations(sql)

    def stats(self) -> Stats:
        """See :meth:`dicom2fhir.store.base.Store.stats`; deliveries are counted, one for each study and destination."""
        with self._read() as sql:
            return status_queries.stats(sql, self._reader)

    @contextmanager
    def _read(self) -> Iterator[Statements]:
        try:
            with self._readers.snapshot() as connection:
                yield Statements(connection)
        except StoreUnavailable as error:
            # What cannot be read must not go on acknowledging either.
            if self._writer and isinstance(error.__cause__, sqlite3.Error) and is_damage(error.__cause__):
                self._writer.fail(str(error))
            raise

    def _write(self, operation: Callable[[Statements], T]) -> T:
        def run(connection: sqlite3.Connection) -> T:
            sql = Statements(connection)
            value = operation(sql)
            self._wake |= sql.wake
            self._known.forget_deliveries(sql.claims_of)
            return value

        return self._require_writer().run(run)

    def _require_writer(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable(f"The store {self.path} was opened to read only")
        return self._writer

    def _confirm(self) -> None:
        self._anchor.check()

    def _notify(self) -> None:
        if self._wake:
            self._wake = False
            for callback in self._subscribers:
                callback()
