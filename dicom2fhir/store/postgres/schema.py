"""The SQL, the schema version and the settings of connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from dicom2fhir.errors import ConfigError, NoStore, StoreUnavailable
from dicom2fhir.store.sql.statements import statements_of

log = structlog.get_logger(__name__)

Connection = psycopg.Connection[tuple[object, ...]]

UNFINISHED = "unfinished_migration"
"""A table that a database has while a store is moved to it, with the path of that store."""
_PLACEHOLDER = re.compile(r"(?<!:):(\w+)")
_NETWORK = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""Seconds, and a number of probes: so that a server that has vanished is noticed (libpq, "Parameter Key Words")."""
_IDLE_IN_TRANSACTION_S = 60
"""A process that was stopped within a transaction must not hold its locks for ever."""


@cache
def queries() -> Mapping[str, str]:
    """The statements of PostgreSQL by name, with the placeholders of psycopg."""
    found = statements_of(__package__)
    return {name: _PLACEHOLDER.sub(r"%(\1)s", body.replace("%", "%%")) for name, body in found.items()}


@cache
def steps() -> tuple[str, ...]:
    """The migrations: step *n* (from 0) migrates a store from version *n* to *n* + 1."""
    files = sorted(resources.files(__package__).joinpath("migrations").iterdir(), key=lambda file: file.name)
    return tuple(file.read_text("utf-8") for file in files)


def location_of(url: str) -> str:
    """The URL without the password and options, for messages.

    Raises
    ------
    ConfigError
        It is not a URL of PostgreSQL.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"[store] url is not a connection URL of PostgreSQL: {error}") from None
    host = str(parts.get("host", ""))
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{host}{port}/{parts.get('dbname', '')}"


def connect(url: str, *, process: int = 0, read_only: bool, busy_timeout_s: float) -> Connection:
    """Open a connection in autocommit mode, and verify that what it commits is on disk.

    Parameters
    ----------
    process
        The number of this process; 0 if the connection writes nothing that is counted.
    busy_timeout_s
        How long to wait for a lock of another transaction.

    Raises
    ------
    StoreUnavailable
        A setting does not protect what is acknowledged; its name is in the message.
    psycopg.Error
        The server does not answer, or refuses.
    """
    connection = psycopg.connect(url, autocommit=True, application_name="dicom2fhir", **_NETWORK)  # type: ignore[arg-type]
    try:
        if connection.execute("SHOW synchronous_commit").fetchone() != ("remote_apply",):
            connection.execute("SET synchronous_commit = on")
        settings: dict[str, object] = {
            "dicom2fhir.process": process,
            "lock_timeout": f"{round(busy_timeout_s * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{_IDLE_IN_TRANSACTION_S}s",
            "default_transaction_isolation": "repeatable read" if read_only else "read committed",
            "default_transaction_read_only": "on" if read_only else "off",
            # The plans are those that the indexes are made for, also while statistics are missing or outdated.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "jit": "off",
        }
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
        _require_durable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_durable(connection: Connection) -> None:
    wanted = {
        "synchronous_commit": ("on", "remote_apply"),
        "fsync": ("on",),
        "full_page_writes": ("on",),
        "server_encoding": ("UTF8",),
    }
    for name, allowed in wanted.items():
        (got,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
        if got not in allowed:
            raise StoreUnavailable(
                f"The store in PostgreSQL cannot be used: {name} is {got}, not {' or '.join(allowed)}"
            )


def is_idle(connection: Connection) -> bool:
    """Whether no transaction has begun."""
    return connection.info.transaction_status == TransactionStatus.IDLE


def version_of(connection: Connection) -> int:
    """The schema version; 0 if there is no store."""
    if connection.execute("SELECT to_regclass('dicom2fhir_store')").fetchone() == (None,):
        return 0
    row = connection.execute("SELECT version FROM dicom2fhir_store").fetchone()
    return int(str(row[0])) if row else 0


def unfinished(connection: Connection) -> str | None:
    """The store that is being moved to the database, or was until that was interrupted; None if there is none."""
    if connection.execute("SELECT to_regclass(%s)", (UNFINISHED,)).fetchone() == (None,):
        return None
    row = connection.execute(f"SELECT source FROM {UNFINISHED}".encode()).fetchone()  # noqa: S608
    return str(row[0]) if row else ""


def require_finished(connection: Connection, location: str) -> None:
    """Raise :class:`ConfigError` if only a part of a store is in the database."""
    if source := unfinished(connection):
        raise ConfigError(
            f"{location} holds a part of the store {source}: run `dicom2fhir store migrate` again, until it succeeds"
        )


def require_version(connection: Connection, location: str) -> None:
    """Raise :class:`ConfigError` unless this program can read the store as it is."""
    version, known = version_of(connection), len(steps())
    if not version:
        raise NoStore(f"There is no store in {location}; start the daemon once to make it")
    if version > known:
        raise ConfigError(f"The store {location} has schema version {version}, this program supports up to {known}")
    if version < known:
        raise ConfigError(
            f"The store {location} has schema version {version}, older than {known}; start a daemon once to upgrade it"
        )


def migrate(connection: Connection, location: str) -> None:
    """Make or upgrade the store, in one transaction; one daemon at a time.

    Raises
    ------
    StoreUnavailable
        A step failed; nothing was changed.
    ConfigError
        The store is of a newer version.
    """
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('dicom2fhir schema'))")
            version = version_of(connection)
            for number, step in enumerate(steps()[version:], start=version + 1):
                connection.execute(step.encode())
                if number == 1:
                    connection.execute("CREATE TABLE dicom2fhir_store (version BIGINT NOT NULL)")
                    connection.execute("INSERT INTO dicom2fhir_store VALUES (0)")
                connection.execute("UPDATE dicom2fhir_store SET version = %s", (number,))
                log.info("store.migrated", version=number)
    except psycopg.Error as error:
        raise StoreUnavailable(f"The store {location} cannot be made or upgraded: {error}") from error
    require_version(connection, location)
