"""What a file becomes, by the web page and the API of a live daemon."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.system.memory_budget import STEP_BYTES
from dicom2fhir.web import middleware
from tests.command_line import run_here
from tests.daemon_process import wait_until
from tests.web_client import TOKEN, WITHIN_S, Answer, Browser, serving, settings_in

Live = tuple[Daemon, Browser]
CANARY = "Canary^<b>bold</b>"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(settings_in(tmp_path_factory.mktemp("daemon"))) as made:
        yield made


def file() -> bytes:
    made = instance("CT")
    made.PatientName = made.StudyDescription = CANARY
    written = BytesIO()
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def post(browser: Browser, path: str, body: bytes) -> Answer:
    return browser.ask("POST", path, body, {"authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize(("version", "profile"), [("R4", "none"), ("DSTU2", "none"), ("R4", "osiris")])
def test_the_document_is_that_of_the_command(live: Live, tmp_path: Path, version: str, profile: str) -> None:
    (tmp_path / "1.dcm").write_bytes(file())
    command = run_here("explain", tmp_path / "1.dcm", "--json", "--fhir", version, "--profile", profile)
    answer = post(live[1], f"/api/v1/explain?fhir={version}&profile={profile}", file())
    assert command.status == 0, command.stderr
    assert answer.json == command.json


def test_the_page_shows_it_escaped_and_nothing_is_kept(live: Live) -> None:
    daemon, browser = live
    with capture_logs() as logs:
        answer = post(browser, "/explain?fhir=R5", file())
    assert answer.status == 200
    assert "<b>" not in answer.text
    assert "&lt;b&gt;bold&lt;/b&gt;" in answer.text
    assert daemon.store.stats().instances == 0
    assert "Canary" not in json.dumps(logs, default=str)


@pytest.mark.parametrize("query", ["fhir=R9", "profile=no-such", "profile=/etc/passwd"])
def test_a_version_or_a_profile_that_is_not_there(live: Live, query: str) -> None:
    assert post(live[1], f"/api/v1/explain?{query}", file()).status == 400


@pytest.mark.parametrize("body", [b"", b"no DICOM", file()[:400]])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(live: Live, body: bytes) -> None:
    answer = post(live[1], "/api/v1/explain", body)
    assert answer.status == 400
    assert answer.json["error"]


def test_a_file_that_is_too_large_is_refused(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MAX_FILE_BYTES", 100_000)
    answer = post(live[1], "/explain", bytes(100_001))
    assert (answer.status, "at most 100,000 bytes" in answer.text) == (413, True)
    assert post(live[1], "/explain", bytes(99_999)).status == 400


def test_a_file_takes_the_memory_of_the_receiver_and_gives_it_back(live: Live) -> None:
    daemon, browser = live
    assert daemon.receiver
    space, every_byte = daemon.receiver.space, daemon.settings.receiver.max_held_bytes
    large = bytes(3 * STEP_BYTES)
    assert space.take(every_byte)
    try:
        answer = post(browser, "/api/v1/explain", large)
        assert (answer.status, "take too much memory" in answer.json["error"]) == (503, True)
        assert post(browser, "/api/v1/explain", file()).status == 200, "a small one needs none of it"
    finally:
        space.give_back(every_byte)
    assert post(browser, "/api/v1/explain", large).status == 400
    wait_until(lambda: space.take(every_byte), WITHIN_S, "it is given back")
    space.give_back(every_byte)


def test_a_file_is_held_once(live: Live) -> None:
    body = bytes(15 * 1024 * 1024)
    tracemalloc.start()
    try:
        assert post(live[1], "/api/v1/explain", body).status == 400
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(body)


def test_a_file_is_explained_without_a_receiver(tmp_path: Path) -> None:
    with serving(settings_in(tmp_path, receiver={"enabled": False})) as (_, browser):
        assert post(browser, "/api/v1/explain", file() + bytes(3 * STEP_BYTES)).status == 200
