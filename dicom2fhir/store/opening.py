"""Becoming the owner of the store's file, or somebody who writes beside the owner."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store import incoming
from dicom2fhir.store.disk import lock_file, not_permitted, require_local
from dicom2fhir.store.incoming import DueRule
from dicom2fhir.store.schema import connect, migrate, prepare
from dicom2fhir.store.statements import Statements


def lock_path(path: Path) -> Path:
    """The file that the owner of a store holds locked."""
    return path.with_name(f"{path.name}.lock")


def own(path: Path, known: int, busy_timeout_s: float) -> tuple[int, Path | None]:
    """Become the one process that owns the file, and make sure that it is sound.

    Parameters
    ----------
    known
        The newest schema version that this program knows.

    Returns
    -------
    int
        The lock's descriptor; the file belongs to others again once it is closed.
    Path | None
        Where a damaged file went that was found there.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_local(path.parent)
        lock = lock_file(lock_path(path))
    except PermissionError:
        raise not_permitted(path) from None
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        return lock, prepare(path, known, busy_timeout_s)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, OSError):
            raise _cannot_open(path, error) from error
        raise


def open_to_write(
    path: Path, busy_timeout_s: float, mine: tuple[Sequence[str], float, DueRule] | None = None
) -> sqlite3.Connection:
    """Open the connection of a process that writes.

    Parameters
    ----------
    mine
        For the owner, the schema's steps, the time and the due rule: it migrates the file, and ends leases and
        associations of its former life.
    """
    connection = connect(path, read_only=False, busy_timeout_s=busy_timeout_s)
    try:
        if mine:
            steps, now, rule = mine
            migrate(connection, steps)
            connection.execute("BEGIN IMMEDIATE")
            incoming.end_former_life(Statements(connection), now, rule)
            connection.execute("COMMIT")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _cannot_open(path, error) from error
        raise
    return connection


def _cannot_open(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"The store {path} cannot be opened: {error}")
