"""The operations of a store in an SQL database.

A call that changes something returns when it is on disk. Reads see one snapshot each and never wait for the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.model import Attrs, AvailabilityNotification, InstanceRecord, Origin, ProcedureStep
from dicom2fhir.store.base import Change, Claim, Failing, Success
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sql import arrivals, deliveries, interventions, notices
from dicom2fhir.store.sql.clock import Clock
from dicom2fhir.store.sql.forgetting import Forgetting
from dicom2fhir.store.sql.known_rows import Arrival, KnownRows
from dicom2fhir.store.sql.reader import StoreReader
from dicom2fhir.store.sql.rows import Packer, short
from dicom2fhir.store.sql.sealing import Sealing
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.study_index import StudyIndex
from dicom2fhir.store.statuses import Rejection

log = structlog.get_logger(__name__)

T = TypeVar("T")


class SqlStore(StoreReader):
    """:class:`dicom2fhir.store.base.Store` in an SQL database.

    Parameters
    ----------
    quiet_period_s, max_wait_s
        A study is due when it has not changed for ``quiet_period_s``, at the latest ``max_wait_s`` after its first
        undelivered change. The rule of the daemon holds for all who write.
    clock
        The time.
    known
        What the writer knows of the rows.
    delivers
        Whether this process is a daemon.
    reader
        Fingerprint of the reader of this process: see :mod:`dicom2fhir.dicom.reader_fingerprint`.
    """

    def __init__(
        self,
        *,
        quiet_period_s: float,
        max_wait_s: float,
        clock: Clock,
        known: KnownRows,
        delivers: bool,
        reader: str,
    ) -> None:
        super().__init__(reader)
        self._rule = {"quiet_period_s": quiet_period_s, "max_wait_s": max_wait_s}
        self._horizon_s = deliveries.horizon_s(max_wait_s)
        self._clock = clock
        self._packer = Packer()
        self._study_index = StudyIndex(self._read, self._write, clock.now)
        access = (self._read, self._write, known, clock.now)
        self._forgetting = Forgetting("forgettable_studies", *access)
        self._sealing = Sealing("sealable_studies", *access)
        self._known = known
        self._delivers = delivers
        self._ended: set[str] = set()
        """Associations that have ended but still hold studies, because their end could not be written."""

    def _take_over(self, sql: Statements) -> None:
        sql.run("set_due_rule", **self._rule)
        arrivals.release_former_owners(sql)
        arrivals.follow_clock(sql, self._clock.now())  # it may have been set since

    def _learn_reader_number(self) -> None:
        with self._read() as sql:
            row = sql.one("reader_id", fingerprint=self._reader)
        number = row[0] if row else self._write(lambda sql: arrivals.reader_number(sql, self._reader))
        self._known.reader = number

    def add(self, record: InstanceRecord, origin: Origin) -> None:
        """See :meth:`dicom2fhir.store.base.Store.add`.

        Raises
        ------
        OutOfSpace
            Free space is below the watermark.
        CannotUnderstand
            The record cannot be encoded as JSON, or it is a rejection note that cannot be applied as a whole.
        """
        self._check_space()
        arrival = self._arrival(record, origin)
        self._commit_together(self._add, arrival)

    def _arrival(self, record: InstanceRecord, origin: Origin) -> Arrival:
        packed = self._packer.pack(record, origin.may_reject)
        return Arrival(
            packed, origin.association, origin.calling_ae, short(origin.folder), is_sent=origin.kind == "dimse"
        )

    def _add(self, connection: Any, waiting: Sequence[Arrival]) -> Sequence[None]:
        sql = self._statements(connection)
        arrivals.add(sql, self._known, waiting, self._clock.now())
        self._note_wake(sql)
        return [None] * len(waiting)

    def add_many(
        self,
        records: Sequence[InstanceRecord],
        origin: Origin,
        marks: Sequence[FileMark] = (),
        rejections: Sequence[Rejection] = (),
    ) -> Sequence[Change]:
        """See :meth:`dicom2fhir.store.base.Store.add_many`; raises what :meth:`add` does."""
        self._check_space()
        batch = [self._arrival(record, origin) for record in records]

        def operation(sql: Statements) -> Sequence[Change]:
            changes = arrivals.add_many(sql, self._known, batch, self._clock.now())
            arrivals.mark_files(sql, self._known, marks)
            for rejection in rejections:
                arrivals.reject(sql, rejection)
            return changes

        return self._write(operation)

    def state_availability(self, notification: AvailabilityNotification) -> None:
        """See :meth:`dicom2fhir.store.notices.Notices.state_availability`; raises what :meth:`add` does."""
        self._check_space()
        packed, now = notices.packed(notification), self._clock.now()
        self._write(lambda sql: notices.state(sql, self._known, packed, now))

    def create_step(self, step: ProcedureStep, origin: Origin) -> None:
        """See :meth:`dicom2fhir.store.notices.Notices.create_step`; raises what :meth:`add` does."""
        self._check_space()
        now, calling_ae = self._clock.now(), origin.calling_ae
        self._write(lambda sql: notices.create(sql, self._known, step, calling_ae, now))

    def update_step(self, uid: str, changes: Attrs) -> None:
        """See :meth:`dicom2fhir.store.notices.Notices.update_step`; raises what :meth:`add` does."""
        self._check_space()
        now = self._clock.now()
        self._write(lambda sql: notices.update(sql, self._known, uid, changes, now))

    def association_ended(self, association: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.association_ended`."""
        try:
            self._end([association])
        except StoreUnavailable:
            with self._read() as sql:  # readers do not wait for the process that has locked the file
                holds = sql.all("held_by", association=association)
            if holds:
                self._ended.add(association)
            raise

    def _end(self, associations: Iterable[str]) -> None:
        def operation(sql: Statements) -> None:
            for association in associations:
                arrivals.end_association(sql, self._known, association)

        self._write(operation)
        self._ended.difference_update(associations)

    def reject(self, rejection: Rejection) -> None:
        """See :meth:`dicom2fhir.store.base.Store.reject`; the latest 10,000 are stored, all are counted."""
        self._write(lambda sql: arrivals.reject(sql, rejection))

    def forget_rejections(self, until: float) -> int:
        """See :meth:`dicom2fhir.store.base.Store.forget_rejections`."""
        return self._write(lambda sql: sql.run("forget_rejections_until", until=until))

    def mark_file(self, mark: FileMark) -> None:
        """See :meth:`dicom2fhir.store.file_marks.Ledger.mark_file`."""
        self._write(lambda sql: arrivals.mark_files(sql, self._known, [mark]))

    def set_destinations(self, names: Iterable[str]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_destinations`."""
        wanted = frozenset(names)
        self._write(lambda sql: deliveries.set_destinations(sql, wanted, self._clock.now()))

    def set_mapping_fingerprint(self, destination: str, fingerprint: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_mapping_fingerprint`."""
        self._write(lambda sql: sql.run("set_mapping_fingerprint", destination=destination, fingerprint=fingerprint))

    def claim(
        self, destination: str, owner: str, lease_s: float, passed_over: int = 0, most: int = 1, workers: int = 1
    ) -> list[Claim]:
        """See :meth:`dicom2fhir.store.base.Store.claim`; an owner may hold many studies, each once.

        Raises
        ------
        StoreUnavailable
            This process is no daemon: the daemon would not see the claims.
        """
        if not self._delivers:
            raise StoreUnavailable(f"The store {self.location} was not opened to deliver from")
        self._catch_up()
        with self._read() as sql:  # no load for the writer while nothing is due
            number = deliveries.share(sql, destination, most, workers, self._clock.now())
        if not number:
            return []
        return self._write(
            lambda sql: deliveries.claim(sql, destination, owner, lease_s, self._clock.now(), passed_over, number)
        )

    def release(self, claims: Collection[Claim]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.release`; ignores claims whose lease was lost."""
        self._write(lambda sql: deliveries.release(sql, claims))

    def _catch_up(self) -> None:
        """Correct due times after a step of the clock, and write ends of associations that could not be written."""
        step_s = self._clock.step_s()
        if step_s:
            log.warning("store.clock_set", step_s=round(step_s, 1))
            self._follow_clock()
        if self._ended:
            self._end(tuple(self._ended))

    def _follow_clock(self) -> None:
        if self._writer:
            reading = self._clock.read()
            self._write(lambda sql: arrivals.follow_clock(sql, reading.now))
            self._clock.forget_steps(reading)

    def next_due_at(self, destination: str) -> float | None:
        """See :meth:`dicom2fhir.store.base.Store.next_due_at`.

        A study that an association holds is due after the longest wait, one that is being sent when its lease ends.
        """
        self._catch_up()
        first, last = self._dues(destination)
        if last is not None and last > self._clock.now() + self._horizon_s:
            self._follow_clock()  # another process wrote while the clock was wrong
            first, _ = self._dues(destination)
        return first

    def _dues(self, destination: str) -> tuple[float | None, float | None]:
        with self._read() as sql:
            return sql.one("next_due", destination=destination) or (None, None)

    def settle(self, study_uid: str, verdicts: Mapping[str, Verdict]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.settle`."""
        self._write(lambda sql: interventions.settle_patients(sql, study_uid, verdicts, self._clock.now()))

    def forget(self, study_uid: str) -> bool:
        """See :meth:`dicom2fhir.store.base.Store.forget`; leases of a daemon that no longer runs are ignored."""
        leases_hold = self.is_owned
        return self._write(
            lambda sql: interventions.forget(sql, self._known, study_uid, self._clock.now(), leases_hold)
        )

    def forget_delivered(self, quiet_s: float, most_instances: int | None = None) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.forget_delivered`; to be called by one thread."""
        return self._forgetting.forget_some(quiet_s, most_instances)

    def seal_delivered(self, quiet_s: float) -> Sequence[str] | None:
        """See :meth:`dicom2fhir.store.base.Store.seal_delivered`; to be called by one thread."""
        return self._sealing.seal_some(quiet_s)

    def delivered(self, successes: Sequence[Success]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.delivered`; if a lease was lost, only that the destination works."""
        now = self._clock.now()
        self._write(lambda sql: deliveries.delivered(sql, successes, now))

    def failing(self, claim: Claim, most_s: float) -> Failing:
        """See :meth:`dicom2fhir.store.base.Store.failing`."""
        with self._read() as sql:
            return deliveries.failing(sql, claim, most_s, self._clock.now())

    def retry(
        self, claim: Claim, after_s: float, reason: str, count: bool = True, failing: Failing | None = None
    ) -> None:
        """See :meth:`dicom2fhir.store.base.Store.retry`; does nothing if the lease was lost."""
        self._write(
            lambda sql: deliveries.retry(
                sql, claim, after_s, reason, count, failing, self._clock.now(), self._horizon_s
            ),
        )

    def refuse(self, claim: Claim, revision: int, reason: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.refuse`; does nothing if the lease was lost."""
        self._write(lambda sql: deliveries.refuse(sql, claim, revision, reason, self._clock.now()))

    def exclude(self, claim: Claim, reason: str, selection: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.exclude`; does nothing if the lease was lost."""
        now = self._clock.now()
        self._write(lambda sql: deliveries.exclude(sql, claim, reason, selection, now))

    def set_selection(self, destination: str, selection: str) -> None:
        """See :meth:`dicom2fhir.store.base.Store.set_selection`."""
        self._write(lambda sql: deliveries.set_selection(sql, destination, selection, self._clock.now()))

    def pause(self, destination: str) -> bool:
        """See :meth:`dicom2fhir.store.base.Store.pause`."""
        now = self._clock.now()
        return self._write(lambda sql: sql.run("pause", destination=destination, now=now) > 0)

    def resume(self, destination: str) -> bool:
        """See :meth:`dicom2fhir.store.base.Store.resume`; a daemon in another process notices it within 2 seconds."""
        return self._write(lambda sql: deliveries.resume(sql, destination))

    def requeue(self, study_uid: str | None = None, destination: str | None = None, all_states: bool = False) -> int:
        """See :meth:`dicom2fhir.store.base.Store.requeue`; deliveries that are being sent do not change."""
        now = self._clock.now()
        self._write(lambda sql: sql.run("note_requeue", destination=destination))
        if study_uid is not None:
            return self._write(lambda sql: deliveries.requeue(sql, study_uid, destination, all_states, now))
        with self._read() as sql:
            (last,) = sql.one("last_study") or (None,)
        # by study id and not by state, or studies that are delivered meanwhile would be sent twice
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

    def update_index(self) -> bool:
        """See :meth:`dicom2fhir.store.study_search.StudySearch.update_index`; to be called by one thread."""
        return self._study_index.update()

    def _write(self, operation: Callable[[Statements], T]) -> T:
        def run(sql: Statements) -> T:
            self._known.follow(sql)
            value = operation(sql)
            self._known.forget_deliveries(sql.claims_of)
            return value

        return self._commit(run)
