"""The whole road: DICOM goes in as hospitals send it, and a real FHIR server says what came of it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from dicom2fhir.model import Resource
from dicom2fhir.store.base import State
from dicom2fhir.synthetic import make_uid
from tests.acceptance import senders
from tests.acceptance.conftest import StartDaemon, leaks
from tests.acceptance.daemon_process import DaemonProcess, run_command, wait_until
from tests.acceptance.expectation import Expectation, Server, assert_holds, series_of, without_meta, write_slices
from tests.servers.outage_proxy import OutageProxy

QUIET = ("--quiet-period", "0.5")
DELIVERED_WITHIN_S = 60.0

_UNREADABLE = {
    "sop-class-only-in-meta/0001.dcm": "the data set names no SOP class, and DCMTK looks nowhere else",
    "truncated-pixels/0001.dcm": "DCMTK reads to the end of the pixels, which is missing",
    "test_files/MR_truncated.dcm": "the same",
    "test_files/SC_rgb_jpeg.dcm": "DCMTK stumbles over VRs that are none",
}
UNSENDABLE = {
    "dcmsend": _UNREADABLE,
    "storescu": {
        **_UNREADABLE,
        "test_files/rtdose_rle.dcm": "storescu finds no SOP class and instance",
        "test_files/rtdose_rle_1frame.dcm": "the same",
    },
}
"""Readable files that a program of DCMTK cannot send, and why; pynetdicom sends them."""

MISMATCHING = {
    "test_files/rtdose_rle.dcm": "the file meta information names another SOP instance than the data set",
    "test_files/rtdose_rle_1frame.dcm": "the same",
}
"""Files that are readable where they lie; over C-STORE they are answered A900."""


def _name(file: Path) -> str:
    return "/".join(file.parts[-2:])


@pytest.fixture
def name() -> str:
    """Begin of the names of a test's own studies: all tests share the servers."""
    return uuid4().hex[:8]


@pytest.mark.needs("dcmsend", "storescu")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("version", "program"), [("r4", "dcmsend"), ("r5", "storescu")])
def test_every_file_reaches_its_study_and_sending_again_changes_nothing(
    hapi: Callable[[str], str],
    version: str,
    program: str,
    daemon: StartDaemon,
    every_file: list[Path],
    expected: Expectation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(hapi(version))
    bridge = daemon("--fhir-url", server.base_url, "--quiet-period", "1")
    send = {"dcmsend": senders.dcmsend, "storescu": senders.storescu}[program]

    def send_all() -> None:
        sent = send(bridge.address, every_file, tmp_path)
        assert sent.returncode == 0
        rest = [file for file in expected.readable if file not in sent.answers]
        assert {_name(file) for file in rest} == set(UNSENDABLE[program])
        answers = {**sent.answers, **senders.pynetdicom_send(bridge.address, rest, monkeypatch)}
        refused = {_name(file) for file in expected.readable if answers[file] not in ("0000", "Success", 0)}
        assert refused <= set(MISMATCHING)
        bridge.settled()

    send_all()
    assert bridge.instances() == expected.instances
    conflicts = expected.in_conflict()
    assert conflicts
    for uid in expected.records:
        if uid in conflicts:
            assert server.studies(uid) == []
        else:
            assert_holds(server.study(uid), expected.series(uid))
    refused = {
        study["study_uid"]
        for study in bridge.status()["studies"]
        if any(delivery["state"] == State.REFUSED for delivery in study["deliveries"])
    }
    assert refused == conflicts

    written = expected.records.keys() - conflicts
    before = {uid: server.study(uid) for uid in written}
    send_all()
    after = {uid: server.study(uid) for uid in written}
    assert {uid: without_meta(study) for uid, study in after.items()} == {
        uid: without_meta(study) for uid, study in before.items()
    }
    # Where files contradict one another, what the first ones say may have been delivered in between.
    steady = written - expected.ambiguous()
    assert {u: after[u]["meta"]["versionId"] for u in steady} == {u: before[u]["meta"]["versionId"] for u in steady}

    grown = make_uid("mr")
    assert grown in steady
    series = expected.series(grown)
    assert send(bridge.address, write_slices(tmp_path, "mr", [9001], modality="MR"), tmp_path).returncode == 0
    bridge.settled()
    series.setdefault(make_uid("mr", 1), set()).add(make_uid("mr", 1, 9001))
    assert_holds(server.study(grown), series)
    assert server.version(grown) == int(after[grown]["meta"]["versionId"]) + 1
    assert {uid: server.version(uid) for uid in steady - {grown}} == {
        uid: int(after[uid]["meta"]["versionId"]) for uid in steady - {grown}
    }
