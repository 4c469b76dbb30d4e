"""Measure the web page over a large store: ``python -m bench.web``.

A store of studies of 200 CT instances, in the index, behind a daemon that serves the page. Every study is delivered,
except 200 that are refused. Each page is asked for over a connection of its own, as a whole: mapping, template and
response.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import Goal, Result, Row, options, progress, show
from bench.store import PER_STUDY, index, median_s, records, sample_record
from dicom2fhir import config
from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import make_uid
from dicom2fhir.model import Origin
from dicom2fhir.ops import logs
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Success
from dicom2fhir.store.sqlite.store import SqliteStore

_INSTANCES = 1_000_000
_BATCH = 256
_REFUSED = 200
_ROUNDS = 15
_ASKED_MS = 50.0
_LISTENS_WITHIN_S = 30.0


def fill(path: Path, instances: int) -> None:
    """Add the studies, and what became of their deliveries."""
    store = SqliteStore(path, quiet_period_s=0, min_free_bytes=0)
    try:
        store.set_destinations(["files"])
        coming = records(sample_record(), instances // PER_STUDY)
        with progress(instances, "adding") as advance:
            while batch := list(islice(coming, _BATCH)):
                store.add_many(batch, Origin("file"))
                advance(len(batch))
        refused = 0
        while claims := store.claim("files", "bench", 60, most=_BATCH):
            wrong = claims[: _REFUSED - refused]
            for claim in wrong:
                store.refuse(claim, claim.revision, "the server answered 422")
            refused += len(wrong)
            store.delivered([Success(claim, claim.revision, Delivered(b"base")) for claim in claims[len(wrong) :]])
        index(store)
    finally:
        store.close()


def pages(instances: int) -> dict[str, str]:
    """Name -> path."""
    last = make_uid(f"bench-{instances // PER_STUDY - 1}")
    return {
        "overview": "/",
        "studies": "/studies",
        "studies by modality and state": "/studies?modality=CT&state=refused",
        "studies by dates": "/studies?study_date=20000101-",
        "studies by dates and modality": "/studies?study_date=20000101-&modality=CT",
        "studies by accession number": f"/studies?accession_number=A{instances // PER_STUDY - 1}",
        "a study": f"/studies/{last}",
        "problems": "/problems",
        "status": "/api/v1/status",
        "readyz": "/readyz",
    }


def ask(url: str, path: str) -> None:
    """Load a page."""
    connection = HTTPConnection(urlsplit(url).netloc)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, (path, response.status)
    finally:
        connection.close()


def load(url: str, page: str, path: str) -> Row:
    """Load a page again and again."""
    ask(url, path)
    began_s = time.process_time()
    wall_s = median_s(_ROUNDS, partial(ask, url, path))
    return {"page": page, "ms": wall_s * 1000, "processor_ms": (time.process_time() - began_s) / _ROUNDS * 1000}


def measure(instances: int) -> Result:
    """Fill a store and load each page."""
    with tempfile.TemporaryDirectory(prefix="dicom2fhir-bench-") as name:
        state = Path(name, "state")
        state.mkdir()
        fill(state / "store.db", instances)
        settings = {
            "receiver": {"port": 0},
            "web": {"port": 0},
            "store": {"directory": str(state), "min_free_bytes": 0},
            "destinations": {"files": {"type": "file", "directory": str(Path(name, "out"))}},
        }
        daemon = Daemon(config.load(overrides=settings, environ={}))
        try:
            daemon.start()
            assert daemon.web
            assert daemon.web.wait_until_listening(_LISTENS_WITHIN_S)
            url = daemon.web.url
            rows = [load(url, page, path) for page, path in pages(instances).items()]
        finally:
            daemon.stop()
    slowest = max(float(row["ms"]) for row in rows)
    goals = [Goal("the slowest page, ms", slowest, f"<= {_ASKED_MS:g}", slowest <= _ASKED_MS)]
    return Result(
        f"The web page over {instances:,} instances",
        rows,
        goals,
        [f"wall time, median of {_ROUNDS}, and processor time, mean; client included"],
    )


def main() -> None:
    """Run the bench."""
    parser: argparse.ArgumentParser = options(__doc__)
    parser.add_argument("--instances", type=int, default=_INSTANCES)
    arguments = parser.parse_args()
    logs.configure("error", "text")
    show(measure(10_000 if arguments.quick else arguments.instances), arguments.json)


if __name__ == "__main__":
    main()
