"""Opening the store's file: its SQL, its version, its settings, and what to do with a damaged one."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import count
from pathlib import Path

import structlog

from dicom2fhir.access import give_to_owner
from dicom2fhir.errors import ConfigError, StoreDamaged, StoreUnavailable
from dicom2fhir.store.disk import require_permission, sync_directory

log = structlog.get_logger(__name__)

APPLICATION_ID = 0x44324652
"""Says in the file's header (``PRAGMA application_id``) that it is ours: "D2FR"."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNREADABLE = _DAMAGED | {sqlite3.SQLITE_IOERR}
_ASIDE = ("", "-wal", "-shm")


def _package() -> Traversable:
    return resources.files("dicom2fhir.store")


@cache
def queries() -> Mapping[str, str]:
    """The statements of ``queries.sql`` by name."""
    text = _package().joinpath("queries.sql").read_text("utf-8")
    _, *parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))


@cache
def steps() -> tuple[str, ...]:
    """The schema's history: step *n* (from 0) takes a store from version *n* to *n* + 1."""
    later = _package().joinpath("migrations")
    files = sorted(later.iterdir(), key=lambda file: file.name) if later.is_dir() else []
    return tuple(file.read_text("utf-8") for file in (_package().joinpath("schema.sql"), *files))


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html); 0 when the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """True when the file or its disk is at fault, and not a lock or a shortage that passes."""
    return primary_code(error) in _UNREADABLE


def connect(path: Path, *, read_only: bool, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a connection in autocommit mode with every setting read back; whoever has it next may be another thread.

    Raises
    ------
    StoreUnavailable
        The file cannot be opened, or a setting did not take (its name is in the message).
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The store {path} cannot be opened: {error}") from error
    settings: dict[str, int | str] = {"busy_timeout": round(busy_timeout_s * 1000)}
    if read_only:
        settings["query_only"] = 1
    else:
        # synchronous=FULL (2): with NORMAL the last commits, already acknowledged, are lost when the power fails.
        settings |= {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "journal_size_limit": 64 << 20}
    try:
        require_settings(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def require_settings(connection: sqlite3.Connection, settings: Mapping[str, int | str]) -> None:
    """Set pragmas and read them back; raise :class:`StoreUnavailable` naming the first that did not take."""
    for name, wanted in settings.items():
        try:
            connection.execute(f"PRAGMA {name}={wanted}").close()
            (got,) = connection.execute(f"PRAGMA {name}").fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The store cannot be opened: PRAGMA {name}: {error}") from error
        if got != wanted:
            raise StoreUnavailable(f"The store cannot be opened: PRAGMA {name} is {got}, not {wanted}")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Value of a numeric pragma."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def require_version(connection: sqlite3.Connection, path: Path, known: int, *, exact: bool = False) -> None:
    """Raise :class:`ConfigError` unless the file is a store of ours that this program understands.

    Parameters
    ----------
    known
        The newest schema version that this program knows.
    exact
        True when the caller may not migrate: an older store is refused too.
    """
    version = pragma(connection, "user_version")
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigError(f"{path} is an SQLite file of another program; it was not touched")
    if version > known:
        raise ConfigError(
            f"The store {path} has schema version {version}, this program knows up to {known}; it was not touched"
        )
    if exact and version < known:
        raise ConfigError(f"The store {path} has schema version {version}, not yet {known}; start the daemon once")


def inspect(path: Path, known: int, busy_timeout_s: float) -> None:
    """Look at an existing file without changing it.

    Raises
    ------
    StoreDamaged
        It is not a sound SQLite file.
    ConfigError
        It is another program's, or of a newer version.
    """
    try:
        # A connection that only reads leaves the WAL as it is when it closes; another would write damage onwards.
        with closing(connect(path, read_only=True, busy_timeout_s=busy_timeout_s)) as connection:
            require_version(connection, path, known)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if primary_code(error) in _DAMAGED:
            raise StoreDamaged(f"The store {path} is damaged: {error}") from error
        raise StoreUnavailable(f"The store {path} cannot be read: {error}") from error
    if verdict != "ok":
        raise StoreDamaged(f"The store {path} is damaged: {verdict}")


def set_aside(path: Path) -> Path:
    """Rename a store's files out of the way, never over others; the new name of the main file."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.damaged-{stamp}{f'-{n}' if n else ''}") for n in count())
    aside = next(name for name in names if not any(Path(f"{name}{end}").exists() for end in _ASIDE))
    for end in _ASIDE:
        if os.path.lexists(f"{path}{end}"):
            os.rename(f"{path}{end}", f"{aside}{end}")
    sync_directory(path.parent)
    return aside


def prepare(path: Path, known: int, busy_timeout_s: float) -> Path | None:
    """Make sure that a sound file lies at ``path``, an empty one if need be; where a damaged one went, or None."""
    aside: Path | None = None
    try:
        if path.exists():
            require_permission(path, os.R_OK | os.W_OK)
            inspect(path, known, busy_timeout_s)
        elif os.path.lexists(f"{path}-wal"):
            # SQLite would throw it away, and with it commits that the lost main file did not have yet.
            raise StoreDamaged(f"The store {path} is missing, but its write-ahead log is there")
    except StoreDamaged as damage:
        log.critical("store.damaged", path=str(path), reason=str(damage))
        aside = set_aside(path)
        log.critical("store.set_aside", path=str(path), aside=str(aside), action="a fresh store begins")
    if not path.exists():
        # Readable by nobody else: it holds names. SQLite gives its WAL the same mode.
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            give_to_owner(made, path.parent)
        finally:
            os.close(made)
        sync_directory(path.parent)
        log.info("store.created", path=str(path))
    return aside


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring a store up to version ``len(steps)``, each step in a transaction of its own."""
    version = pragma(connection, "user_version")
    for number, step in enumerate(steps[version:], start=version + 1):
        try:
            marks = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number};"
            connection.executescript(f"BEGIN IMMEDIATE;\n{step}\n;{marks} COMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            raise StoreUnavailable(f"The store cannot be brought to schema version {number}: {error}") from error
        log.info("store.migrated", version=number)
