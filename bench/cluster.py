"""Measure ``dicom2fhir backfill --dask``: ``python -m bench.cluster``.

The files are imported by processes of this machine and by as many workers of a Dask cluster, which also run on this
machine, each into a new store. The difference of the times for a file is what Dask costs: the start of its client, the
scheduler, and the results that go through it. The start of the cluster is not measured.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.process import run
from bench.report import Result, Row, options, progress, show
from testdata.make_dicom import ct_files
from tests.dask_cluster import dask_cluster

FILES_PER_STUDY = 300
WORKERS = (1, 2)


def measure(files: int, runs: int, numbers: Sequence[int]) -> Result:
    """Import the same files in each way, in turn, by so many workers."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name,
        progress(2 * len(numbers), "importing") as tick,
    ):
        ct_files(Path(name, "files"), files, studies=-(-files // FILES_PER_STUDY))
        Path(name, "config.toml").write_text("[store]\nmin_free_bytes = 0\n")
        for workers in numbers:
            with dask_cluster(workers) as cluster:
                here = import_s(name, runs, f"here-{workers}", "--workers", str(workers))
                tick()
                there = import_s(name, runs, f"dask-{workers}", "--dask", cluster.address)
                tick()
            for what, seconds in (("processes of this machine", here), ("Dask", there)):
                rows.append(
                    {
                        "what": what,
                        "workers": workers,
                        "files/s": files / seconds,
                        "us a file more": (seconds - here) / files * 1e6,
                    }
                )
    return Result("backfill by Dask, whole process", rows, [], [f"{files:,} files, median of {runs} runs"])


def import_s(folder: str, runs: int, state: str, *arguments: str) -> float:
    """Seconds that an import takes."""
    command = [sys.executable, "-m", "dicom2fhir", "backfill", "files", "--json", "--config", "config.toml", *arguments]
    return median(
        run([*command, "--state-dir", f"{state}-{number}"], subprocess.DEVNULL, Path(folder)).wall_s
        for number in range(runs)
    )


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    files, runs, numbers = (20, 1, (1,)) if chosen.quick else (chosen.files, chosen.runs, WORKERS)
    show(measure(files, runs, numbers), chosen.json)


if __name__ == "__main__":
    main()
