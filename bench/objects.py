"""Measure what ``dicom2fhir backfill s3://`` asks of an object store: ``python -m bench.objects``.

The store is moto in a process of its own, which takes more of the processor for a request than the bridge does: the
figures that matter are requests and bytes for each file. The files have 512 x 512 pixels.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.process import run
from bench.report import Goal, Result, Row, options, progress, show
from testdata.make_dicom import ct_instances
from tests.s3_server import BUCKET, ENVIRONMENT, S3Server, s3_server

WORKERS = 2
FILES_PER_STUDY = 300
_ASKED_REQUESTS = 1.01


def measure(files: int) -> Result:
    """Import a bucket twice, the second time with nothing to read."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name, s3_server() as server:
        size = fill(server, files)
        config = Path(name, "config.toml")
        config.write_text("[store]\nmin_free_bytes = 0\n")
        command = [sys.executable, "-m", "dicom2fhir", "backfill", f"s3://{BUCKET}", "--json"]
        command += ["--workers", str(WORKERS), "--config", str(config), "--state-dir", str(Path(name, "state"))]
        os.environ |= ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}
        rows: list[Row] = []
        with progress(2, "importing") as advance:
            for what in ("import", "the same once more: nothing to read"):
                server.set()
                cost = run(command, subprocess.DEVNULL)
                counts = server.counts()
                rows.append(
                    {
                        "what": what,
                        "requests a file": counts.get("gets", 0) / files,
                        "bytes a file": counts.get("bytes", 0) / files,
                        "requests for the list": counts["lists"],
                        "files/s": files / cost.wall_s,
                        "us of processor time a file": cost.processor_s / files * 1e6,
                    }
                )
                advance()
    requests = float(rows[0]["requests a file"])
    goals = [Goal("requests a file", requests, f"<= {_ASKED_REQUESTS:g}", requests <= _ASKED_REQUESTS)]
    remarks = [f"{files:,} files of {size:,} bytes, {WORKERS} workers; moto shares the machine with them"]
    return Result("backfill from an object store, whole process", rows, goals, remarks)


def fill(server: S3Server, files: int) -> int:
    """Put files into the bucket; the size of each."""
    size = 0
    for number, made in enumerate(ct_instances(files, studies=-(-files // FILES_PER_STUDY), side=512)):
        server.put(f"{made.study}/{number:07d}.dcm", made.file)
        size = len(made.file)
    return size


def main() -> None:
    """Run the bench."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=2000)
    chosen = parser.parse_args()
    show(measure(20 if chosen.quick else chosen.files), chosen.json)


if __name__ == "__main__":
    main()
