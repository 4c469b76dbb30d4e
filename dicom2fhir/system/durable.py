"""Files and folders that survive a power loss: fsync of a file does not write its directory entry (fsync(2))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, temporary: str, mode: int = 0o600, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file that takes the place of ``path`` at the end of the block, complete and durable, or not at all.

    Parameters
    ----------
    temporary
        The file's name until then, in the same folder. No two writers may use it at a time. What a crash left under
        this name is overwritten.
    mode
        Permissions of the file, before the umask.
    sync
        False where a power loss may take the file: readers still see the old or the new one, never a part.
    """
    new = path.with_name(temporary)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed entries of ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents, durably.

    Parameters
    ----------
    mode
        Of ``directory``, before the umask; its parents get the default.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode, exist_ok=True)
    sync_directory(directory.parent)
