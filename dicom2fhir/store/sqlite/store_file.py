"""An open store file: access rights, connections, and the check that the file is still there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.options import Access
from dicom2fhir.store.sql.database import Database
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sqlite import damage, late_check
from dicom2fhir.store.sqlite.disk import Anchor, is_locked, require_permission
from dicom2fhir.store.sqlite.late_check import LateCheck
from dicom2fhir.store.sqlite.ownership import follow, lock_path, own
from dicom2fhir.store.sqlite.progress_mark import Progress
from dicom2fhir.store.sqlite.read_connections import ReadConnections
from dicom2fhir.store.sqlite.schema import connect, is_damage, require_version, steps
from dicom2fhir.store.sqlite.statements import SqliteStatements
from dicom2fhir.store.sqlite.writer import SqliteWriter
from dicom2fhir.store.statuses import Damage


class StoreFile(Database):
    """An open store file; knows nothing of its content.

    Parameters
    ----------
    path
        The file; ``path``-wal, ``path``-shm and ``path``.lock are beside it. The owner creates it if absent.
    take_over
        Run once by the owner before any other read or write.
    on_roll_back, on_failure
        As of :class:`dicom2fhir.store.sqlite.writer.SqliteWriter`.
    busy_timeout_s
        How long to wait for another process that has locked the file.

    Attributes
    ----------
    set_aside
        New path of a damaged file that was found here; None if there was none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        access: Access,
        *,
        take_over: Callable[[Statements], None],
        on_roll_back: Callable[[], None],
        on_failure: Callable[[str], None],
        busy_timeout_s: float,
    ) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self.set_aside: Path | None = None
        self._owns = access is Access.OWN
        self._writes = access is not Access.READ
        self._progress: Progress | None = None
        self._late_check: LateCheck | None = None

        def fail(reason: str) -> None:
            if self._owns:
                late_check.mark(self.path)
            on_failure(reason)

        with ExitStack() as undo:  # in reverse order, because the last connection to close checkpoints the WAL
            writing = None
            if self._owns:
                is_large = not late_check.is_due_at_start(self.path)
                lock, writing, self.set_aside = own(self.path, steps(), take_over, busy_timeout_s)
                undo.callback(os.close, lock)
                if is_large and not self.set_aside:
                    self._late_check = LateCheck(self.path, busy_timeout_s)
                self._progress = follow(self.path, SqliteStatements(writing))
                undo.callback(self._progress.close)
            else:
                require_permission(self.path, os.R_OK | os.W_OK if self._writes else os.R_OK)
                if self._writes:
                    writing = connect(self.path, read_only=False, busy_timeout_s=busy_timeout_s)
            if writing:
                self._writer = SqliteWriter(
                    writing,
                    confirm=self._confirm,
                    on_commit=self._notify,
                    on_roll_back=on_roll_back,
                    on_failure=fail,
                )
                undo.callback(self._writer.close)
            self._readers = ReadConnections(self.path, busy_timeout_s)
            undo.callback(self._readers.close)
            with self._readers.snapshot() as connection:
                require_version(connection, self.path, len(steps()), exact=True)
            if self._writer:
                file, log, index = (self.path.with_name(f"{self.path.name}{end}") for end in damage.FILES)
                self._anchor, self._index_anchor = Anchor(file, log), Anchor(index)
            undo.callback(self._end_progress)
            self._undo = undo.pop_all()

    @property
    def location(self) -> str:
        """The path of the file."""
        return str(self.path)

    @property
    def directory(self) -> Path:
        """The folder of the file."""
        return self.path.parent

    @property
    def is_owned(self) -> bool:
        """Whether a daemon, this process or another, uses the store now."""
        return is_locked(lock_path(self.path))

    def declare_destinations(self, destinations: Mapping[str, str], *, may_differ: bool) -> None:
        """No other daemon uses the file."""

    @property
    def damages(self) -> Sequence[Damage]:
        """Damage notices that were not acknowledged, oldest first."""
        return damage.damages(self.path)

    @property
    def is_unchecked(self) -> bool:
        """See :attr:`dicom2fhir.store.sql.database.Database.is_unchecked`."""
        return self._late_check is not None and not self._late_check.is_done and not self.failure

    @property
    def check_progress(self) -> tuple[int, int]:
        """See :attr:`dicom2fhir.store.sql.database.Database.check_progress`."""
        return self._late_check.progress if self._late_check else (0, 0)

    def check_part(self, is_stopping: Callable[[], bool]) -> None:
        """See :meth:`dicom2fhir.store.sql.database.Database.check_part`."""
        if self._late_check and (verdict := self._late_check.check_table(is_stopping)):
            self._require_writer().fail(f"The store {self.path} is damaged: {verdict}")

    def look(self) -> None:
        """Check that the files are still those that were opened, and write the progress mark; called every second.

        If they are not, the store has failed.
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
        with suppress(StoreUnavailable, OSError):  # the failure of the store was reported before
            self._note_progress()

    def close(self) -> None:
        """Commit waiting writes, close the files and release the lock; a second call does nothing."""
        self._undo.close()

    def _statements(self, connection: sqlite3.Connection) -> Statements:
        return SqliteStatements(connection)

    @contextmanager
    def _read(self) -> Iterator[Statements]:
        try:
            with self._readers.snapshot() as connection:
                yield SqliteStatements(connection)
        except StoreUnavailable as error:
            # A store that cannot be read must not acknowledge instances either.
            if self._writer and isinstance(error.__cause__, sqlite3.Error) and is_damage(error.__cause__):
                self._writer.fail(str(error))
            raise

    def _confirm(self) -> None:
        self._anchor.check()
