"""How a process becomes the owner of the store file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog

from dicom2fhir.errors import StoreDamaged, StoreUnavailable
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sqlite import damage, late_check
from dicom2fhir.store.sqlite.disk import lock_file, not_permitted, require_local
from dicom2fhir.store.sqlite.progress_mark import END, Progress
from dicom2fhir.store.sqlite.schema import connect, empty_store, is_corrupt, migrate, require_settings
from dicom2fhir.store.sqlite.statements import SqliteStatements
from dicom2fhir.system.durable import make_directory, sync_directory
from dicom2fhir.system.permissions import give_to_owner

log = structlog.get_logger(__name__)


def lock_path(path: Path) -> Path:
    """The lock file of a store."""
    return path.with_name(f"{path.name}.lock")


def take_lock(path: Path) -> int:
    """Exclude other owners of the store until the returned descriptor is closed; its folder is created if absent.

    Raises
    ------
    StoreInUse
        Another process owns the store.
    ConfigError
        The folder is on a network file system.
    StoreUnavailable
        The lock file cannot be created.
    """
    try:
        make_directory(path.parent, 0o700)
        require_local(path.parent)
        return lock_file(lock_path(path))
    except PermissionError:
        raise not_permitted(path) from None
    except OSError as error:
        raise _cannot_open(path, error) from error


def own(
    path: Path, steps: tuple[str, ...], take_over: Callable[[Statements], None], busy_timeout_s: float
) -> tuple[int, sqlite3.Connection, Path | None]:
    """Become the only process that owns the file, and check that the file is not damaged.

    Parameters
    ----------
    steps
        Of the schema; the file is migrated to the newest version.
    take_over
        Ends the leases and associations of the previous owner.

    Returns
    -------
    int
        The descriptor of the lock; closing it gives up the file.
    sqlite3.Connection
        To write.
    Path | None
        Where a damaged file was moved to.
    """
    lock = take_lock(path)
    try:
        return lock, *_open_sound(path, steps, take_over, busy_timeout_s)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, OSError):
            raise _cannot_open(path, error) from error
        raise


def _open_sound(
    path: Path, steps: tuple[str, ...], take_over: Callable[[Statements], None], busy_timeout_s: float
) -> tuple[sqlite3.Connection, Path | None]:
    """Open the store, or a new one if there is none or it is damaged; the path that a damaged one was moved to."""
    aside = None
    try:
        if damage.is_expected(path):
            damage.inspect(path, steps, busy_timeout_s, pages=late_check.is_due_at_start(path))
            late_check.remove_mark(path)
            return _open_as_owner(path, steps, take_over, busy_timeout_s), None
    except (StoreDamaged, StoreUnavailable) as error:
        if not isinstance(error, StoreDamaged) and not is_corrupt(error.__cause__):
            raise
        aside = damage.set_aside(path, str(error))
    _create(path, steps)
    return _open_as_owner(path, steps, take_over, busy_timeout_s), aside


def follow(path: Path, sql: Statements) -> Progress:
    """Compare a store that was opened with its progress mark, and begin to update the mark."""
    progress = Progress(path.with_name(f"{path.name}{END}"))
    if changes := progress.lacking(sql):
        damage.tell_what_is_lacking(path, changes)
    progress.follow(sql)
    return progress


def _create(path: Path, steps: tuple[str, ...]) -> None:
    """Create an empty store at ``path`` atomically, so that a store without tables is always damaged."""
    new = path.with_name(f"{path.name}.new")
    for end in ("", "-wal", "-shm"):
        Path(f"{new}{end}").unlink(missing_ok=True)  # of a crash
    # Readable by its owner only: it contains names. SQLite gives its WAL the same mode.
    made = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(made, path.parent)
        new.write_bytes(empty_store(steps))
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            # WAL mode from the start: a later change takes a transaction of another kind, which a crash may interrupt.
            require_settings(connection, {"synchronous": 0, "journal_mode": "wal"})
        os.fsync(made)  # before the rename nobody depends on the file
    finally:
        os.close(made)
    os.rename(new, path)
    sync_directory(path.parent)
    log.info("store.created", path=str(path))


def _open_as_owner(
    path: Path, steps: tuple[str, ...], take_over: Callable[[Statements], None], busy_timeout_s: float
) -> sqlite3.Connection:
    """Open a store as its owner: migrate it, and end the leases and associations of the previous owner."""
    connection = connect(path, read_only=False, busy_timeout_s=busy_timeout_s)
    try:
        migrate(connection, steps)
        connection.execute("BEGIN IMMEDIATE")
        take_over(SqliteStatements(connection))
        connection.execute("COMMIT")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _cannot_open(path, error) from error
        raise
    return connection


def _cannot_open(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"The store {path} cannot be opened: {error}")
