"""Measure ``dicom2fhir convert`` against the package of that name on PyPI: ``python -m bench.convert``.

Both read the same CT files, a folder for each study, as whole processes on one core, in turn: many small ones, which
show what a file costs, and fewer with as many pixels as a scanner makes. The other package has an
environment of its own, because both install a package ``dicom2fhir``; it is made once, in the user's cache folder. Its
driver does what its README says, with the lists of instances that ``convert`` writes too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.process import Cost, compile_package, run
from bench.report import Goal, Result, Row, options, progress, show, use_one_core
from testdata.make_dicom import ct_files

PEER = ("dicom2fhir==0.1.25", "fhir.resources==8.0.0")
"""The second is pinned because the first fails with newer ones."""
FILES_PER_STUDY = 300
_ASKED_RATIO = 30.0
"""For small slices."""
_SMALL, _REAL = 16, 512
"""Rows and columns of a slice."""
_INSTALL_TIMEOUT_S = 600

PEER_DRIVER = """
import asyncio, sys
from pathlib import Path
from dicom2fhir.dicom2fhir import from_directory

CONFIG = {
    "dicom_timezone": "Europe/Berlin",
    "generator": {"imaging_study": {"add_instances": True}, "observation": {"add_vital_signs": False}},
}

async def main():
    # one call for each study: given them together it would merge them into one
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        bundle = await from_directory(folder, config=dict(CONFIG))
        Path(sys.argv[2], folder.name + ".json").write_text(bundle.model_dump_json())

asyncio.run(main())
"""


def peer_python() -> Path:
    """The interpreter of the peer's environment, which is made on first use.

    Raises
    ------
    OSError, subprocess.SubprocessError
        It cannot be made, e.g. because the package index cannot be reached.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = "-".join(part.replace("==", "-") for part in PEER)
    folder = cache / "dicom2fhir-bench" / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    done = folder / ".made"
    if not done.exists():
        print(f"making an environment for {' '.join(PEER)} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "1",
            *PEER,
        ]
        subprocess.run(install, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)
        done.touch()
    return python


def commands(files: Path, out: Path, with_peer: bool, remarks: list[str]) -> dict[str, list[str]]:
    """What is run, by the name it is shown under; only ourselves when the peer cannot be had."""
    ours = out / "ours"
    found = {"this bridge": [sys.executable, "-m", "dicom2fhir", "convert", str(files), "-o", str(ours)]}
    if not with_peer:
        return found
    try:
        python = peer_python()
    except (OSError, subprocess.SubprocessError) as error:
        remarks.append(f"{PEER[0]} was left out: its environment cannot be made ({type(error).__name__})")
        return found
    theirs = out / "theirs"
    theirs.mkdir()
    # isolated: it would find our package before the installed one
    found["PyPI " + PEER[0]] = [str(python), "-I", "-c", PEER_DRIVER, str(files), str(theirs)]
    return found


def measure(files: int, runs: int, with_peer: bool, side: int = _SMALL) -> Result:
    """Convert the same files with each in turn, several times.

    Parameters
    ----------
    side
        Rows and columns of a slice.
    """
    remarks: list[str] = []
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        folder = Path(name, "files")
        studies = -(-files // FILES_PER_STUDY)
        made = ct_files(folder, files, studies=studies, side=side)
        size = made[0].stat().st_size
        remarks.append(
            f"{side} x {side}: {files:,} files of {size:,} bytes and {studies} studies, median of {runs} runs in turn"
        )
        competitors = commands(folder, Path(name), with_peer, remarks)
        costs: dict[str, list[Cost]] = {competitor: [] for competitor in competitors}
        with progress(runs * len(competitors), "converting") as advance:
            for _ in range(runs):
                for competitor, command in competitors.items():
                    costs[competitor].append(run(command, subprocess.DEVNULL))
                    advance()
    per_s = {competitor: files / median(cost.processor_s for cost in found) for competitor, found in costs.items()}
    slowest = per_s[list(per_s)[-1]]
    rows: list[Row] = [
        {
            "what": competitor,
            "slices": f"{side} x {side}",
            "instances/s": per_s[competitor],
            "ratio": per_s[competitor] / slowest,
            "processor s": median(cost.processor_s for cost in found),
            "each run": " ".join(f"{cost.processor_s:.2f}" for cost in found),
            "wall s": median(cost.wall_s for cost in found),
            "peak MiB": median(cost.peak_bytes for cost in found) / 2**20,
        }
        for competitor, found in costs.items()
    ]
    goals = []
    if len(per_s) > 1 and side == _SMALL:
        ratio = per_s["this bridge"] / slowest
        goals.append(Goal("convert, ratio of instances/s", ratio, f">= {_ASKED_RATIO:g}", ratio >= _ASKED_RATIO))
    return Result("convert, whole process on one core", rows, goals, remarks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench."""
    parser: argparse.ArgumentParser = options(__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--real-files", type=int, default=600, help=f"how many of {_REAL} x {_REAL} pixels")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="measure this bridge only")
    chosen = parser.parse_args(arguments)
    files, real_files, runs = (60, 6, 1) if chosen.quick else (chosen.files, chosen.real_files, chosen.runs)
    with_peer = not (chosen.no_peer or chosen.quick)
    use_one_core()
    compile_package()
    small, real = measure(files, runs, with_peer), measure(real_files, runs, with_peer, _REAL)
    small.rows = [*small.rows, *real.rows]
    small.remarks += [*real.remarks, "instances/s by processor time, so that other work on the machine does not count"]
    show(small, chosen.json)


if __name__ == "__main__":
    main()
