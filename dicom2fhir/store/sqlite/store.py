"""The store of one process: an SQLite file with a write-ahead log, one writer at a time, group commit.

A call that changes something returns when it is on disk. Reads see one snapshot each and never wait for the writer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from dicom2fhir.store.options import DEFAULT_MAX_WAIT_S, DEFAULT_MIN_FREE_BYTES, DEFAULT_QUIET_PERIOD_S, Access
from dicom2fhir.store.sql.clock import Clock
from dicom2fhir.store.sql.known_rows import KnownRows
from dicom2fhir.store.sql.store import SqlStore
from dicom2fhir.store.sqlite import damage
from dicom2fhir.store.sqlite.disk import Space
from dicom2fhir.store.sqlite.store_file import StoreFile
from dicom2fhir.store.statuses import Room


class SqliteStore(SqlStore, StoreFile):
    """:class:`dicom2fhir.store.base.Store` in one SQLite file.

    Parameters
    ----------
    path
        The file; ``path``-wal, ``path``-shm and ``path``.lock are beside it. It is created if absent, for its user
        only.
    quiet_period_s, max_wait_s
        A study is due when it has not changed for ``quiet_period_s``, at the latest ``max_wait_s`` after its first
        undelivered change. The rule of the owner holds for all who write.
    clock, steady
        Seconds since the epoch; monotonic seconds: see :class:`dicom2fhir.store.sql.clock.Clock`.
    min_free_bytes
        Below this :meth:`add` raises :class:`dicom2fhir.errors.OutOfSpace`.
    busy_timeout_s
        How long to wait for another process that has locked the file.
    on_failure
        Called once, in any thread, with the reason why the store can no longer be written (:attr:`failure`).
    reader
        Fingerprint of the reader of this process: see :mod:`dicom2fhir.dicom.reader_fingerprint`.

    Raises
    ------
    ConfigError
        Another daemon uses the file, it is on a network file system, or it is of a newer version or another program.
    StoreUnavailable
        It cannot be opened with the required settings.
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
        known = KnownRows(owns=access is Access.OWN)
        SqlStore.__init__(
            self,
            quiet_period_s=quiet_period_s,
            max_wait_s=max_wait_s,
            clock=Clock(clock, steady),
            known=known,
            delivers=access is Access.OWN,
            reader=reader,
        )
        StoreFile.__init__(
            self,
            path,
            access,
            take_over=self._take_over,
            on_roll_back=known.forget,
            on_failure=on_failure,
            busy_timeout_s=busy_timeout_s,
        )
        self._space = Space(self.path.parent, min_free_bytes)
        try:
            if self._writer:
                self._learn_reader_number()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open_readonly(cls, path: str | os.PathLike[str], **options: Any) -> SqliteStore:
        """Open a store to read, whether a daemon runs or not; every change raises StoreUnavailable."""
        return cls(path, **options, access=Access.READ)

    @classmethod
    def attach(cls, path: str | os.PathLike[str], **options: Any) -> SqliteStore:
        """Open a store for short writes (:meth:`requeue`, :meth:`add_many`), whether a daemon runs or not."""
        return cls(path, **options, access=Access.ATTACH)

    @property
    def room(self) -> Room:
        """The free space on the disk; raises OSError if the disk does not answer."""
        return self._space.room

    def acknowledge_damages(self) -> None:
        """Delete the notices of :attr:`damages`."""
        damage.acknowledge(self.path)

    def _check_space(self) -> None:
        self._space.check()
