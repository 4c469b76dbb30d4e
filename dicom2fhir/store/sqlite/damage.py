"""Damaged stores: detection, renaming of their files, and notices that are shown until a person acknowledges them."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path

import orjson
import structlog

from dicom2fhir.errors import ConfigError, StoreDamaged, StoreUnavailable
from dicom2fhir.store.sqlite import late_check, progress_mark
from dicom2fhir.store.sqlite.disk import require_permission
from dicom2fhir.store.sqlite.schema import APPLICATION_ID, connect, in_memory, pragma, primary_code, require_version
from dicom2fhir.store.statuses import Damage
from dicom2fhir.system.durable import replacing, sync_directory
from dicom2fhir.system.permissions import give_to_owner

log = structlog.get_logger(__name__)

FILES = ("", "-wal", "-shm")
"""Suffixes of the files of a store."""
JOURNAL = "-journal"
"""Suffix of the rollback journal: of a store without a write-ahead log, such as a copy, during a transaction."""
_KEPT = (*FILES, JOURNAL, progress_mark.END, late_check.END)
_MAGIC = b"SQLite format 3\0"
_VERSIONS = slice(18, 20)
"""Header bytes with the file format's write and read versions: 1, 1 with a rollback journal, 2, 2 with a write-ahead
log (https://sqlite.org/fileformat2.html, section 1.3.3)."""
_PASSING = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors of the disk, other processes or permissions; any other error while reading means that the file is damaged."""


def inspect(path: Path, steps: tuple[str, ...], busy_timeout_s: float, *, pages: bool) -> None:
    """Check an existing store, or what is left of one, without changing it.

    Parameters
    ----------
    pages
        Whether every page is checked, which takes the longer the larger the file is.

    Raises
    ------
    StoreDamaged
        The main file is missing, or is not a valid SQLite file with the tables of a store.
    ConfigError
        It belongs to another program, or has a newer version.
    """
    if not os.path.lexists(path):
        # SQLite would delete the write-ahead log, and with it commits that the lost main file did not have yet.
        raise StoreDamaged(f"The store {path} is missing, but other files of it exist")
    require_permission(path, os.R_OK | os.W_OK)
    if not path.is_file():
        raise ConfigError(f"{path} is not a file")
    try:
        _undo_half_a_transaction(path, busy_timeout_s)
        _require_header(path)
        # A read-only connection leaves the WAL unchanged when it closes; another would write damage to the main file.
        with closing(connect(path, read_only=True, busy_timeout_s=busy_timeout_s)) as connection:
            _require_schema(connection, path, steps)
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone() if pages else ("ok",)
    except sqlite3.Error as error:
        if primary_code(error) in _PASSING:
            raise StoreUnavailable(f"The store {path} cannot be read: {error}") from error
        raise StoreDamaged(f"The store {path} is damaged: {error}") from error
    if verdict != "ok":
        raise StoreDamaged(f"The store {path} is damaged: {verdict}")


def _undo_half_a_transaction(path: Path, busy_timeout_s: float) -> None:
    """Let SQLite roll back an unfinished transaction after a crash; a read-only connection cannot."""
    if not os.path.lexists(f"{path}{JOURNAL}"):
        return
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _require_header(path: Path) -> None:
    """Check the header more strictly than SQLite, which accepts an empty file as an empty store."""
    # before any connection: closing a file releases all locks that the process has on it
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise StoreDamaged(f"The store {path} is damaged: it has no SQLite header")
    has_log = os.path.lexists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
    if header[_VERSIONS] not in ([b"\2\2"] if has_log else [b"\1\1", b"\2\2"]):
        raise StoreDamaged(f"The store {path} is damaged: its header does not name a write-ahead log")


def _require_schema(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...]) -> None:
    """Check that the file has every table, index and trigger of its version."""
    found = _schema(connection)
    is_marked = pragma(connection, "application_id") == APPLICATION_ID
    if found and not is_marked and not found & _made_by(steps[:1]):
        raise ConfigError(f"{path} is an SQLite file of another program; it was not changed")
    if is_marked:
        require_version(connection, path, len(steps))
    version = pragma(connection, "user_version")
    if not is_marked or version < 1:
        raise StoreDamaged(f"The store {path} is damaged: its header is not that of a store")
    if missing := sorted(name for name, _ in _made_by(steps[:version]) - found):
        raise StoreDamaged(f"The store {path} is damaged: {', '.join(missing)} missing or changed")


def _schema(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Name and SQL of each schema object, without quotes and spaces: those differ between versions of SQLite."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return frozenset((name, re.sub(r'[\s"]+', "", sql)) for name, sql in rows)


@cache
def _made_by(steps: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    with closing(in_memory(steps)) as connection:
        return _schema(connection)


def set_aside(path: Path, reason: str) -> Path | None:
    """Rename a store's files without overwriting others; the new path of the main file, None if there were no files.

    The notice is on disk first: after a crash there is never a new store without a notice.
    """
    log.critical("store.damaged", path=str(path), reason=reason)
    aside = _free_name(path, "damaged")
    present = [end for end in _KEPT if os.path.lexists(f"{path}{end}")]
    report(path, reason, str(aside) if present else "")
    _rename(path, aside, present)
    log.critical("store.set_aside", path=str(path), aside=str(aside), action="a new store is created")
    return aside if present else None


def move_aside(path: Path, label: str, ends: tuple[str, ...]) -> Path | None:
    """Rename files of a store without overwriting others; the new path of the main file, None if there were none."""
    aside = _free_name(path, label)
    present = [end for end in ends if os.path.lexists(f"{path}{end}")]
    _rename(path, aside, present)
    return aside if present else None


def _free_name(path: Path, label: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.{label}-{stamp}{f'-{n}' if n else ''}") for n in count())
    return next(name for name in names if not any(os.path.lexists(f"{name}{end}") for end in _KEPT))


def _rename(path: Path, aside: Path, ends: list[str]) -> None:
    for end in ends:
        os.rename(f"{path}{end}", f"{aside}{end}")
    sync_directory(path.parent)


def is_expected(path: Path) -> bool:
    """Whether any file of a store is at ``path``."""
    return any(os.path.lexists(f"{path}{end}") for end in _KEPT)


def tell_what_is_lacking(path: Path, changes: int) -> None:
    """Report that the newest changes of an undamaged store are missing."""
    log.critical("store.behind", path=str(path), changes=changes)
    report(
        path,
        f"The store {path} lacks its newest changes ({changes} or more): its write-ahead log was lost, or it was"
        " replaced by an older copy",
    )


def _notices_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.damage")


def report(path: Path, reason: str, aside: str = "") -> None:
    """Add a notice, which ``status`` shows; durable when it returns."""
    told = [*damages(path), Damage(datetime.now(UTC).timestamp(), reason, aside)]
    notices = _notices_path(path)
    with replacing(notices, f"{notices.name}.new") as file:
        give_to_owner(file.fileno(), path.parent)
        file.write(orjson.dumps([asdict(one) for one in told]))


def damages(path: Path) -> list[Damage]:
    """The notices for the store at ``path`` that were not acknowledged, oldest first."""
    notices = _notices_path(path)
    try:
        return [Damage(**one) for one in orjson.loads(notices.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):  # the notices are damaged, too
        return [
            Damage(notices.stat().st_mtime, f"The store was damaged; the record of it, {notices}, is also damaged", "")
        ]


def acknowledge(path: Path) -> None:
    """Delete all notices."""
    _notices_path(path).unlink(missing_ok=True)
    sync_directory(path.parent)
