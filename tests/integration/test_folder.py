from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import structlog

from dicom2fhir import errors
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.folder import watch_events
from dicom2fhir.receive.folder.files import Found, is_on_network, move, open_file, walk
from dicom2fhir.receive.folder.watcher import FolderWatcher
from dicom2fhir.store.file_marks import FileMark
from tests.watched_folder import CT, MODES, SLOW_S, Bridge, Mode, Running, dicom, passes, until

# watchdog meets a new folder twice, by its notice and by walking, and says so; it goes on with the second
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")


@MODES
def test_files_are_taken_once(start: Running, bridge: Bridge, inbox: Path, mode: Mode) -> None:
    (inbox / "before.dcm").write_bytes(dicom(1))
    watcher = start(mode)
    assert watcher.is_native is (mode == "native")
    (inbox / "after").write_bytes(dicom(2))
    until(lambda: len(bridge.marks) == 2)
    passes(watcher)
    assert bridge.names() == ["after", "before.dcm"]
    received = next(each for each in bridge.received if each.origin.path.endswith("before.dcm"))
    assert received.origin == Origin("folder", path=str(inbox / "before.dcm"), folder=str(inbox), may_reject=True)
    assert (received.sop_class, received.sop_instance) == (CT, "1.2.3.4.1")
    assert received.transfer_syntax == "1.2.840.10008.1.2.1"
    assert received.taken == {
        0x00080016: CT.encode() + b"\0",
        0x00080018: b"1.2.3.4.1\0",
        0x00100010: b"Canary^Yellow ",
        0x0020000D: b"1.2.3\0",
        0x00280010: b"\x10\0",
    }
    assert bridge.fates() == {"after": "taken", "before.dcm": "taken"}


@MODES
def test_slow_appends_are_waited_for(start: Running, bridge: Bridge, inbox: Path, mode: Mode) -> None:
    start(mode, stable_s=0.5)
    whole = dicom()
    with open(inbox / "slow.dcm", "wb", buffering=0) as file:
        for begin in range(0, len(whole), 64):
            file.write(whole[begin : begin + 64])
            time.sleep(0.03)
    until(lambda: bridge.marks)
    assert bridge.tries == 1
    assert bridge.rejected == []
    assert bridge.fates() == {"slow.dcm": "taken"}


@MODES
def test_rename_into_place(start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode) -> None:
    watcher = start(mode)
    (inbox / "upload.part").write_bytes(dicom(1))
    (tmp_path / "outside").write_bytes(dicom(2))
    passes(watcher)
    os.rename(inbox / "upload.part", inbox / "one.dcm")
    os.rename(tmp_path / "outside", inbox / "two.dcm")
    until(lambda: len(bridge.marks) == 2)
    assert bridge.names() == ["one.dcm", "two.dcm"]


@pytest.mark.parametrize(("mode", "rescan_s"), [("native", SLOW_S), ("native", 0.2), ("poll", 0.2)])
def test_new_subfolders_are_followed(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode, rescan_s: float
) -> None:
    watcher = start(mode, rescan_s)
    passes(watcher)
    deep = inbox / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "made").write_bytes(dicom(1))
    moved = tmp_path / "study" / "series"
    moved.mkdir(parents=True)
    (moved / "moved").write_bytes(dicom(2))
    os.rename(tmp_path / "study", inbox / "study")
    until(lambda: len(bridge.marks) == 2)
    (inbox / "study" / "series" / "late").write_bytes(dicom(3))
    until(lambda: len(bridge.marks) == 3)
    assert bridge.names() == ["late", "made", "moved"]


def test_lost_notices_are_made_up_for_by_looking(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_events.FolderEvents, "on_any_event", lambda self, event: None)
    watcher = start("native", rescan_s=0.3)
    passes(watcher)
    (inbox / "a").write_bytes(dicom())
    until(lambda: bridge.marks)


