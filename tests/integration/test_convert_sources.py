"""What ``convert`` is given, as processes see it: pipes, and more files than may be open."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance
from tests.daemon_process import run_command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "1.dcm"
    instance("CT", "sources").save_as(made, enforce_file_format=True)
    return made


def test_a_pipe_that_is_named_is_read_and_the_rest_too(file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = file.read_bytes()
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    other = tmp_path / "other.dcm"
    instance("MR", "other").save_as(other, enforce_file_format=True)
    done = run_command("convert", tmp_path / "none", pipe, other)
    writer.join()
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert b"none: No such file" in done.stderr


def test_more_files_are_named_than_may_be_open(file: Path, tmp_path: Path) -> None:
    files = [shutil.copy(file, tmp_path / f"{number}.dcm") for number in range(2, 102)]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        done = run_command("convert", *files, "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert done.returncode == 0, done.stderr.decode()
    assert b"1 instance of 1 study" in done.stderr
