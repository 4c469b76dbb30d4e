"""The SQL, the schema version and the settings of the store's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import structlog

from dicom2fhir.errors import ConfigError, StoreUnavailable
from dicom2fhir.store.sql.statements import statements_of

log = structlog.get_logger(__name__)

APPLICATION_ID = 0x44324652
"""Marks the file as a store in its header (``PRAGMA application_id``): "D2FR"."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNREADABLE = _DAMAGED | {sqlite3.SQLITE_IOERR}


def _package() -> Traversable:
    return resources.files("dicom2fhir.store.sqlite")


@cache
def queries() -> Mapping[str, str]:
    """The statements of SQLite by name."""
    return statements_of(__package__)


@cache
def steps() -> tuple[str, ...]:
    """The migrations: step *n* (from 0) migrates a store from version *n* to *n* + 1."""
    later = _package().joinpath("migrations")
    files = sorted(later.iterdir(), key=lambda file: file.name) if later.is_dir() else []
    return tuple(file.read_text("utf-8") for file in (_package().joinpath("schema.sql"), *files))


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html); 0 if the error does not come from SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_corrupt(error: BaseException | None) -> bool:
    """True if SQLite reports that the file itself is damaged."""
    return isinstance(error, sqlite3.Error) and primary_code(error) in _DAMAGED


def is_damage(error: sqlite3.Error) -> bool:
    """True if the file or its disk is at fault, and not a temporary lock or shortage."""
    return primary_code(error) in _UNREADABLE


def connect(path: Path, *, read_only: bool, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a connection in autocommit mode, for use in any thread, and verify every setting.

    Raises
    ------
    StoreUnavailable
        The file cannot be opened, or a setting has no effect (its name is in the message).
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
        # synchronous=FULL (2): with NORMAL the last commits, already acknowledged, are lost in a power failure.
        settings |= {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "journal_size_limit": 64 << 20}
    try:
        require_settings(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def require_settings(connection: sqlite3.Connection, settings: Mapping[str, int | str]) -> None:
    """Set pragmas and read them back; raise :class:`StoreUnavailable` naming the first that has no effect."""
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
    """Raise :class:`ConfigError` unless the file is a store that this program can read.

    Parameters
    ----------
    known
        The newest schema version that this program knows.
    exact
        True if the caller may not migrate: an older store is refused, too.
    """
    version = pragma(connection, "user_version")
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigError(f"{path} is an SQLite file of another program; it was not changed")
    if version > known:
        raise ConfigError(
            f"The store {path} has schema version {version}, this program supports up to {known}; it was not changed"
        )
    if exact and version < known:
        raise ConfigError(
            f"The store {path} has schema version {version}, older than {known}; start the daemon once to upgrade it"
        )


def in_memory(steps: Sequence[str]) -> sqlite3.Connection:
    """An empty store in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for step in steps:
        connection.executescript(step)
    connection.executescript(_marks(len(steps)))
    return connection


@cache
def empty_store(steps: tuple[str, ...]) -> bytes:
    """The file of a store that has nothing in it."""
    with closing(in_memory(steps)) as connection:
        return connection.serialize()


def _marks(version: int) -> str:
    return f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={version};"


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Migrate a store to version ``len(steps)``, each step in its own transaction."""
    version = pragma(connection, "user_version")
    for number, step in enumerate(steps[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{step}\n;{_marks(number)} COMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            raise StoreUnavailable(f"The store cannot be upgraded to schema version {number}: {error}") from error
        log.info("store.migrated", version=number)