def test_more_notices_than_can_be_kept(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_events, "_MOST", 2)
    watcher = start("native", SLOW_S)
    passes(watcher)
    for number in range(12):
        (inbox / str(number)).write_bytes(dicom(number))
    until(lambda: len(bridge.marks) == 12)


def test_more_files_than_are_waited_for_at_a_time(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._MOST_WAITING", 3)
    for number in range(10):
        (inbox / str(number)).write_bytes(dicom(number))
    start("poll", SLOW_S)
    until(lambda: len(bridge.marks) == 10)
    assert len(bridge.received) == 10


@MODES
def test_only_regular_files(start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(dicom(9))
    os.mkfifo(inbox / "fifo")
    os.symlink(tmp_path / "outside" / "secret", inbox / "link")
    os.symlink(inbox, inbox / "loop")
    os.symlink(tmp_path / "outside", inbox / "way-out")
    os.symlink("nowhere", inbox / "broken")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(inbox / "socket"))
        (inbox / "folder.dcm").mkdir()
        watcher = start(mode)
        (inbox / "good").write_bytes(dicom(1))
        until(lambda: bridge.marks)
        passes(watcher)
    assert bridge.fates() == {"good": "taken"}
    assert bridge.rejected == []


def test_a_file_that_becomes_a_link_before_it_is_opened(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(dicom(9))
    swapped = threading.Event()

    def swap(path: str) -> BinaryIO:
        os.unlink(path)
        os.symlink(tmp_path / "secret", path)
        swapped.set()
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", swap)
    (inbox / "a").write_bytes(dicom(1))
    watcher = start("poll")
    assert swapped.wait(20)
    passes(watcher)
    assert bridge.received == []
    assert bridge.marks == {}


def test_a_file_that_is_written_to_while_it_is_read(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(path: str) -> BinaryIO:
        monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", open_file)
        with open(path, "ab") as file:
            file.write(bytes(2))
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", append)
    (inbox / "a").write_bytes(dicom(1))
    start("poll")
    until(lambda: bridge.marks)
    assert len(bridge.received) == 1
    (mark,) = bridge.marks.values()
    assert mark.size_bytes == len(dicom(1)) + 2


@MODES
def test_vanishing_files_are_fine(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    def vanish(path: str) -> BinaryIO:
        if "gone" in path:
            os.unlink(path)
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", vanish)
    watcher = start(mode)
    for number in range(5):
        (inbox / f"gone{number}").write_bytes(dicom(number))
    (inbox / "sub").mkdir()
    (inbox / "sub" / "early").write_bytes(dicom(8))
    shutil.rmtree(inbox / "sub")
    (inbox / "stays").write_bytes(dicom(7))
    until(lambda: bridge.marks and len(list(inbox.iterdir())) == 1)
    passes(watcher)
    assert bridge.fates() == {"stays": "taken"}
    assert bridge.tries == 1
    assert bridge.rejected == []


def test_unreadable_files_are_recorded_once_and_tried_again(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(path: str) -> BinaryIO:
        if path.endswith("locked"):
            tries.append(path)
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", refuse)
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._FIRST_PAUSE_S", 0.05)
    (inbox / "locked").write_bytes(dicom(1))
    (inbox / "open").write_bytes(dicom(2))
    start("poll")
    until(lambda: len(tries) >= 3 and bridge.marks)
    assert [reason for _, reason in bridge.rejected] == ["The file cannot be read: Permission denied."]
    assert bridge.fates() == {"open": "taken"}
    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", open_file)
    until(lambda: len(bridge.marks) == 2)


@MODES
def test_delete(start: Running, bridge: Bridge, inbox: Path, mode: Mode) -> None:
    (inbox / "sub").mkdir()
    (inbox / "sub" / "a.dcm").write_bytes(dicom(1))
    (inbox / "notes.txt").write_text("not DICOM at all, but long enough to look at")
    start(mode, afterwards="delete")
    until(lambda: not (inbox / "sub" / "a.dcm").exists())
    until(lambda: bridge.fates() == {"notes.txt": "skipped"})
    assert (inbox / "notes.txt").exists()
    status = (inbox / "notes.txt").stat()
    (inbox / "sub" / "a.dcm").write_bytes(dicom(1))
    os.utime(inbox / "sub" / "a.dcm", ns=(status.st_mtime_ns, status.st_mtime_ns))
    until(lambda: not (inbox / "sub" / "a.dcm").exists())
    assert len(bridge.received) == 2


def test_a_file_is_not_deleted_before_it_is_stored(start: Running, bridge: Bridge, inbox: Path) -> None:
    bridge.fail = errors.StoreUnavailable()
    (inbox / "a").write_bytes(dicom(1))
    watcher = start("poll", afterwards="delete")
    until(lambda: bridge.tries)
    assert (inbox / "a").exists()
    until(lambda: watcher.obstacle == "The store cannot commit")
    bridge.fail = None
    until(lambda: not (inbox / "a").exists())
    assert bridge.names() == ["a"]
    until(lambda: watcher.obstacle == "")


@MODES
def test_move_keeps_the_place_below_the_folder(start: Running, bridge: Bridge, inbox: Path, mode: Mode) -> None:
    done = inbox / "done"
    (inbox / "sub").mkdir()
    (inbox / "sub" / "a.dcm").write_bytes(dicom(1))
    start(mode, afterwards="move", move_to=done)
    until(lambda: (done / "sub" / "a.dcm").exists() and not (inbox / "sub" / "a.dcm").exists())
    (inbox / "sub" / "a.dcm").write_bytes(dicom(2))
    until(lambda: (done / "sub" / "a.dcm.1").exists() and not (inbox / "sub" / "a.dcm").exists())
    assert (done / "sub" / "a.dcm").read_bytes() == dicom(1)
    assert (done / "sub" / "a.dcm.1").read_bytes() == dicom(2)
    assert [received.sop_instance for received in bridge.received] == ["1.2.3.4.1", "1.2.3.4.2"]


def test_move_to_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace_here(source: str, target: Path) -> None:
        if not Path(source).name.startswith("."):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        original(source, target)

    original = os.replace
    monkeypatch.setattr(os, "replace", replace_here)
    source = tmp_path / "in" / "sub" / "a"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"content")
    status = source.stat()
    file = Found(str(source), status.st_size, status.st_mtime_ns, status.st_ino)
    target = move(file, tmp_path / "in", tmp_path / "out")
    assert target == tmp_path / "out" / "sub" / "a"
    assert target.read_bytes() == b"content"
    assert target.stat().st_mtime_ns == status.st_mtime_ns
    assert not source.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_a_move_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    gone = Found(str(tmp_path / "in" / "a"), 1, 1, 1)
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError):
        move(gone, tmp_path / "in", tmp_path / "out", "why")
    assert list((tmp_path / "out").iterdir()) == []


@MODES
def test_rejected_files_are_moved_with_their_reason(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, mode: Mode
) -> None:
    rejected = tmp_path / "rejected"
    (inbox / "cut.dcm").write_bytes(dicom(1)[:-560])
    (inbox / "large.dcm").write_bytes(dicom(2) + bytes(9000))
    start(mode, rejected_to=rejected, max_file_bytes=5000)
    until(lambda: not (inbox / "cut.dcm").exists() and not (inbox / "large.dcm").exists())
    assert (rejected / "cut.dcm").read_bytes() == dicom(1)[:-560]
    assert "ends within the element" in (rejected / "cut.dcm.reason.txt").read_text()
    assert (rejected / "large.dcm.reason.txt").read_text() == "The file is larger than 5000 bytes.\n"
    assert {Path(origin.path).name for origin, _ in bridge.rejected} == {"cut.dcm", "large.dcm"}
    bridge.fail = errors.Mismatch()
    (inbox / "cut.dcm").write_bytes(dicom(3))
    until(lambda: not (inbox / "cut.dcm").exists())
    reason = (rejected / "cut.dcm.1.reason.txt").read_text()
    assert reason == "The SOP class or instance of the command and of the data set differ.\n"
    assert len(bridge.rejected) == 2
    assert bridge.received == []


def test_rejected_files_stay_with_their_reason_in_the_ledger(start: Running, bridge: Bridge, inbox: Path) -> None:
    bridge.fail = errors.MissingUID()
    (inbox / "a").write_bytes(dicom(1))
    watcher = start("poll")
    until(lambda: bridge.marks)
    passes(watcher)
    assert bridge.tries == 1
    (mark,) = bridge.marks.values()
    assert (mark.outcome, mark.reason) == ("rejected", str(errors.MissingUID()))
    assert bridge.rejected == []
    bridge.fail = None
    (inbox / "a").write_bytes(dicom(2) + bytes(2))
    until(lambda: bridge.received)
    until(lambda: bridge.fates() == {"a": "taken"})


def test_what_is_not_an_instance_is_left_alone(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, pydicom_files: list[Path]
) -> None:
    (dicomdir,) = [path for path in pydicom_files if path.name == "DICOMDIR"][:1]
    shutil.copy(dicomdir, inbox / "DICOMDIR")
    (inbox / "empty").touch()
    (inbox / "index.html").write_text("<!doctype html><title>not DICOM</title>" * 10)
    (inbox / "bare").write_bytes(dicom(1, preamble=False))
    watcher = start("poll", afterwards="delete", rejected_to=tmp_path / "rejected")
    until(lambda: len(bridge.marks) == 3 and not (inbox / "bare").exists())
    passes(watcher)
    assert bridge.fates() == {"DICOMDIR": "skipped", "empty": "skipped", "index.html": "skipped"}
    assert bridge.names() == ["bare"]
    assert bridge.rejected == []
    assert sorted(path.name for path in inbox.iterdir()) == ["DICOMDIR", "empty", "index.html"]


def test_ignored_names(start: Running, bridge: Bridge, inbox: Path) -> None:
    (inbox / ".hidden").mkdir()
    (inbox / ".hidden" / "a").write_bytes(dicom(1))
    (inbox / "b.tmp").write_bytes(dicom(2))
    (inbox / "sub").mkdir()
    (inbox / "sub" / "c").write_bytes(dicom(3))
    (inbox / "sub" / "d").write_bytes(dicom(4))
    watcher = start("native", ignore=(".*", "*.tmp", "sub/c"))
    (inbox / ".hidden" / "e").write_bytes(dicom(5))
    until(lambda: bridge.marks)
    passes(watcher)
    assert bridge.names() == ["d"]


@MODES
def test_kept_files_are_not_read_again_after_a_restart(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    (inbox / "a").write_bytes(dicom(1))
    (inbox / "b.txt").write_text("this is certainly not a DICOM file, as you see")
    start(mode)
    until(lambda: len(bridge.marks) == 2)
    start.watchers.pop().stop()
    opened: list[str] = []

    def note(path: str) -> BinaryIO:
        opened.append(Path(path).name)
        return open_file(path)

    monkeypatch.setattr("dicom2fhir.receive.folder.folder_file.open_file", note)
    start(mode)
    (inbox / "c").write_bytes(dicom(2))
    until(lambda: len(bridge.marks) == 3)
    assert opened == ["c"]
    (inbox / "a").write_bytes(dicom(1) + bytes(2))
    until(lambda: len(bridge.received) == 3)
    assert opened == ["c", "a"]


@pytest.mark.parametrize("error", [errors.OutOfSpace(), errors.StoreDamaged(), ValueError("Canary")])
def test_nothing_is_lost_while_the_store_fails(
    start: Running,
    bridge: Bridge,
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._FIRST_PAUSE_S", 0.05)
    bridge.fail = error
    for number in range(3):
        (inbox / str(number)).write_bytes(dicom(number))
    watcher = start("poll", rejected_to=inbox / "rejected")
    until(lambda: bridge.tries >= 3)
    assert watcher.is_alive()
    assert bridge.marks == {}
    bridge.fail = None
    until(lambda: len(bridge.marks) == 3)
    assert bridge.names() == ["0", "1", "2"]
    assert bridge.rejected == []
    assert "Canary" not in capsys.readouterr().out


def test_one_file_that_trips_us_up_does_not_keep_the_others(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tripped = []

    def trip(received: Received, _reader: InstanceReader) -> None:
        if received.sop_instance == "1.2.3.4.0":
            tripped.append(received)
            raise KeyError("Canary")
        bridge.received.append(received)

    monkeypatch.setattr(bridge, "on_received", trip)
    for number in range(4):
        (inbox / str(number)).write_bytes(dicom(number))
    start("poll")
    until(lambda: len(bridge.marks) == 3 and tripped)
    assert bridge.names() == ["1", "2", "3"]
    assert (inbox / "0").exists()


def test_the_ledger_fails_too(start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._FIRST_PAUSE_S", 0.05)
    asked = []

    def fail(path: str) -> FileMark | None:
        asked.append(path)
        raise errors.StoreUnavailable

    monkeypatch.setattr(bridge, "file_mark", fail)
    (inbox / "a").write_bytes(dicom(1))
    start("poll")
    until(lambda: len(asked) >= 3)
    monkeypatch.undo()
    until(lambda: bridge.marks)
    assert bridge.names() == ["a"]


def test_the_folder_may_go_away_for_a_while(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._FIRST_PAUSE_S", 0.05)
    watcher = start("native")
    assert watcher.is_native
    os.rename(inbox, tmp_path / "away")
    passes(watcher)
    inbox.mkdir()
    (inbox / "a").write_bytes(dicom(1))
    until(lambda: bridge.marks)
    assert bridge.names() == ["a"]


def test_names_that_are_not_utf8(start: Running, bridge: Bridge, inbox: Path) -> None:
    with open(os.fsencode(inbox) + b"/M\xfcller", "wb") as file:
        file.write(dicom(1))
    watcher = start("native")
    until(lambda: bridge.marks)
    passes(watcher)
    assert list(bridge.marks) == [str(inbox) + "/M\\xfcller"]
    assert bridge.received[0].origin.path == str(inbox) + "/M\\xfcller"
    assert bridge.tries == 1


def test_names_are_not_logged(start: Running, bridge: Bridge, inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    try:
        (inbox / "DOE^JANE.dcm").write_bytes(dicom(1))
        (inbox / "DOE^JOHN.dcm").write_bytes(dicom(1)[:-560])
        start("poll")
        until(lambda: len(bridge.marks) == 2)
        start.watchers.pop().stop()
    finally:
        structlog.reset_defaults()
    written = capsys.readouterr().out
    assert "folder.processed" in written
    assert "DOE" not in written


def test_auto_polls_where_notices_cannot_be_had(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: watch_events.FolderEvents) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(watch_events.FolderEvents, "start", refuse)
    watcher = start("auto", SLOW_S)
    assert not watcher.is_native
    (inbox / "a").write_bytes(dicom(1))
    until(lambda: bridge.marks)
    native = start("native", SLOW_S)
    assert not native.is_native
    assert native.is_alive()


def test_notices_are_asked_for_again(start: Running, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's watches belong to all programs: others may need them all while we start."""

    def refuse(self: watch_events.FolderEvents) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    with monkeypatch.context() as patch:
        patch.setattr(watch_events.FolderEvents, "start", refuse)
        watcher = start("native", 0.3)
        passes(watcher)
        assert not watcher.is_native
    until(lambda: watcher.is_native)


def test_auto_polls_on_network_file_systems(start: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher.is_on_network", lambda folder: True)
    assert not start("auto").is_native


def test_network_file_systems_are_told_from_mountinfo(tmp_path: Path) -> None:
    share = tmp_path / "a share"
    share.mkdir()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"40 22 0:44 / {str(share).replace(' ', chr(92) + '040')} rw shared:2 master:1 - virtiofs host rw\n"
    )
    assert is_on_network(share / "inbox", mounts)
    assert not is_on_network(tmp_path, mounts)


def test_what_cannot_be_watched(start: Running, inbox: Path) -> None:
    with pytest.raises(errors.ConfigError, match="to be moved"):
        start(afterwards="move")


@MODES
@pytest.mark.parametrize("instead", [None, "file"])
def test_a_folder_that_is_not_there_yet_is_waited_for(
    start: Running, bridge: Bridge, inbox: Path, mode: Mode, instead: str | None
) -> None:
    inbox.rmdir()
    if instead:
        inbox.write_text("")
    watcher = start(mode, rescan_s=0.2)
    passes(watcher)
    assert watcher.is_alive()
    assert watcher.absent == ("not a folder" if instead else "No such file or directory")
    inbox.unlink(missing_ok=True)
    inbox.mkdir()
    (inbox / "a").write_bytes(dicom(1))
    until(lambda: bridge.marks)
    assert watcher.absent == ""
    assert watcher.is_native is (mode == "native")


def test_a_folder_that_hangs_does_not_hold_up_the_start(
    start: Running, bridge: Bridge, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network share does whose server is away."""
    monkeypatch.setattr("dicom2fhir.receive.folder.watcher._FIRST_LOOK_S", 0.05)
    answers, find = threading.Event(), FolderWatcher._find

    def hang(watcher: FolderWatcher) -> bool:
        assert answers.wait(20)
        return find(watcher)

    monkeypatch.setattr(FolderWatcher, "_find", hang)
    (inbox / "a").write_bytes(dicom(1))
    watcher = start("poll")
    assert watcher.is_alive()
    assert not bridge.marks
    answers.set()
    until(lambda: bridge.marks)


def test_a_folder_that_comes_in_the_place_of_another_is_listened_to(
    start: Running, bridge: Bridge, inbox: Path, tmp_path: Path
) -> None:
    """As a share does that is mounted over an empty folder."""
    start("native", SLOW_S)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "a").write_bytes(dicom(1))
    os.rename(inbox, tmp_path / "below")
    os.rename(mounted, inbox)
    until(lambda: bridge.names() == ["a"])
    (inbox / "b").write_bytes(dicom(2))
    until(lambda: bridge.names() == ["a", "b"])


@MODES
def test_many_files_from_many_writers(start: Running, bridge: Bridge, inbox: Path, mode: Mode) -> None:
    watcher = start(mode)

    def write(writer: int) -> None:
        for number in range(25):
            folder = inbox / f"w{writer}" / f"s{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            half = folder / f".{number}.part"
            half.write_bytes(dicom(100 * writer + number))
            half.rename(folder / f"{writer}-{number}")

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    until(lambda: len(bridge.marks) == 100)
    passes(watcher)
    assert len(bridge.received) == 100
    assert len({received.sop_instance for received in bridge.received}) == 100


def test_stop_leaves_no_thread(start: Running, inbox: Path) -> None:
    before = set(threading.enumerate())
    watcher = start("native")
    watcher.stop()
    assert not watcher.is_alive()
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    assert left == []


def test_walk(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b/2", "b/1", "a", ".hidden", "c/x.tmp"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.symlink(root, root / "loop")
    os.mkfifo(root / "fifo")
    names = [os.path.relpath(file.path, root) for file in walk([root], in_order=True)]
    assert names == [".hidden", "a", "b/1", "b/2", "c/x.tmp"]
    names = [os.path.relpath(file.path, root) for file in walk([root], ignore=(".*", "*.tmp", "b/1"), in_order=True)]
    assert names == ["a", "b/2"]
    os.symlink(root / "a", tmp_path / "named")
    assert [file.path for file in walk([tmp_path / "named", root / ".hidden"], ignore=(".*",))] == [
        str(tmp_path / "named"),
        str(root / ".hidden"),
    ]


def test_walk_tells_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(walk([tmp_path / "missing"]))
    told: list[str] = []
    assert list(walk([tmp_path / "missing"], on_error=lambda path, error: told.append(path))) == []
    assert told == [str(tmp_path / "missing")]
