"""Files of a watched folder whose writer pauses for longer than a file takes to settle, or never comes back."""

from __future__ import annotations

import os
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

from dicom2fhir import errors
from dicom2fhir.receive.folder.files import open_file
from tests.watched_folder import MODES, SLOW_S, STABLE_S, Bridge, Mode, Running, dicom, passes, until

pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")


def encapsulated() -> bytes:
    ds = dcmread(BytesIO(dicom()))
    ds.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    ds.PixelData = encapsulate([bytes(range(200)), bytes(range(200))])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def report() -> bytes:
    """An object without bulk data: nothing in it tells where it ends."""
    ds = dcmread(BytesIO(dicom()))
    del ds.PixelData
    ds.SeriesInstanceUID = "1.2.3.5"
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def large() -> bytes:
    """With more pixels than a file system keeps together."""
    ds = dcmread(BytesIO(dicom()))
    ds.PixelData = b"\x01" * 3_000_000
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


NATIVE, ENCAPSULATED = dicom(), encapsulated()
CUTS = {
    "file meta information": (NATIVE, 200),
    "behind the file meta information": (NATIVE, NATIVE.index(b"\x08\0\x16\0")),
    "header": (NATIVE, NATIVE.index(b"Yellow")),
    "between elements": (NATIVE, NATIVE.index(b"\x10\0\x10\0PN")),
    "before pixels": (NATIVE, len(NATIVE) - 512),
    "pixels": (NATIVE, len(NATIVE) - 1),
    "fragments": (ENCAPSULATED, len(ENCAPSULATED) - 100),
    "before the delimiter": (ENCAPSULATED, len(ENCAPSULATED) - 8),
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened, in this order."""
    opened: list[str] = []

    def note(path: str) -> BinaryIO:
        opened.append(Path(path).name)
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", note)
    return opened


def options(tmp_path: Path, afterwards: str) -> dict[str, Any]:
    more = {"move_to": tmp_path / "done"} if afterwards == "move" else {}
    return {"afterwards": afterwards, "rejected_to": tmp_path / "rejected", **more}


def is_put_away(inbox: Path, tmp_path: Path, afterwards: str, name: str, content: bytes) -> bool:
    """Whether what is to become of a stored file has become of it."""
    if afterwards == "keep":
        return (inbox / name).read_bytes() == content
    moved = tmp_path / "done" / name
    return not (inbox / name).exists() and (afterwards == "delete" or moved.read_bytes() == content)


@pytest.mark.parametrize(
    ("cut", "afterwards", "mode"),
    [
        *product(["header", "pixels"], ["keep", "delete", "move"], ["native", "poll"]),
        *product(sorted({*CUTS} - {"header", "pixels"}), ["delete"], ["poll"]),
    ],
)
def test_a_writer_that_pauses_is_waited_for(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, read: list[str], mode: Mode, afterwards: str, cut: str
) -> None:
    watcher = start(mode, incomplete_s=SLOW_S, **options(tmp_path, afterwards))
    whole, length = CUTS[cut]
    with open(inbox / "a", "wb", buffering=0) as file:
        file.write(whole[:length])
        until(lambda: read)
        passes(watcher)
        assert (inbox / "a").stat().st_ino == os.fstat(file.fileno()).st_ino
        assert (bridge.received, bridge.rejected, bridge.marks) == ([], [], {})
        assert read == ["a"]
        file.write(whole[length:])
    until(lambda: bridge.received)
    until(lambda: is_put_away(inbox, tmp_path, afterwards, "a", whole))
    passes(watcher)
    assert [received.taken[0x00100010] for received in bridge.received] == [b"Canary^Yellow "]
    assert bridge.rejected == []
    assert not (tmp_path / "rejected").exists()


@MODES
@pytest.mark.parametrize("length", [0, 100, 130])
def test_what_is_not_dicom_yet_is_taken_when_it_is(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode, length: int
) -> None:
    start(mode, incomplete_s=SLOW_S, **options(tmp_path, "delete"))
    with open(inbox / "a", "wb", buffering=0) as file:
        file.write(NATIVE[:length])
        until(lambda: bridge.fates() == {"a": "skipped"})
        file.write(NATIVE[length:])
    until(lambda: not (inbox / "a").exists())
    assert (len(bridge.received), bridge.rejected) == (1, [])


@MODES
@pytest.mark.parametrize("afterwards", ["keep", "delete", "move"])
@pytest.mark.parametrize("cut", ["header", "pixels"])
def test_a_writer_that_never_comes_back(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode, afterwards: str, cut: str
) -> None:
    whole, length = CUTS[cut]
    (inbox / "a").write_bytes(whole[:length])
    watcher = start(mode, incomplete_s=3 * STABLE_S, **options(tmp_path, afterwards))
    until(lambda: bridge.rejected)
    until(lambda: not (inbox / "a").exists())
    passes(watcher)
    assert (tmp_path / "rejected" / "a").read_bytes() == whole[:length]
    assert "ends within" in (tmp_path / "rejected" / "a.reason.txt").read_text()
    assert (len(bridge.rejected), bridge.received) == (1, [])
    assert not (tmp_path / "done").exists()


@MODES
@pytest.mark.parametrize("afterwards", ["keep", "delete"])
def test_a_refused_file_that_stayed_is_taken_when_it_changes(
    start: Running, bridge: Bridge, inbox: Path, mode: Mode, afterwards: str
) -> None:
    start(mode, incomplete_s=STABLE_S, afterwards=afterwards)
    with open(inbox / "a", "wb", buffering=0) as file:
        file.write(NATIVE[:-1])
        until(lambda: bridge.fates() == {"a": "rejected"})
        assert (inbox / "a").exists()
        assert str(errors.EndsTooEarly()) == bridge.rejected[0][1]
        file.write(NATIVE[-1:])
    until(lambda: bridge.received)
    until(lambda: bridge.fates() == {"a": "taken"} if afterwards == "keep" else not (inbox / "a").exists())
    assert len(bridge.rejected) == 1


@MODES
@pytest.mark.parametrize("afterwards", ["keep", "delete", "move"])
def test_a_refused_file_that_was_moved_is_taken_when_its_writer_goes_on(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode, afterwards: str
) -> None:
    start(mode, incomplete_s=STABLE_S, **options(tmp_path, afterwards))
    (inbox / "sub").mkdir()
    with open(inbox / "sub" / "a", "wb", buffering=0) as file:
        file.write(NATIVE[:300])
        until(lambda: (tmp_path / "rejected" / "sub" / "a.reason.txt").exists() and not (inbox / "sub" / "a").exists())
        file.write(NATIVE[300:])
    until(lambda: bridge.received)
    until(lambda: is_put_away(inbox, tmp_path, afterwards, "sub/a", NATIVE))
    assert list((tmp_path / "rejected" / "sub").iterdir()) == []
    assert len(bridge.rejected) == 1


@MODES
@pytest.mark.parametrize("afterwards", ["delete", "move"])
def test_what_does_not_tell_its_end_is_taken_at_once_and_put_away_later(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode, afterwards: str
) -> None:
    watcher = start(mode, incomplete_s=SLOW_S, **options(tmp_path, afterwards))
    (inbox / "a").write_bytes(report())
    until(lambda: bridge.received)
    passes(watcher)
    assert (inbox / "a").read_bytes() == report()
    start.watchers.pop().stop()
    start(mode, incomplete_s=3 * STABLE_S, **options(tmp_path, afterwards))
    until(lambda: not (inbox / "a").exists())
    assert is_put_away(inbox, tmp_path, afterwards, "a", report())
    assert bridge.rejected == []


@pytest.mark.parametrize("behind", [b"Canary^", b"\x28\0\x10\0US", b"\xe0\x7f\x10\0OW"])
def test_a_writer_that_sets_the_size_beforehand(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, read: list[str], behind: bytes
) -> None:
    """As copies to network shares do: the file has its final size, and a hole where nothing was written yet."""
    whole = large()
    length = whole.index(behind) + len(behind)
    length += 6 if behind.endswith(b"OW") else 0
    watcher = start("poll", incomplete_s=SLOW_S, **options(tmp_path, "delete"))
    with open(inbox / "a", "wb", buffering=0) as file:
        file.truncate(len(whole))
        file.write(whole[:length])
        until(lambda: read)
        passes(watcher)
        assert (inbox / "a").exists()
        assert bridge.rejected == []
        file.write(whole[length:])
    until(lambda: not (inbox / "a").exists())
    assert bridge.received[-1].taken[0x00280010] == b"\x10\0"
    assert bridge.rejected == []


def test_more_files_left_alone_than_are_waited_for_at_a_time(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._MOST_WAITING", 3)
    for number in range(10):
        (inbox / f"{number} cut").write_bytes(NATIVE[:-1])
    start("poll", incomplete_s=SLOW_S, **options(tmp_path, "delete"))
    (inbox / "whole").write_bytes(NATIVE)
    until(lambda: not (inbox / "whole").exists())
    assert len(list(inbox.iterdir())) == 10
