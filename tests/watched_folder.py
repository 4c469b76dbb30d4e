"""A folder watcher over a store and a ledger that are in memory, and files for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicom2fhir import errors
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.receive.folder.watcher import FolderWatcher
from dicom2fhir.store.file_marks import FileMark

CT = "1.2.840.10008.5.1.4.1.1.2"
STABLE_S = 0.2
SLOW_S = 3600.0
"""A rescan that does not come while a test runs."""

Mode = Literal["auto", "native", "poll"]


class Bridge:
    """Store and ledger behind the folder: remembers, and fails on demand."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.tries = 0
        self.rejected: list[tuple[Origin, str]] = []
        self.marks: dict[str, FileMark] = {}
        self.fail: Exception | None = None

    def on_received(self, received: Received, _reader: InstanceReader) -> None:
        self.tries += 1
        if self.fail is not None:
            raise self.fail
        self.received.append(received)

    def on_rejected(self, origin: Origin, error: errors.BridgeError) -> None:
        self.rejected.append((origin, str(error)))

    def file_mark(self, path: str) -> FileMark | None:
        path.encode()
        return self.marks.get(path)

    def mark_file(self, mark: FileMark) -> None:
        mark.path.encode()
        self.marks[mark.path] = mark

    def fates(self) -> dict[str, str]:
        return {Path(path).name: mark.outcome for path, mark in self.marks.items()}

    def names(self) -> list[str]:
        return sorted(Path(received.origin.path).name for received in self.received)


class Running:
    def __init__(self, inbox: Path) -> None:
        self.inbox = inbox
        self.bridge = Bridge()
        self.watchers: list[FolderWatcher] = []

    def __call__(self, mode: Mode = "auto", rescan_s: float = 0.2, **watch: Any) -> FolderWatcher:
        watch = {"stable_s": STABLE_S, "incomplete_s": STABLE_S, **watch}
        watcher = FolderWatcher(
            Watch(self.inbox, mode, rescan_s=rescan_s, poll_s=0.2, **watch),
            on_received=self.bridge.on_received,
            on_rejected=self.bridge.on_rejected,
            ledger=self.bridge,
        )
        watcher.start()
        self.watchers.append(watcher)
        return watcher


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@pytest.fixture
def start(inbox: Path) -> Iterator[Running]:
    running = Running(inbox)
    yield running
    for watcher in running.watchers:
        watcher.stop()


@pytest.fixture
def bridge(start: Running) -> Bridge:
    return start.bridge


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def passes(watcher: FolderWatcher, count: int = 3) -> None:
    """Wait until the watcher has gone round a few times, for what must not happen."""
    for _ in range(count):
        before = watcher.heartbeat
        until(lambda before=before: watcher.heartbeat > before)  # type: ignore[misc]


def dicom(number: int = 1, preamble: bool = True) -> bytes:
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = f"1.2.3.4.{number}"
    ds.StudyInstanceUID = "1.2.3"
    ds.PatientName = "Canary^Yellow"
    ds.Rows = 16
    ds.PixelData = bytes(512)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    buffer = BytesIO()
    if preamble:
        ds.save_as(buffer, enforce_file_format=True)
    else:
        del ds.file_meta
        ds.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


MODES = pytest.mark.parametrize("mode", ["native", "poll"])
