"""Measure ``dicom2fhir backfill`` against a loop around pydicom: ``python -m bench.backfill``.

The bridge is a whole process with two workers that fills a new store; every file is read, decoded, committed and marked
as done. The loop does on one core what comes before that: ``pydicom.dcmread`` up to Pixel Data, and the same attributes
decoded. It keeps nothing. Both read from a warm file cache, in turn.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.headers import by_pydicom
from bench.process import Cost, run
from bench.report import Goal, Result, Row, options, progress, show
from testdata.make_dicom import ct_files

WORKERS = 2
FILES_PER_STUDY = 300
_ASKED_RATIO = 10.0


def loop(paths: list[str]) -> Cost:
    """Read files by pydicom, in this process."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    for path in paths:
        by_pydicom(path)
    return Cost(time.process_time() - processor_s, time.perf_counter() - wall_s, 0)


def measure(files: int, looped: int, runs: int) -> Result:
    """Fill a store with the same files again and again, and loop over some of them before each time."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        folder = Path(name, "files")
        paths = [str(path) for path in ct_files(folder, files, studies=-(-files // FILES_PER_STUDY))]
        size = Path(paths[0]).stat().st_size
        config = Path(name, "config.toml")
        config.write_text("[store]\nmin_free_bytes = 0\n")
        loops: list[Cost] = []
        fills: list[Cost] = []
        again: list[Cost] = []
        with progress(runs, "reading") as advance:
            for number in range(runs):
                state = str(Path(name, f"state-{number}"))
                command = [sys.executable, "-m", "dicom2fhir", "backfill", str(folder), "--json"]
                command += ["--workers", str(WORKERS), "--config", str(config), "--state-dir", state]
                loops.append(loop(paths[:looped]))
                fills.append(run(command, subprocess.DEVNULL))
                again.append(run(command, subprocess.DEVNULL))
                advance()
        stored = Path(name, "state-0", "store.db").stat().st_size
    rows: list[Row] = []
    measured = {
        "loop around pydicom, one core": (looped, loops),
        f"backfill, {WORKERS} workers": (files, fills),
        "the same once more: nothing to read": (files, again),
    }
    for what, (count, costs) in measured.items():
        rows.append(
            {
                "what": what,
                "files/s": count / median(cost.wall_s for cost in costs),
                "ratio": ratio(costs, count, loops, looped, "wall_s"),
                "us of processor time a file": median(cost.processor_s for cost in costs) / count * 1e6,
                "ratio of that": ratio(costs, count, loops, looped, "processor_s"),
                "peak MiB": median(cost.peak_bytes for cost in costs) / 2**20,
            }
        )
    reached = float(rows[1]["ratio"])
    goals = [
        Goal(f"backfill with {WORKERS} workers, files/s", reached, f">= {_ASKED_RATIO:g}", reached >= _ASKED_RATIO)
    ]
    remarks = [
        f"{files:,} files of {size:,} bytes ({looped:,} of them in the loop), median of {runs} runs in turn",
        f"the store has {stored / files:.0f} bytes a file, of which the ledger of files is a part",
    ]
    return Result("backfill, whole process", rows, goals, remarks)


def ratio(ours: list[Cost], our_files: int, theirs: list[Cost], their_files: int, what: str) -> float:
    """How many times as fast, each run against the loop before it."""
    return median(
        (float(getattr(b, what)) / their_files) / (float(getattr(a, what)) / our_files)
        for a, b in zip(ours, theirs, strict=True)
    )


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--loop-files", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    files, looped, runs = (60, 10, 1) if chosen.quick else (chosen.files, chosen.loop_files, chosen.runs)
    show(measure(files, min(looped, files), runs), chosen.json)


if __name__ == "__main__":
    main()
