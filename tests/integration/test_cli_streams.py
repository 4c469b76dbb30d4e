"""Commands whose standard streams are closed, narrow or not read any more, and commands that are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_dicom import ct_instances
from tests.daemon_process import ROOT, environment, run_command, wait_until
from tests.several_commands import NEXT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file, beside one of another study that is called ``other``."""
    for name in ("one", "other"):
        instance("CT", name, 1, 1).save_as(tmp_path / name, enforce_file_format=True)
    return tmp_path / "one"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """An empty store."""
    SqliteStore(tmp_path / "state" / "store.db", quiet_period_s=0, min_free_bytes=0).close()
    return tmp_path / "state"


NARROW = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "C": {"LC_ALL": "C"},
    "C as it was before PEP 538": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
DEVICE_FULL = Path("/dev/full")


@pytest.mark.parametrize("locale", NARROW)
def test_every_reading_command_works_in_a_narrow_locale(
    generated: Path, state_dir: Path, tmp_path: Path, locale: str
) -> None:
    odd = tmp_path / "Грозный.dcm"
    odd.write_bytes((generated / "cyrillic" / "0001.dcm").read_bytes())
    commands: list[list[str | Path]] = [
        ["explain", odd],
        ["explain", "--json", odd],
        ["convert", odd],
        ["profiles", "show", "osiris"],
        ["status", "--state-dir", state_dir],
        ["convert", odd.with_name("не-DICOM.dcm")],
    ]
    arguments = [word for command in commands for word in (NEXT, *command)]
    env = {**environment(), **NARROW[locale]}
    done = run_command(tmp_path / "statuses", *arguments, module="tests.several_commands", env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "statuses").read_bytes()) == [0, 0, 0, 0, 0, 1]
    of_status, *of_missing = done.stderr.splitlines()
    assert of_status == f"store: {state_dir / 'store.db'}".encode()
    assert of_missing and b"Traceback" not in done.stderr


def test_json_of_a_narrow_locale_is_the_same(generated: Path) -> None:
    file = generated / "cyrillic" / "0001.dcm"
    wide = run_command("explain", "--json", file).stdout
    assert run_command("explain", "--json", file, env={**environment(), **NARROW["ascii"]}).stdout == wide


@pytest.mark.parametrize(
    "command",
    [
        *("--help", "convert --help", "convert FILE", "explain FILE", "explain --json FILE", "profiles list"),
        *("profiles show osiris", "status --state-dir STATE", "status --json --state-dir STATE"),
    ],
)
def test_output_that_nobody_reads_ends_the_command_in_silence(file: Path, state_dir: Path, command: str) -> None:
    arguments = command.replace("FILE", str(file)).replace("STATE", str(state_dir)).split()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_command(*arguments, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert done.returncode == 141
    assert [line for line in done.stderr.splitlines() if not line.startswith(b"store: ")] == []


def test_messages_that_nobody_reads_end_the_command_in_silence(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_command("convert", tmp_path / "gone", capture_output=False, stdout=subprocess.PIPE, stderr=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (141, b"")


@pytest.mark.parametrize("command", ["convert", "explain"])
def test_output_that_cannot_be_written_is_an_io_error(file: Path, command: str) -> None:
    with DEVICE_FULL.open("wb") as full:
        done = run_command(command, file, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (74, b"dicom2fhir: No space left on device\n")


@pytest.mark.parametrize(("closed", "status"), [("<&-", 0), (">&-", 74), ("2>&-", 0)])
def test_closed_streams_are_no_traceback_and_no_file_takes_their_place(file: Path, closed: str, status: int) -> None:
    shell = f'exec "$0" -m dicom2fhir convert "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, str(file), str(file.with_name("other"))],
        capture_output=True, cwd=ROOT, env=environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == (0 if status else 2)


# Interrupts


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_interrupted_backfill_says_how_to_go_on(tmp_path: Path, dry_run: bool) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for made in ct_instances(2000):
        (archive / made.sop_instance).write_bytes(made.file)
    flags = ["--dry-run"] if dry_run else []
    command = [sys.executable, "-m", "dicom2fhir", "backfill", str(archive), "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(
        [*command, *flags], stderr=subprocess.PIPE, cwd=ROOT, env=environment(), start_new_session=True
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: children(process.pid), 30, "the backfill has workers")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        told = process.stderr.read().decode().splitlines()
        assert process.wait(60) == 130
    left = "nothing was written" if dry_run else "run the same command again to continue"
    assert [line for line in told if not line.startswith("store: ")] == [f"dicom2fhir: interrupted; {left}"]


def children(pid: int) -> list[str]:
    """Processes that a process has started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_an_interrupted_command_says_so(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "dicom2fhir", "convert", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment()
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        wait_until(lambda: "pipe_read" in Path(f"/proc/{process.pid}/wchan").read_text(), 30, "it waits for input")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().decode().strip() == "dicom2fhir: interrupted"
        assert process.wait(60) == 130
