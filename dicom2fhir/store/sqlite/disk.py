"""Checks of the store's disk and files: local file system, free space, lock, permissions."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from dicom2fhir.errors import ConfigError, NoStore, OutOfSpace, StoreInUse, StoreUnavailable
from dicom2fhir.store.statuses import Room
from dicom2fhir.system.mounts import NETWORK_FILE_SYSTEMS, file_system_type
from dicom2fhir.system.permissions import give_to_owner

log = structlog.get_logger(__name__)

_RESUME_PERCENT = 110
"""Free space must reach this percentage of the watermark before instances are accepted again (hysteresis)."""


def require_local(directory: Path) -> None:
    """Raise :class:`ConfigError` if ``directory`` is on a network file system."""
    kind = file_system_type(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(f"The store must be on a local disk; {directory} is on a network file system ({kind})")


def lock_file(path: Path) -> int:
    """Lock ``path`` for this process until the returned descriptor is closed.

    Raises
    ------
    StoreInUse
        Another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreInUse(
            f"Another dicom2fhir (process {holder}) is using the store; its lock file is {path}"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_permission(path: Path, mode: int) -> None:
    """Check that this process may use the store's file.

    Parameters
    ----------
    mode
        ``os.R_OK``, and ``os.W_OK`` to write.

    Raises
    ------
    NoStore
        There is no such file.
    StoreUnavailable
        The process has no permission; the message says what to do.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoStore(
            f"There is no store at {path}: the daemon creates it when it starts; use --state-dir for another folder"
        ) from None
    except PermissionError:
        raise not_permitted(path) from None
    if not os.access(path, mode, effective_ids=True):
        raise not_permitted(path)


def not_permitted(path: Path) -> StoreUnavailable:
    """The error for a store that belongs to another user."""
    us = _user_name(os.geteuid())
    try:
        owner = f", {_user_name(os.stat(path).st_uid)}"
    except OSError:
        owner = ""
    return StoreUnavailable(
        f"User {us} has no permission to use the store {path}: run the command as root (sudo) or as the owner of the"
        f" store{owner}; use --state-dir for another folder"
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of :func:`lock_file` on ``path``.

    The check takes a shared lock for some microseconds. A daemon that starts in that moment fails and is restarted.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # shared: two checks at the same time must not mistake each other for the owner
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Anchor:
    """The files of a store as they were opened: after they are removed or replaced, commits are lost."""

    def __init__(self, *paths: Path) -> None:
        self._found = [(str(path), os.stat(path)) for path in paths]

    def check(self) -> None:
        """Raise :class:`StoreUnavailable` if a file is no longer the one that was opened."""
        for path, found in self._found:
            try:
                now = os.stat(path)
            except FileNotFoundError:
                now = None
            except OSError as error:
                raise StoreUnavailable(f"The disk of the store does not respond: {error}") from error
            if now is None or now.st_ino != found.st_ino or now.st_dev != found.st_dev:
                raise StoreUnavailable(f"The file {path} was removed or replaced while the store was open")


def free_bytes(directory: Path) -> int:
    """Bytes that this process can still write to the file system of ``directory``."""
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize


class Space:
    """The free-space watermark, with hysteresis; checks the disk at most once in ``interval_s``."""

    def __init__(
        self,
        directory: Path,
        min_free_bytes: int,
        *,
        interval_s: float = 1.0,
        free: Callable[[Path], int] = free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._interval_s = interval_s
        self._free = free
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._low = False

    def check(self) -> None:
        """Raise :class:`OutOfSpace` below the watermark, and until free space is clearly above it again."""
        now = self._monotonic()
        if now - self._looked_at >= self._interval_s:
            self._looked_at = now
            self._look()
        if self._low:
            raise OutOfSpace(f"Less than {self._min_free_bytes} bytes are free in {self._directory}")

    @property
    def room(self) -> Room:
        """The present free space; raises OSError if the disk does not answer."""
        free = self._free(self._directory)
        return Room(free, self._min_free_bytes, self._is_low(free))

    def _is_low(self, free: int) -> bool:
        return free < self._min_free_bytes * (_RESUME_PERCENT if self._low else 100) // 100

    def _look(self) -> None:
        try:
            free = self._free(self._directory)
        except OSError as error:
            raise StoreUnavailable(f"The disk of the store does not respond: {error}") from error
        low = self._is_low(free)
        if low != self._low:
            if low:
                log.error("store.space_low", free_bytes=free)
            else:
                log.info("store.space_recovered", free_bytes=free)
        self._low = low
