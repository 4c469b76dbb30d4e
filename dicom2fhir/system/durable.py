"""Folders whose entries survive a power loss: to sync a file does not promise that its name is on disk (fsync(2))."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed entries of ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, where they are not there, durably.

    Parameters
    ----------
    mode
        Of ``directory``, before the umask; those above it have the default.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode, exist_ok=True)
    sync_directory(directory.parent)
