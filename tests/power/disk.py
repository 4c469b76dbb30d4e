"""A disk whose power fails: what a recorded process wrote and did not sync may be there, in part, or not at all.

What it takes for granted, as SQLite does (https://sqlite.org/psow.html): a sync that has returned holds; a write
changes no bytes but its own; a rename within a file system is all or nothing. Changes of one folder reach the disk in
their order. The content of a file and its name are synced apart, which is more than journaling file systems ask for.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

RECORDER = Path(__file__).with_name("recorder.c")
_HEAD = struct.Struct("<cQQI")
_SECTOR = 512
_TORN = 0.25
"""Share of the writes that are there in part."""


class Call(NamedTuple):
    """One call that was recorded; ``recorder.c`` says which kinds there are."""

    kind: str
    file: int
    number: int
    text: bytes


@dataclass
class _File:
    on_disk: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class _Renaming:
    """A change of names that happens as a whole: path -> the file that has this name from now on, or none."""

    names: Mapping[str, int | None]

    @property
    def folders(self) -> set[str]:
        return {os.path.dirname(path) for path in self.names}


def read_calls(path: Path) -> list[Call]:
    """What was recorded."""
    data = path.read_bytes()
    calls, at = [], 0
    while at < len(data):
        kind, file, number, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        calls.append(Call(kind.decode(), file, number, data[at : at + length]))
        at += length
    return calls


def _number(path: Path) -> int:
    """Of a file among those of all file systems, as in ``recorder.c``."""
    found = path.stat()
    return found.st_ino ^ (found.st_dev << 40) & 0xFFFFFFFFFFFFFFFF


class Disk:
    """The disk, to which calls happen one by one.

    Parameters
    ----------
    below
        Folder whose content is on disk at the beginning; only what is in it counts.

    Attributes
    ----------
    syncs
        False: it says that it has synced and has not.
    """

    def __init__(self, below: Path) -> None:
        self.syncs = True
        self._below = str(below)
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._folders = {_number(below): self._below}
        self._pending: list[_Renaming] = []
        for path in below.rglob("*"):
            number = _number(path)
            self._names[str(path)] = number
            if path.is_dir():
                self._folders[number] = str(path)
            else:
                self._files[number] = _File(bytearray(path.read_bytes()))
        self._now = dict(self._names)

    def happen(self, call: Call) -> None:
        """A call of the process."""
        match call.kind:
            case "W" | "T":
                self._files.setdefault(call.file, _File()).pending.append(call)
            case "S":
                self._sync(call.file)
            case "C":
                self._files[call.file] = _File()
                self._rename({call.text.decode(): call.file})
            case "M":
                self._folders[call.file] = call.text.decode()
                self._rename({call.text.decode(): call.file})
            case "U":
                self._rename({call.text.decode(): None})
            case "R":
                old, new = call.text.decode().split("\0")
                self._rename({old: None, new: self._now[old]})

    def _rename(self, names: Mapping[str, int | None]) -> None:
        self._pending.append(_Renaming(names))
        _apply(self._now, names)

    def _sync(self, number: int) -> None:
        if not self.syncs:
            return
        if folder := self._folders.get(number):
            synced = [change for change in self._pending if folder in change.folders]
            for change in synced:
                _apply(self._names, change.names)
            self._pending = [change for change in self._pending if change not in synced]
        else:
            file = self._files[number]
            for call in file.pending:
                _write(file.on_disk, call.number, call)
            file.pending.clear()

    def fails(self, draw: random.Random) -> dict[str, bytes]:
        """One of the many ways in which it may be found: path below the folder -> content; folders are not told."""
        names = dict(self._names)
        for change in self._that_are_there(draw):
            _apply(names, change.names)
        found = {}
        for path, number in names.items():
            if number not in self._folders and self._is_reachable(path, names):
                found[os.path.relpath(path, self._below)] = self._content(self._files[number], draw)
        return found

    def _that_are_there(self, draw: random.Random) -> Iterator[_Renaming]:
        """Of each folder the first changes, up to any; one that concerns two folders is there when both say so."""
        counts = dict.fromkeys((folder for change in self._pending for folder in change.folders), 0)
        for change in self._pending:
            for folder in change.folders:
                counts[folder] += 1
        ends = {folder: draw.choice((0, count, draw.randint(0, count))) for folder, count in counts.items()}
        seen = dict.fromkeys(ends, 0)
        for change in self._pending:
            for folder in change.folders:
                seen[folder] += 1
            if all(seen[folder] <= ends[folder] for folder in change.folders):
                yield change

    def _is_reachable(self, path: str, names: Mapping[str, int]) -> bool:
        folder = os.path.dirname(path)
        return folder == self._below or (folder in names and self._is_reachable(folder, names))

    def _content(self, file: _File, draw: random.Random) -> bytes:
        content = bytearray(file.on_disk)
        share = draw.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for call in file.pending:
            if draw.random() < share:
                for at, part in _parts(call, draw):
                    _write(content, at, call._replace(text=part))
        return bytes(content)


def _parts(call: Call, draw: random.Random) -> Sequence[tuple[int, bytes]]:
    """The sectors of a write that are there."""
    if call.kind != "W" or draw.random() >= _TORN:
        return [(call.number, call.text)]
    borders = range(_SECTOR - call.number % _SECTOR, len(call.text), _SECTOR)
    starts = [0, *borders]
    ends = [*borders, len(call.text)]
    return [
        (call.number + start, call.text[start:end])
        for start, end in zip(starts, ends, strict=True)
        if draw.random() < 0.5
    ]


def _write(content: bytearray, at: int, call: Call) -> None:
    size = call.number if call.kind == "T" else at + len(call.text)
    if call.kind == "T":
        del content[size:]
    content.extend(bytes(max(size - len(content), 0)))
    if call.kind == "W":
        content[at : at + len(call.text)] = call.text


def _apply(names: dict[str, int], change: Mapping[str, int | None]) -> None:
    for path, number in change.items():
        if number is None:
            names.pop(path, None)
        else:
            names[path] = number
