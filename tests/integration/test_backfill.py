"""Archives into the store: real files, worker processes and a daemon beside them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS
from dicom2fhir.errors import BridgeError
from dicom2fhir.jobs import backfill, backfill_holds, backfill_summary, conversion
from dicom2fhir.jobs.backfill import Backfill
from dicom2fhir.jobs.backfill_summary import Summary
from dicom2fhir.jobs.backfill_worker import FileBatch
from dicom2fhir.receive.folder.files import found
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import State
from testdata.make_dicom import ct_files
from tests.backfill_archive import Archive, counts
from tests.command_line import run_here
from tests.daemon_process import ROOT, DaemonProcess, environment, wait_until
from tests.store_contract.bench import claimed

INTERRUPTIONS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}
"""A signal, and the exit status after it."""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def same_as_converted(store: SqliteStore, files: Path) -> int:
    """Check that the store holds the very studies that ``convert`` makes of the files; how many."""
    with ExitStack() as stack:
        sources = conversion.input_files([str(files)], sys.stdin.buffer, _pass_over, stack)
        reading = conversion.read(sources, _pass_over)
    studies = [reading.study(uid) for uid in sorted(reading.studies)]
    arrived = [status for status in store.studies(limit=1000) if status.instances]  # others are only named by a note
    assert len(arrived) == len(studies)
    for study in studies:
        kept = store.study(study.uid)
        assert kept is not None
        assert (kept.patient, kept.attrs, kept.series, kept.conflict) == (
            study.patient,
            study.attrs,
            study.series,
            study.conflict,
        )
    return len(studies)


def _pass_over(_name: str, _reason: str) -> None:
    """What ``convert`` cannot read is not in the store either."""


def test_the_store_holds_what_convert_would_make(archive: Archive, generated: Path) -> None:
    shutil.copytree(generated, archive.files)
    summary = archive.backfill(status=1)
    assert summary["failed"] == len(summary["failures"]) > 0
    with closing(archive.store()) as store:
        assert same_as_converted(store, archive.files) == summary["studies"] > 20
        assert store.stats().instances == summary["new"]


def test_a_second_run_reads_nothing_but_knows_what_failed(archive: Archive) -> None:
    files = ct_files(archive.files, 6, studies=2)
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:400])
    (archive.files / "readme.txt").write_text("Not DICOM at all, and longer than the preamble of a file." * 9)
    (archive.files / "link.dcm").symlink_to(files[1])
    (archive.files / "DICOMDIR").write_bytes(_directory_of_a_medium())
    first = archive.backfill(status=1)
    assert counts(first) == {"files": 8, "taken": 5, "new": 5, "skipped": 2, "failed": 1, "studies": 2}
    assert [failure["path"] for failure in first["failures"]] == [str(files[0])]
    second = archive.backfill(status=1)
    assert counts(second) == {"files": 8, "done_before": 7, "failed": 1}
    assert second["failures"] == first["failures"]
    with closing(archive.store()) as store:
        assert [rejection.origin.path for rejection in store.rejections()] == [str(files[0])]

    files[0].write_bytes(whole)
    assert counts(archive.backfill()) == {"files": 8, "done_before": 7, "taken": 1, "new": 1, "studies": 1}


def _directory_of_a_medium() -> bytes:
    """As much of a DICOMDIR (PS3.10 section 8) as says what it is."""
    sop_class = b"1.2.840.10008.1.3.10"
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = b"\x02\0\x02\0UI" + len(sop_class).to_bytes(2, "little") + sop_class
    meta += b"\x02\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    return bytes(128) + b"DICM" + meta + b"\x04\0\x30\x11CS\x02\0A "


def test_people_are_told_what_failed_and_what_to_do_next(archive: Archive) -> None:
    files = ct_files(archive.files, 3)
    files[1].write_bytes(files[1].read_bytes()[:400])
    done = run_here(*archive.command(archive.files, workers=1))
    assert done.status == 1
    assert done.stdout == b""
    said = done.stderr.splitlines()
    assert said[0] == f"store: {archive.state / 'store.db'}"
    assert said[1].startswith(f"{files[1]}: ")
    assert "2 instances of 1 study (2 new), 1 failed" in said[2]
    assert "start the daemon" in said[3]


def test_a_dry_run_writes_nothing(archive: Archive) -> None:
    ct_files(archive.files, 6, studies=2)
    expected = {"files": 6, "taken": 6, "studies": 2}
    assert counts(archive.backfill("--dry-run", archive.files)) == expected
    assert not archive.state.exists()
    archive.backfill()
    ct_files(archive.files / "more", 2)
    assert counts(archive.backfill("--dry-run", archive.files)) == {
        "files": 8,
        "done_before": 6,
        "taken": 2,
        "studies": 1,
    }
    with closing(archive.store()) as store:
        assert store.stats().instances == 6


def test_only_files_since(archive: Archive) -> None:
    files = ct_files(archive.files, 4)
    os.utime(files[0], (0, 0))
    os.utime(files[1], (1e9, 1e9))
    assert counts(archive.backfill("--since", "7d", archive.files))["taken"] == 2
    assert counts(archive.backfill("--since", "2000-01-01", archive.files))["taken"] == 1
    done = run_here(*archive.command("--since", "yesterday", archive.files))
    assert done.status == 2
    assert "--since" in done.stderr


def test_moments() -> None:
    assert backfill.moment("90m", 10_000) == 10_000 - 90 * 60
    assert backfill.moment("1.5d", 1e6) == 1e6 - 1.5 * 86_400
    assert backfill.moment("2026-01-31T08:00+00:00", 0) == 1_769_846_400
    assert backfill.moment("2026-01-31", 0) < backfill.moment("2026-02-01", 0)
    for text in ("", "7", "d", "7 days", "31.1.2026"):
        with pytest.raises(ValueError):
            backfill.moment(text, 0)


def test_nothing_there_is_wrong_usage(archive: Archive, tmp_path: Path) -> None:
    assert run_here(*archive.command(tmp_path / "nowhere")).status == 2
    (tmp_path / "empty").mkdir()
    assert counts(archive.backfill(tmp_path / "empty")) == {}


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda number: number.name)
def test_an_interrupted_run_goes_on_without_reading_again(archive: Archive, interruption: signal.Signals) -> None:
    files = ct_files(archive.files, 3000, studies=40)
    archive.store().close()
    with subprocess.Popen(
        [sys.executable, "-m", "dicom2fhir", *archive.command("--json", archive.files)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        with closing(SqliteStore.open_readonly(archive.state / "store.db")) as reader:
            wait_until(lambda: reader.stats().instances, 60, "the first instances are kept")
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(interruption)
        assert process.wait(60) == INTERRUPTIONS[interruption]
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert workers
    wait_until(lambda: not any(_is_alive(worker) for worker in workers), 30, "no worker outlives its parent")

    with closing(SqliteStore.open_readonly(archive.state / "store.db")) as reader:
        done = reader.file_marks(map(str, files))
        assert 0 < len(done) == reader.stats().instances < len(files)
    for path in done:  # what would be read again would fail
        was = os.stat(path)
        Path(path).write_bytes(b"\xff" * was.st_size)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    left = len(files) - len(done)
    summary = counts(archive.backfill())
    assert (summary["files"], summary["done_before"], summary["new"]) == (len(files), len(done), left)
    with closing(archive.store()) as store:
        assert (store.stats().instances, store.stats().studies) == (len(files), 40)


def _is_alive(process_id: str) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# In this process


@pytest.fixture
def store(archive: Archive) -> Iterator[SqliteStore]:
    made = archive.store()
    made.set_destinations(["main"])
    yield made
    made.close()


def test_no_study_is_due_before_its_files_are_in(
    archive: Archive, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_BATCH_FILES", 2)
    ct_files(archive.files, 30, studies=3)
    steps = []

    def look(summary: Summary, total: int | None) -> None:
        assert claimed(store, "main", "early", 60) is None
        steps.append((summary.files, total))

    Backfill(store, workers=2, on_progress=look).run([archive.files])
    assert len(steps) == 15
    assert {total for _, total in steps} <= {None, 30}
    claims = [claimed(store, "main", str(n), 60) for n in range(4)]
    assert len({claim.study_uid for claim in claims if claim}) == 3


def test_a_long_run_lets_go_of_studies_that_get_nothing_more(
    archive: Archive, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_BATCH_FILES", 1)
    monkeypatch.setattr(backfill_holds, "WINDOW_FILES", 4)
    ct_files(archive.files, 60, studies=15)  # four files each
    taken: dict[int, str] = {}

    def look(summary: Summary, _total: int | None) -> None:
        if claim := claimed(store, "main", f"at {summary.taken}", 600):
            taken[summary.taken] = claim.study_uid

    Backfill(store, workers=1, on_progress=look).run([archive.files])
    assert 3 <= len(taken) <= 14, "some are let go before the end, and some only then"
    assert min(taken) > 8, "a whole window has passed since the study's last file"
    for claim in (claimed(store, "main", f"end {n}", 600) for n in range(20)):
        if claim:
            taken[-len(taken)] = claim.study_uid
    assert len(taken) == len(set(taken.values())) == 15
    for uid in taken.values():
        status = store.study_status(uid)
        assert status is not None and status.instances == 4


def test_a_worker_that_ends_is_told(archive: Archive, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "_BATCH_FILES", 1)
    ct_files(archive.files, 40)

    def kill(_summary: Summary, _total: int | None) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(BridgeError, match="memory"):
        Backfill(store, workers=1, on_progress=kill).run([archive.files])
    assert Backfill(store, workers=1).run([archive.files]).failed == 0
    assert store.stats().instances == 40


def test_a_file_that_cannot_be_read_now_is_tried_again(archive: Archive, store: SqliteStore) -> None:
    file = ct_files(archive.files, 1)[0]
    looked_at = found(str(file), os.stat(file))
    assert looked_at is not None
    with file.open("ab") as more:
        more.write(b"\0\0")
    chunk = FileBatch([looked_at]).read(DEFAULT_BUDGETS)
    assert chunk.taken == [] and chunk.unreadable == [(0, "The file changed while it was read")]
    file.unlink()
    assert FileBatch([looked_at]).read(DEFAULT_BUDGETS).unreadable[0][0] == 0


def test_a_folder_that_cannot_be_read_is_a_failure(archive: Archive, store: SqliteStore, tmp_path: Path) -> None:
    summary = Backfill(store, workers=1).run([tmp_path / "gone"])
    assert (summary.files, summary.failed) == (1, 1)
    assert summary.failures[0][0] == str(tmp_path / "gone")


def test_failures_are_counted_all_and_listed_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_summary, "_LISTED_FAILURES", 2)
    summary = Summary(files=3)
    for number in range(3):
        summary.fail(f"/{number}", "cut off")
    assert summary.failed == 3
    assert list(summary.lines(dry_run=True, daemon_runs=False)) == [
        "/0: cut off",
        "/1: cut off",
        "... and 1 more",
        "3 files in 0.0 s: 0 instances of 0 studies, 3 failed",
        "Nothing was written.",
    ]


# With a daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    made = DaemonProcess(tmp_path / "daemon", ("--output-dir", tmp_path / "out", "--quiet-period", "0.2"), "")
    yield made
    made.clean_up()


@pytest.mark.parametrize("first", ["daemon", "backfill"])
def test_a_daemon_delivers_what_convert_would_write(
    archive: Archive, daemon: DaemonProcess, tmp_path: Path, first: str
) -> None:
    ct_files(archive.files, 450, studies=9)
    archive.state = daemon.state_dir
    if first == "daemon":
        daemon.start()
    summary = archive.backfill()
    assert counts(summary) == {"files": 450, "taken": 450, "new": 450, "studies": 9}
    if first == "backfill":
        daemon.start()
    with daemon.store() as store:
        wait_until(lambda: store.stats().delivered == 9, 60, "nine studies are delivered")
        assert not store.rejections()
        assert {study.deliveries[0].state for study in store.studies()} == {State.DELIVERED}
    assert daemon.terminate() == 0
    assert run_here("convert", archive.files, "-o", tmp_path / "converted").status == 0
    converted = {path.stem: json.loads(path.read_bytes()) for path in (tmp_path / "converted").iterdir()}
    delivered = sorted((tmp_path / "out").iterdir(), key=lambda path: int(path.name.split(".")[1]))
    latest = {path.name.split(".")[0]: json.loads(path.read_bytes()) for path in delivered}
    assert latest == converted
    assert len(delivered) == 9, "each study was sent once, when all of it was in"


def test_a_terminal_shows_how_fast_it_goes(archive: Archive) -> None:
    ct_files(archive.files, 600)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-m", "dicom2fhir", *archive.command(archive.files)]
    env = {**environment(), "TERM": "xterm"}
    pieces = []
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=env) as process:
            os.close(theirs)
            with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
                while piece := os.read(ours, 4096):
                    pieces.append(piece)
        assert process.returncode == 0
    finally:
        os.close(ours)
    shown = b"".join(pieces).decode()
    assert "reading" in shown
    assert "600 files in" in shown
