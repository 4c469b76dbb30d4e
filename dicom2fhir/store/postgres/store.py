"""The store of several daemons: a PostgreSQL database, group commit in each daemon, rows that are locked by study."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dicom2fhir.store.options import DEFAULT_MAX_WAIT_S, DEFAULT_QUIET_PERIOD_S, Access
from dicom2fhir.store.postgres.database_clock import DatabaseClock
from dicom2fhir.store.postgres.known_arrivals import add_known
from dicom2fhir.store.postgres.shared_database import SharedDatabase
from dicom2fhir.store.sql.arrivals import release_former_owners
from dicom2fhir.store.sql.clock import Clock
from dicom2fhir.store.sql.known_rows import Arrival, KnownRows
from dicom2fhir.store.sql.store import SqlStore


class PostgresStore(SqlStore, SharedDatabase):
    """:class:`dicom2fhir.store.base.Store` in a PostgreSQL database.

    Parameters
    ----------
    url
        ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``. A daemon makes the tables if they are absent.
    directory
        See :attr:`dicom2fhir.store.sql.database.Database.directory`.
    quiet_period_s, max_wait_s
        As of :class:`dicom2fhir.store.sql.store.SqlStore`; the same for all daemons.
    clock, steady
        Seconds since the epoch, monotonic seconds. Default: the clock of the database, so that daemons whose clocks
        differ agree.
    busy_timeout_s
        How long to wait for a lock of another transaction.
    on_failure
        Called once, in any thread, if the server no longer protects what is acknowledged (:attr:`failure`).
    reader
        Fingerprint of the reader of this process: see :mod:`dicom2fhir.dicom.reader_fingerprint`.

    Raises
    ------
    ConfigError, StoreUnavailable
        As :class:`dicom2fhir.store.postgres.shared_database.SharedDatabase`.
    """

    def __init__(
        self,
        url: str,
        directory: Path = Path(),
        *,
        quiet_period_s: float = DEFAULT_QUIET_PERIOD_S,
        max_wait_s: float = DEFAULT_MAX_WAIT_S,
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] = time.monotonic,
        busy_timeout_s: float = 10.0,
        on_failure: Callable[[str], None] = lambda _reason: None,
        reader: str = "",
        access: Access = Access.OWN,
    ) -> None:
        known = KnownRows(owns=False)
        server_clock = DatabaseClock()
        SqlStore.__init__(
            self,
            quiet_period_s=quiet_period_s,
            max_wait_s=max_wait_s,
            clock=Clock(clock or server_clock.now, steady),
            known=known,
            delivers=access is Access.OWN,
            reader=reader,
        )
        SharedDatabase.__init__(
            self,
            url,
            directory,
            access,
            clock=server_clock,
            take_over=self._take_over,
            release=release_former_owners,
            on_roll_back=known.forget,
            on_failure=on_failure,
            busy_timeout_s=busy_timeout_s,
        )
        self._clock.forget_steps(self._clock.read())
        try:
            if self._writer:
                self._learn_reader_number()
        except BaseException:
            self.close()
            raise

    def _add(self, connection: Any, waiting: Sequence[Arrival]) -> Sequence[None]:
        sql = self._statements(connection)
        if not add_known(sql, self._known, waiting, self._clock.now()):
            return super()._add(connection, waiting)
        self._note_wake(sql)
        return [None] * len(waiting)

    @classmethod
    def open_readonly(cls, url: str, directory: Path = Path(), **options: Any) -> PostgresStore:
        """Open a store to read, whether daemons run or not; every change raises StoreUnavailable."""
        return cls(url, directory, **options, access=Access.READ)

    @classmethod
    def attach(cls, url: str, directory: Path = Path(), **options: Any) -> PostgresStore:
        """Open a store for short writes (:meth:`requeue`, :meth:`add_many`), whether daemons run or not."""
        return cls(url, directory, **options, access=Access.ATTACH)
