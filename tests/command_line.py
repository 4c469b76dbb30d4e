"""The program in this process: quicker than a new one for each command."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Callable[..., Result]:
    """``run("convert", PATH, stdin=b"...")`` runs the program in this process."""
    for name in [name for name in os.environ if name.startswith("DICOM2FHIR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(locations, "SYSTEM_CONFIG", tmp_path / "none.toml")

    def program(*arguments: str | Path, stdin: bytes = b"") -> Result:
        capfdbinary.readouterr()  # what the test's own parts said
        monkeypatch.setattr(sys, "argv", ["dicom2fhir", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:  # `serve` blocks SIGHUP for as long as its process lives, which here goes on
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        out, err = capfdbinary.readouterr()
        return Result(int(ended.value.code or 0), out, err.decode())

    return program
