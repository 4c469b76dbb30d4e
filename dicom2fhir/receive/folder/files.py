"""Finding, opening and moving files in folders that others write to."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from dicom2fhir.system.durable import make_directory, replacing, sync_directory
from dicom2fhir.system.mounts import MOUNTINFO, NETWORK_FILE_SYSTEMS, VIRTUAL_FILE_SYSTEMS, file_system_type

_COLLISIONS = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a regular file at one time; two equal states mean that the file has not changed."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int

    @property
    def text(self) -> str:
        """The path as valid UTF-8 text: file names need not be UTF-8."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def found(path: str, status: os.stat_result) -> Found | None:
    """The state of ``path`` by its ``status``; None if it is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, status.st_size, status.st_mtime_ns, status.st_ino)


def look_at(path: str) -> Found | None:
    """The state of a file, without following a symbolic link; None if it is gone or not a regular file."""
    try:
        return found(path, os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_ignored(path: str, root: str, patterns: Collection[str]) -> bool:
    """Whether a pattern matches the name of ``path`` or its path below ``root``."""
    steps = (os.path.basename(path), os.path.relpath(path, root))
    return any(fnmatchcase(step, pattern.rstrip("/")) for pattern in patterns for step in steps)


def _raise(path: str, error: OSError) -> None:
    raise error


def walk(
    paths: Iterable[str | Path],
    *,
    ignore: Collection[str] = (),
    in_order: bool = False,
    on_error: Callable[[str, OSError], None] = _raise,
) -> Iterator[Found]:
    """Find the regular files in folders and their subfolders, one folder at a time.

    Symbolic links below ``paths`` are not followed, so that the walk does not loop or leave the folders. Pipes,
    sockets, devices and what disappears meanwhile are skipped.

    Parameters
    ----------
    paths
        Folders, or files, which are found under any name. These may be symbolic links.
    ignore
        Patterns (``* ? []``) for names, or for paths below the folder, of files and folders to skip.
    in_order
        Sort by name, which needs memory for one folder's names; otherwise in the file system's order.
    on_error
        Called for folders and files that cannot be read; raises by default.
    """
    for path in paths:
        root = os.fspath(path)
        try:
            status = os.stat(root)
        except OSError as error:
            on_error(root, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from walk_folder(root, root, ignore=ignore, in_order=in_order, on_error=on_error)
        elif one := found(root, status):
            yield one


def walk_folder(
    folder: str,
    root: str,
    *,
    ignore: Collection[str] = (),
    leave_out: Collection[str] = (),
    in_order: bool = False,
    on_error: Callable[[str, OSError], None] = _raise,
) -> Iterator[Found]:
    """Like :func:`walk`, for one folder and with patterns relative to ``root``.

    Parameters
    ----------
    leave_out
        Folders to skip, as the walk forms their paths: ``folder`` with names joined to it.
    """
    folders = [folder]
    while folders:
        now = folders.pop()
        below: list[str] = []
        try:
            with os.scandir(now) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name) if in_order else entries:
                    if (ignore and is_ignored(entry.path, root, ignore)) or entry.path in leave_out:
                        continue
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            below.append(entry.path)
                        elif entry.is_file(follow_symlinks=False) and (
                            one := found(entry.path, entry.stat(follow_symlinks=False))
                        ):
                            yield one
                    except FileNotFoundError:
                        continue
        except OSError as error:
            # a subfolder may disappear meanwhile, ``folder`` itself must exist
            if now == folder or not isinstance(error, FileNotFoundError | NotADirectoryError):
                on_error(now, error)
        folders.extend(reversed(below))


def open_file(path: str) -> BinaryIO:
    """Open a regular file for reading, without following a symbolic link or waiting for a pipe or device.

    Raises
    ------
    OSError
        It cannot be opened or is not a regular file (``ELOOP`` for a symbolic link, ``EINVAL``).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def has_holes(source: BinaryIO, size_bytes: int) -> bool:
    """Whether parts of an open file were never written, such as when its writer set the size in advance.

    Moves the read position of ``source``. Not all file systems report holes.
    """
    try:
        return os.lseek(source.fileno(), 0, os.SEEK_HOLE) < size_bytes
    except OSError:
        return False


def move(file: Found, root: str | Path, folder: str | Path, reason: str = "") -> Path:
    """Move a file to the same path below another folder; if the name is taken, a number is appended.

    Parameters
    ----------
    root
        The folder that this path is relative to.
    reason
        Written to ``<name>.reason.txt`` beside the file, if not empty.

    Returns
    -------
    Path
        The new path; the move and the reason are on disk.
    """
    wish = Path(folder, os.path.relpath(file.path, root))
    make_directory(wish.parent)
    target = _reserve(wish)
    try:
        if reason:
            with replacing(reason_of(target), f".{target.name}.reason", 0o640) as note:
                note.write(f"{reason}\n".encode())
        try:
            os.replace(file.path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(file, target)
            if look_at(file.path) != file:
                raise OSError(errno.EAGAIN, "the file changed while it was copied") from None
            os.unlink(file.path)
    except BaseException:
        target.unlink(missing_ok=True)
        reason_of(target).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return target


def reason_of(path: str | Path) -> Path:
    """The path of the reason file of a refused file."""
    return Path(f"{path}.reason.txt")


def _reserve(wish: Path) -> Path:
    """Create a new, empty file."""
    for number in range(_COLLISIONS):
        target = wish.with_name(f"{wish.name}.{number}") if number else wish
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        except FileExistsError:
            continue
        return target
    raise OSError(errno.EEXIST, "too many files with this name")


def _copy(file: Found, target: Path) -> None:
    """Copy to another file system; durable on return, because the original on the other disk is removed next."""
    with open_file(file.path) as source, replacing(target, f".{target.name}.part", 0o666) as sink:
        shutil.copyfileobj(source, sink, 1024 * 1024)
        sink.flush()  # a later write would change the modification time
        os.utime(sink.fileno(), ns=(file.mtime_ns, file.mtime_ns))


def is_on_network(folder: str | Path, mountinfo: Path = MOUNTINFO) -> bool:
    """Whether other systems may write into ``folder``, for which the kernel reports no events."""
    return file_system_type(Path(folder), mountinfo) in NETWORK_FILE_SYSTEMS | VIRTUAL_FILE_SYSTEMS
