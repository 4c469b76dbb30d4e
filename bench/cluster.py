"""Measure ``dicom2fhir backfill --dask``: ``python -m bench.cluster``.

The files are imported by processes of this machine and by as many workers of a Dask cluster, which also run on this
machine, each into a new store. The difference of the times for a file is what Dask costs: the start of its client, the
scheduler, and the results that go through it. The start of the cluster is not measured.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench.process import Cost, run
from bench.report import Result, Row, options, progress, show
from testdata.make_dicom import ct_files
from tests.dask_cluster import dask_cluster
from tests.postgres_cluster import cluster as database

FILES_PER_STUDY = 300
WORKERS = (1, 2)


def measure(files: int, runs: int, numbers: Sequence[int], into: Callable[[], str]) -> Result:
    """Import the same files in each way, in turn, by so many workers; ``into`` gives the settings of a new store."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name,
        progress(2 * len(numbers), "importing") as tick,
    ):
        ct_files(Path(name, "files"), files, studies=-(-files // FILES_PER_STUDY))
        for workers in numbers:
            with dask_cluster(workers) as cluster:
                ways = {"processes of this machine": ("--workers", str(workers)), "Dask": ("--dask", cluster.address)}
                costs: dict[str, list[Cost]] = {way: [] for way in ways}
                for _ in range(runs):
                    for way, arguments in ways.items():
                        costs[way].append(import_(Path(name), into(), *arguments))
            tick(2)
            here_s = median(cost.wall_s for cost in costs["processes of this machine"])
            for way, each in costs.items():
                seconds = median(cost.wall_s for cost in each)
                rows.append(
                    {
                        "what": way,
                        "workers": workers,
                        "files/s": files / seconds,
                        "us a file more": (seconds - here_s) / files * 1e6,
                        "processor us a file of the command": median(cost.processor_s for cost in each) / files * 1e6,
                    }
                )
    return Result("backfill by Dask, whole process", rows, [], [f"{files:,} files, median of {runs} runs, in turn"])


def import_(folder: Path, settings: str, *arguments: str) -> Cost:
    """What an import into a new store costs; workers of Dask are not its children."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        config = Path(state, "config.toml")
        config.write_text(settings.format(directory=state))
        command = [sys.executable, "-m", "dicom2fhir", "backfill", "files", "--json", "--config", str(config)]
        return run([*command, *arguments], subprocess.DEVNULL, folder)


def a_file() -> str:
    """Settings of a store in a file."""
    return '[store]\nmin_free_bytes = 0\ndirectory = "{directory}"\n'


def a_database() -> str:
    """Settings of a store in an empty database."""
    url = database().new_database()
    return f'[store]\nurl = "{url}"\n'


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--postgres", action="store_true", help="into a database, where workers of Dask write themselves"
    )
    chosen = parser.parse_args()
    files, runs, numbers = (20, 1, (1,)) if chosen.quick else (chosen.files, chosen.runs, WORKERS)
    show(measure(files, runs, numbers, a_database if chosen.postgres else a_file), chosen.json)


if __name__ == "__main__":
    main()
