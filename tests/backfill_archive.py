"""A folder to import, for tests of ``dicom2fhir backfill``."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

from dicom2fhir.store.sqlite.store import SqliteStore
from tests.command_line import run_here
from tests.daemon_process import ROOT, environment, wait_until

CONFIG = """
[store]
min_free_bytes = 0
quiet_period_s = 0
[fhir]
validation = "never"
"""


class Archive:
    """A folder of files, the state of a bridge, and the command between them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.files = folder / "archive"
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG)

    def command(self, *arguments: str | Path, workers: int = 2) -> list[str]:
        state = ("--config", self.config, "--state-dir", self.state, "--workers", str(workers))
        return ["backfill", *map(str, (*state, *arguments))]

    def backfill(self, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
        """Run the command in this process; its summary."""
        done = run_here(*self.command("--json", *(arguments or (self.files,)), workers=1))
        assert done.status == status, done.stderr
        found: dict[str, Any] = done.json
        return found

    def kill(self, *arguments: str | Path, within_s: float, workers: int = 2) -> None:
        """Run the command in a process of its own, and kill it when it has stored its first instances."""
        self.store().close()
        command = [sys.executable, "-m", "dicom2fhir", *self.command(*arguments, workers=workers)]
        with (
            subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process,
            closing(SqliteStore.open_readonly(self.state / "store.db")) as reader,
        ):
            wait_until(lambda: reader.stats().instances, within_s, "the first instances are kept")
            process.kill()
            process.wait(60)

    def store(self) -> SqliteStore:
        return SqliteStore(self.state / "store.db", quiet_period_s=0, min_free_bytes=0)


def counts(summary: dict[str, Any]) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: value for name, value in summary.items() if isinstance(value, int) and value}


def pack(files: list[Path], into: Path) -> Path:
    """Move files into an archive, under names that are no paths to extract to."""
    into.parent.mkdir(parents=True, exist_ok=True)
    if into.suffix.lower() == ".zip":
        with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in files:
                zipped.write(file, f"../../{file.name}")
    else:
        mode = "w:gz" if into.name.lower().endswith("gz") else "w"
        with tarfile.open(into, mode) as tarred:  # type: ignore[call-overload]
            for file in files:
                tarred.add(file, f"/{file.name}")
    for file in files:
        file.unlink()
    return into
