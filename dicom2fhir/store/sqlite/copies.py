"""Copies of a store: made while the daemon uses it, and restored while it does not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dicom2fhir.errors import ConfigError, StoreDamaged, StoreUnavailable
from dicom2fhir.store.sqlite import damage
from dicom2fhir.store.sqlite.disk import require_permission
from dicom2fhir.store.sqlite.ownership import take_lock
from dicom2fhir.store.sqlite.progress_mark import END
from dicom2fhir.store.sqlite.schema import connect, is_damage, require_settings, steps
from dicom2fhir.system.durable import sync_directory
from dicom2fhir.system.permissions import give_to_owner

_PAGES = 4_096
"""Pages that are copied between two reports of the progress."""
_BUSY_TIMEOUT_S = 30.0

OnProgress = Callable[[int, int], None]
"""Called with the number of pages that were copied, and of all."""


def back_up(path: Path, target: Path, on_progress: OnProgress) -> float | None:
    """Copy a store, as it is at one moment, to a new file; a daemon may use it meanwhile.

    The copy is durable and was checked when the function returns. It has the same content as the store, so that it
    contains names, and only its owner may read it.

    Returns
    -------
    float | None
        The time at which the last instance in it was received; None if there is none.

    Raises
    ------
    ConfigError
        ``target`` exists, or its folder does not.
    StoreUnavailable
        The store cannot be read, or the copy not be written.
    StoreDamaged
        The store is damaged.
    """
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already; it was not changed")
    if not target.parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}")
    require_permission(path, os.R_OK)
    new = target.with_name(f"{target.name}.part")
    try:
        newest = _copy(path, new, on_progress, journal_mode="delete")  # one file, also on a disk that cannot be written
        os.rename(new, target)
        sync_directory(target.parent)
    finally:
        _remove(new)
    return newest


def restore(path: Path, copy: Path, on_progress: OnProgress) -> tuple[float | None, Path | None]:
    """Put a copy in the place of the store; no daemon may use it.

    Returns
    -------
    float | None
        As of :func:`back_up`.
    Path | None
        The new path of the store that was replaced; None if there was none.

    Raises
    ------
    StoreInUse
        A daemon uses the store.
    ConfigError
        The copy is not a store, or that of a newer version.
    StoreDamaged
        The copy is damaged.
    """
    require_permission(copy, os.R_OK)
    lock = take_lock(path)
    new = path.with_name(f"{path.name}.restored")
    try:
        newest = _copy(copy, new, on_progress, journal_mode="wal")
        # The progress mark is removed last: if this is interrupted, the next start reports what is missing.
        aside = damage.move_aside(path, "replaced", (*damage.FILES, damage.JOURNAL))
        os.rename(new, path)
        sync_directory(path.parent)
        path.with_name(f"{path.name}{END}").unlink(missing_ok=True)
        sync_directory(path.parent)
    finally:
        _remove(new)
        os.close(lock)
    return newest, aside


def _copy(source: Path, new: Path, on_progress: OnProgress, *, journal_mode: str) -> float | None:
    """Copy a store by SQLite, which reads its write-ahead log as well, and check the copy."""
    _remove(new)  # what a crash left
    made = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        give_to_owner(made, new.parent)
        try:
            with (
                closing(connect(source, read_only=True, busy_timeout_s=_BUSY_TIMEOUT_S)) as reading,
                closing(sqlite3.connect(new, isolation_level=None)) as writing,
            ):
                reading.execute("BEGIN")  # one snapshot: without it, each commit of the daemon starts the copy again
                reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
                reading.backup(writing, pages=_PAGES, progress=lambda _, left, all_: on_progress(all_ - left, all_))
                require_settings(writing, {"journal_mode": journal_mode})
        except sqlite3.Error as error:
            if is_damage(error):
                raise StoreDamaged(f"{source} is damaged: {error}") from error
            raise StoreUnavailable(f"{source} cannot be copied to {new}: {error}") from error
        damage.inspect(new, steps(), _BUSY_TIMEOUT_S, pages=True)
        os.fsync(made)
    except StoreDamaged as error:
        raise StoreDamaged(str(error).replace(str(new), str(source))) from error
    finally:
        os.close(made)
    with closing(connect(new, read_only=True, busy_timeout_s=_BUSY_TIMEOUT_S)) as connection:
        (newest,) = connection.execute("SELECT max(last_at) FROM study").fetchone()
    return None if newest is None else float(newest)


def _remove(new: Path) -> None:
    for end in damage.FILES:
        Path(f"{new}{end}").unlink(missing_ok=True)
