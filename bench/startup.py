"""Measure what the command line costs before it does anything: ``python -m bench.startup``."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from bench.process import compile_package, run
from bench.report import Result, Row, options, progress, show, use_one_core

COMMANDS = {
    "python (nothing)": ["-c", "pass"],
    "import dicom2fhir.cli": ["-c", "import dicom2fhir.cli"],
    "dicom2fhir --help": ["-m", "dicom2fhir", "--help"],
    "dicom2fhir convert --help": ["-m", "dicom2fhir", "convert", "--help"],
    "dicom2fhir serve --help": ["-m", "dicom2fhir", "serve", "--help"],
}


def measure(rounds: int) -> Result:
    """Start each command in turn, several times."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with progress(rounds, "starting") as advance:
        for _ in range(rounds):
            for name, command in COMMANDS.items():
                times[name].append(run([sys.executable, *command], stdout=subprocess.DEVNULL).processor_s)
            advance()
    rows: list[Row] = [{"command": name, "processor ms": median(values) * 1000} for name, values in times.items()]
    return Result("Start of the command line", rows, remarks=[f"median of {rounds} rounds"])


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    use_one_core()
    compile_package()
    show(measure(1 if arguments.quick else arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
