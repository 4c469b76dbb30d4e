"""The program in this process: quicker than a new one for each command."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog

from dicom2fhir import cli
from dicom2fhir.config import locations


@dataclass(frozen=True)
class Result:
    status: int
    stdout: bytes
    stderr: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON, one value a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Run = Callable[..., Result]


def run_here(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """Run ``dicom2fhir`` in this process, which takes milliseconds; see also ``daemon_process.run_command``."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with ExitStack() as here:
        here.enter_context(patch.dict(os.environ, COLUMNS="80"))
        for name in [name for name in os.environ if name.startswith("DICOM2FHIR_")]:
            del os.environ[name]  # until the end of the block
        here.enter_context(patch.object(sys, "argv", ["dicom2fhir", *map(str, arguments)]))
        here.enter_context(patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))))
        here.enter_context(redirect_stdout(out))
        here.enter_context(redirect_stderr(err))
        here.enter_context(logging_kept())
        # `serve` blocks SIGHUP for as long as its process lives, which here goes on
        here.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out_bytes, err_bytes = (stream.detach().getvalue() for stream in (out, err))
    return Result(int(ended.value.code or 0), out_bytes, err_bytes.decode())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run("convert", PATH, stdin=b"...")`` without the configuration of this machine."""
    monkeypatch.setattr(locations, "SYSTEM_CONFIG", tmp_path / "none.toml")
    return run_here


@contextmanager
def logging_kept() -> Iterator[None]:
    """For what sets up logging for its process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        for name in ("pydicom", "pynetdicom", "urllib3", "py.warnings", "watchdog"):
            logging.getLogger(name).setLevel(logging.NOTSET)
