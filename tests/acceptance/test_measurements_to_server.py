"""Measurement reports over C-STORE: Observations beside the ImagingStudy, where a destination wants them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom2fhir.model import Resource
from testdata.make_dicom import datasets
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.test_notices_to_server import store
from tests.daemon_process import to_files, wait_until
from tests.memory_server import Manner, MemoryServer

OFFERS = ("ImagingStudy", "Patient", "Observation")


def lengths(server: MemoryServer) -> dict[float, str]:
    """The value of each measurement -> its status."""
    return {one["valueQuantity"]["value"]: one["status"] for one in server.all("Observation") if "valueQuantity" in one}


@pytest.mark.parametrize("first", [0, 1], ids=["in order", "correction first"])
def test_a_correction_counts_whichever_comes_first(daemon: StartDaemon, tmp_path: Path, first: int) -> None:
    """The content comes from the store when the other report has arrived; nothing is sent where nobody asked for it."""
    server = MemoryServer(Manner(offers=OFFERS))
    wanted = f'[destinations.main]\nurl = "{server.url}"\n[destinations.main.resources]\nmeasurements = "auto"\n'
    reports = datasets("sr-tid1500-replaced")
    try:
        started = daemon(settings=wanted + to_files(tmp_path / "out"))
        store(started, [reports[first]])
        started.settled()
        assert lengths(server) == ({8.4: "final"}, {9: "final"})[first]
        store(started, [reports[1 - first]])
        started.settled()
        assert lengths(server) == ({8.4: "entered-in-error", 9: "final"}, {9: "final"})[first]
        assert len(server.all("ImagingStudy")) == 1
        wait_until(lambda: list((tmp_path / "out").glob("*.json")), 60, "the bundle is written")
        assert "Observation" not in {
            one["resourceType"] for path in (tmp_path / "out").iterdir() for one in in_file(path)
        }
        before = {one["id"]: one for one in server.all("Observation")}
        store(started, reports)
        started.settled()
        assert {one["id"]: one for one in server.all("Observation")} == before, "sent again, no new version"
    finally:
        server.close()


def in_file(path: Path) -> list[Resource]:
    return [entry["resource"] for entry in json.loads(path.read_text())["entry"]]
