"""The options of a folder watcher, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WatchMode = Literal["auto", "native", "poll"]
Afterwards = Literal["keep", "delete", "move"]


@dataclass(frozen=True, slots=True)
class Watch:
    """The folder to watch, and what is done with its files.

    Attributes
    ----------
    mode
        ``native`` uses file system events (inotify), ``poll`` scans every ``poll_s``, ``auto`` is ``native`` where that
        works.
    stable_s
        A file is imported when its size and modification time have not changed for this long.
    incomplete_s
        A file that ends too early is refused when its size and modification time have not changed for this long. If
        the end cannot be determined, the file is moved or deleted then.
    rescan_s, poll_s
        How often the whole folder is scanned, with and without file system events.
    ignore
        Patterns for names, or for paths below the folder, of files and folders to ignore.
    afterwards
        What is done with a file that was imported.
    move_to
        For ``afterwards="move"``; the path below the folder is kept.
    rejected_to
        Folder for refused files, each with a reason file; None: they stay where they are.
    rejection_notes
        Whether rejection notes are applied.
    max_file_bytes
        A larger file is refused.
    """

    path: Path
    mode: WatchMode = "auto"
    stable_s: float = 2.0
    incomplete_s: float = 600.0
    rescan_s: float = 60.0
    poll_s: float = 5.0
    ignore: tuple[str, ...] = (".*", "*.part", "*.partial", "*.tmp", "*.filepart", "*.crdownload")
    afterwards: Afterwards = "keep"
    move_to: Path | None = None
    rejected_to: Path | None = None
    rejection_notes: bool = True
    max_file_bytes: int = 8 * 1024 * 1024 * 1024
