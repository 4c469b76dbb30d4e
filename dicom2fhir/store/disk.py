"""What the store asks of the disk under it: that it is local, has room, and is nobody else's."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from dicom2fhir.errors import ConfigError, OutOfSpace, StoreUnavailable

log = structlog.get_logger()

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""Types as the kernel names them in proc(5) mountinfo. SQLite's WAL needs memory shared by all processes that open
the file, and locks and fsync that keep their word; these give neither for certain (https://sqlite.org/wal.html)."""

_RESUME_PERCENT = 110
"""Room must grow to this much of the watermark before instances are taken again, so that it does not flutter."""


def file_system_type(directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the file system that holds ``directory``, as the kernel names it; empty where that cannot be known."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    target = directory.resolve()
    found, found_parts = "", 0
    for line in lines:
        # proc(5): "36 35 98:0 /root /mount/point options [optional fields] - type source options"; blanks as \040
        left, _, right = line.partition(" - ")
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        # A later line covers an earlier one of the same mount point.
        if target.is_relative_to(mount) and len(mount.parts) >= found_parts:
            found, found_parts = right.split(" ")[0], len(mount.parts)
    return found


def require_local(directory: Path) -> None:
    """Raise :class:`ConfigError` when ``directory`` lies on a network file system."""
    kind = file_system_type(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(f"The store must lie on a local disk; {directory} is on a network file system ({kind})")


def lock_file(path: Path) -> int:
    """Lock ``path`` for this process until the descriptor that is returned is closed.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise ConfigError(f"Another dicom2fhir (process {holder}) uses the store; its lock is {path}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sync_directory(directory: Path) -> None:
    """Make created and renamed entries of ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(directory: Path) -> int:
    """Bytes that this process may still write to the file system of ``directory``."""
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize


class Space:
    """The free-space watermark, with hysteresis; looks at the disk at most once in ``interval_s``."""

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
        """Raise :class:`OutOfSpace` below the watermark, and until there is clearly more room again."""
        now = self._monotonic()
        if now - self._looked_at >= self._interval_s:
            self._looked_at = now
            self._look()
        if self._low:
            raise OutOfSpace(f"Less than {self._min_free_bytes} bytes are free in {self._directory}")

    def _look(self) -> None:
        try:
            free = self._free(self._directory)
        except OSError as error:
            raise StoreUnavailable(f"The store's disk does not answer: {error}") from error
        low = free < self._min_free_bytes * (_RESUME_PERCENT if self._low else 100) // 100
        if low != self._low:
            report = log.error if low else log.info
            report("store_space_low" if low else "store_space_recovered", free_bytes=free)
        self._low = low
