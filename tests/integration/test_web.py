"""The web page and the API of a live daemon, over sockets."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom2fhir import config
from dicom2fhir.daemon import Daemon
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.ops import status as bridge
from dicom2fhir.ops.daemon_state import DaemonState, DiskState
from dicom2fhir.ops.status import DaemonView, not_receiving
from dicom2fhir.sop_classes import VERIFICATION
from dicom2fhir.store.sqlite import late_check
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.web import connection, middleware
from dicom2fhir.web.api import OPERATIONS, ROOT
from tests.command_line import run_here
from tests.daemon_process import DaemonProcess, folder_to_files, wait_until
from tests.notice_sender import association
from tests.pki import Pki
from tests.web_client import TOKEN, WITHIN_S, Browser, serving, settings_in

Live = tuple[Daemon, Browser]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with serving(settings_in(tmp_path)) as made:
        yield made


def test_the_overview_shows_what_the_bridge_does(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    made = instance("CT")
    made.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
    daemon.look()
    page = browser.get("/").text
    assert daemon.receiver
    for shown in (
        "All is well",
        f"DICOM2FHIR at 127.0.0.1:{daemon.receiver.address[1]}",
        "1 study, 1 series, 1 instance",
        made.StudyInstanceUID,
        '<strong class="delivered">delivered</strong>',
        "since the start 1 written",
    ):
        assert shown in page
    assert str(made.PatientName) not in page
    assert str(made.PatientID) not in page


def test_the_overview_shows_who_sends_how_long_it_takes_and_what_waits(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    assert daemon.receiver
    with association(daemon.receiver.address, sop_classes=[VERIFICATION], calling="CT<1>"):
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
        daemon.store.pause("files")
        waiting = instance("MR")
        waiting.save_as(tmp_path / "inbox" / "2.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().waiting == 1, WITHIN_S, "it waits")
        daemon.look()
        page = browser.get("/").text
        document = browser.get("/api/v1/status").json
    assert "1 association open: 1 x CT&lt;1&gt;@127.0.0.1" in page
    assert re.search(r"FHIR R4 \S+; an attempt takes \d+ ms \(median of the latest\)", page)
    why = f"paused since {bridge.moment(daemon.store.destinations()[0].paused_at)}"
    assert re.search(f"Waits longest, since .*{waiting.StudyInstanceUID}</a> for files; destination {why}", page)
    assert document["daemon"]["senders"] == [{"calling_ae": "CT<1>", "peer": "127.0.0.1", "associations": 1}]
    assert document["destinations"][0]["latency_s"] < WITHIN_S
    oldest = document["oldest_undelivered"]
    assert (oldest["study_uid"], oldest["destination"]) == (waiting.StudyInstanceUID, "files")
    assert why in oldest["why"]


def test_the_page_says_what_needs_attention(live: Live) -> None:
    daemon, browser = live
    daemon.store.pause("files")
    page = browser.get("/").text
    assert "Needs attention" in page
    assert html.escape("Destination files is paused since") in page


def test_the_api_and_the_command_give_the_same_document(live: Live) -> None:
    daemon, browser = live
    by_web = browser.get("/api/v1/status?limit=5&state=waiting").json
    state_dir = daemon.store.directory
    by_command = run_here("status", "--json", "--limit", "5", "--state", "waiting", "--state-dir", state_dir).json
    assert by_web | {"at": ""} == by_command | {"at": ""}


@pytest.mark.parametrize("query", ["state=lost", "limit=-1", "limit=1001", "limit=x", "limit=%C2%B2", "limit="])
def test_a_wrong_parameter_is_named(live: Live, query: str) -> None:
    answer = live[1].get(f"/api/v1/status?{query}")
    assert answer.status == 400
    assert answer.json["error"].startswith(query.partition("=")[0])


def test_the_description_of_the_api_names_every_operation(live: Live) -> None:
    document = live[1].get("/api/v1/openapi.json").json
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(described) == {(one.method, ROOT + one.path) for one in OPERATIONS}
    for (_, path), operation in described.items():
        named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))


def test_a_destination_is_paused_resumed_and_retried(live: Live, tmp_path: Path) -> None:
    daemon, browser = live
    with capture_logs() as logs:
        assert browser.change("/api/v1/destinations/files/pause").json["changed"] is True
        assert daemon.store.destinations()[0].paused_at
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.store.stats().waiting == 1, WITHIN_S, "it waits")
        assert browser.change("/api/v1/destinations/files/retry").json == {"destination": "files", "due": 1}
        assert browser.change("/api/v1/destinations/files/resume").json["changed"] is True
    wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
    changes = [entry for entry in logs if entry["event"] == "web.changed"]
    assert [(entry["change"], entry["peer"], entry["destination"]) for entry in changes] == [
        ("pause", "127.0.0.1", "files"),
        ("retry", "127.0.0.1", "files"),
        ("resume", "127.0.0.1", "files"),
    ]


def test_a_destination_that_is_not_there(live: Live) -> None:
    answer = live[1].change("/api/v1/destinations/other/pause")
    assert (answer.status, answer.json) == (404, {"error": "There is no such destination."})


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.method != "GET"], ids=lambda one: one.name)
def test_every_change_needs_the_token(live: Live, operation: Any) -> None:
    _, browser = live
    path = ROOT + operation.path.replace("{name}", "files")
    with capture_logs() as logs:
        refused = browser.post(path)
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        cookie = browser.log_in()
        assert browser.post(path, cookie=cookie).status == 403
        assert browser.get(path, cookie=cookie).status in (404, 405)
    assert [entry for entry in logs if entry.get("change") not in (None, "login")] == []


def test_a_session_changes_from_the_page(live: Live) -> None:
    daemon, browser = live
    cookie = browser.log_in()
    page = browser.get("/", cookie=cookie).text
    (csrf,) = re.findall(r'"x-csrf-token": "([\w-]+)"', page)
    answer = browser.post("/api/v1/destinations/files/pause", cookie=cookie, x_csrf_token=csrf, hx_request="true")
    assert (answer.status, answer.headers["hx-refresh"]) == (200, "true")
    assert daemon.store.destinations()[0].paused_at
    assert "/api/v1/destinations/files/resume" in browser.get("/", cookie=cookie).text
    assert browser.post("/logout", cookie=cookie, x_csrf_token=csrf).headers["hx-redirect"] == "/login"
    assert csrf not in browser.get("/", cookie=cookie).text


def test_the_cookie_is_for_this_site_and_not_for_scripts(live: Live) -> None:
    cookie = live[1].post("/login", {"token": TOKEN}).headers["set-cookie"].lower()
    for attribute in ("httponly", "samesite=strict", "path=/"):
        assert attribute in cookie
    assert TOKEN not in cookie


def test_a_wrong_token_is_refused_and_logged(live: Live) -> None:
    with capture_logs() as logs:
        answer = live[1].post("/login", {"token": "wrong"})
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert "This is not the token." in answer.text
    assert [entry["event"] for entry in logs] == ["web.login_refused"]


def test_another_host_name_is_refused(live: Live) -> None:
    daemon, browser = live
    port = browser.url.rpartition(":")[2].strip("/")
    assert browser.get("/", host=f"localhost:{port}").status == 200
    for path in ("/", "/api/v1/status", "/healthz", "/metrics"):
        assert browser.get(path, host="rebound.example").status == 421
    assert daemon.trouble() == ""


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nothing", "/api/v1/status", "/static/htmx.min.js", "/healthz", "/metrics"]
)
def test_every_answer_has_the_security_headers(live: Live, path: str) -> None:
    headers = live[1].get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers
    assert headers["cache-control"] == ("max-age=3600" if "static" in path else "no-store")


def test_no_page_has_inline_scripts_or_styles(live: Live) -> None:
    daemon, browser = live
    cookie = browser.log_in()
    for path in ("/", "/login", "/nothing"):
        page = browser.get(path, cookie=cookie).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert daemon.trouble() == ""


def test_what_peers_sent_is_escaped(live: Live) -> None:
    daemon, browser = live
    made = instance("CT")
    del made.SeriesInstanceUID
    name = "<img src=x onerror=alert(1)>\udce9.dcm"
    inbox = daemon.settings.folders["inbox"].path
    made.save_as(inbox / name, enforce_file_format=True)
    wait_until(lambda: list(daemon.store.rejections()), WITHIN_S, "it is refused")
    page = browser.get("/").text
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;\\xe9.dcm" in page


def test_a_request_that_is_too_large_is_refused(live: Live) -> None:
    answer = live[1].post("/login", {"token": "x" * 70_000})
    assert answer.status == 413
    assert live[1].post("/login", {"token": TOKEN}).status == 303


def test_a_request_that_takes_too_long_is_ended(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, browser = live
    monkeypatch.setattr(middleware, "_REQUEST_S", 0.3)
    go_on = threading.Event()
    monkeypatch.setattr(daemon.store, "stats", lambda: go_on.wait(WITHIN_S))
    try:
        answer = browser.get("/")
    finally:
        go_on.set()
    assert answer.status == 503
    assert "Try again later." in answer.text


def test_a_connection_without_a_request_is_closed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    _, browser = live
    monkeypatch.setattr(connection, "_HEAD_S", 0.3)
    host, _, port = browser.address.partition(":")
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
        with socket.create_connection((host, int(port)), timeout=WITHIN_S) as silent:
            silent.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) == b""
    assert browser.get("/healthz").status == 200


def test_a_failure_of_a_page_is_answered_and_logged_without_its_text(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, browser = live

    def fail() -> None:
        raise RuntimeError("Doe^John")

    monkeypatch.setattr(daemon.store, "stats", fail)
    with capture_logs() as logs:
        page, document = browser.get("/"), browser.get("/api/v1/status")
    assert (page.status, document.status) == (500, 500)
    assert [entry["event"] for entry in logs] == ["web.failed", "web.failed"]
    assert "Doe" not in page.text + document.text + json.dumps(logs, default=str)


def test_health_and_readiness(live: Live) -> None:
    _, browser = live
    for path, says in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        answer = browser.get(path)
        assert (answer.status, answer.text) == (200, says)


def test_a_dead_server_does_not_make_the_bridge_unready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = settings_in(tmp_path, destinations={"dead": {"url": f"http://127.0.0.1:{port}/fhir"}})
    with serving(settings) as (daemon, browser):
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        wait_until(lambda: daemon.state().destinations[0].state == "down", WITHIN_S, "it is down")
        daemon.look()
        assert browser.get("/readyz").status == 200
        page = browser.get("/").text
        assert '<strong class="refused">down</strong>' in page
        assert "Destination dead is down since" in page


def test_the_check_of_a_large_store_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, state_dir = settings_in(tmp_path), tmp_path / "state"
    SqliteStore(state_dir / "store.db").close()
    monkeypatch.setattr(late_check, "_CHECKED_AT_START_BYTES", 0)
    with serving(settings) as (daemon, browser):

        def page() -> str:
            daemon.look()
            return browser.get("/").text

        wait_until(lambda: "<dd>nothing wrong, ended at " in page(), WITHIN_S, "the check has ended")
        assert b"nothing wrong, ended at" in run_here("status", "--state-dir", state_dir).stdout
        check = run_here("status", "--json", "--state-dir", state_dir).json["daemon"]["store_check"]
        assert check["checked"] == check["tables"] > 1
        assert (check["found"], check["since"][:2], check["ended_at"][:2]) == ("", "20", "20")


def view(running: bool = True, silent: bool = False, full: bool = False) -> DaemonView:
    disk = DiskState(free_bytes=1, min_free_bytes=2, intake_stopped=full)
    return DaemonView(running, silent, DaemonState(pid=1, version="1", started_at=1.0, disk=disk))


@pytest.mark.parametrize(
    ("daemon", "says"),
    [
        (view(), ""),
        (view(running=False), "not running"),
        (view(silent=True), "does not report"),
        (view(full=True), "the disk of the store is full"),
        (DaemonView(True, True, None), "not running"),
    ],
)
def test_what_makes_the_bridge_unready(daemon: DaemonView, says: str) -> None:
    reason = not_receiving(daemon)
    assert says in reason
    assert bool(reason) is bool(says)


def test_a_port_that_is_taken_is_tried_again_while_reception_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom2fhir.web.server._AGAIN_S", 0.1)
    with capture_logs() as logs, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        daemon = Daemon(config.load(overrides=settings_in(tmp_path, web={"port": port}), environ={}))
        try:
            daemon.start()
            wait_until(lambda: [1 for entry in logs if entry["event"] == "web.not_listening"], WITHIN_S, "a warning")
            instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
            wait_until(lambda: daemon.store.stats().delivered == 1, WITHIN_S, "it is delivered")
            assert daemon.state().web == ""
            other.close()
            assert daemon.web
            assert daemon.web.wait_until_listening(WITHIN_S)
            assert Browser(daemon.web.url).get("/healthz").status == 200
        finally:
            daemon.stop()
    (warning,) = [entry for entry in logs if entry["event"] == "web.not_listening"]
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in warning["reason"]


def test_over_tls(tmp_path: Path, pki: Pki) -> None:
    files = {"tls_certificate": str(pki.receiver_crt), "tls_key": str(pki.receiver_key)}
    with serving(settings_in(tmp_path, web={"port": 0, "token": TOKEN, **files})) as (daemon, _):
        assert daemon.web
        assert daemon.web.url.startswith("https://")
        context = ssl.create_default_context(cafile=pki.ca_crt)
        context.check_hostname = False
        browser = Browser(daemon.web.url, context)
        assert browser.get("/healthz").status == 200
        assert "secure" in browser.post("/login", {"token": TOKEN}).headers["set-cookie"].lower()


def test_the_page_comes_and_goes_with_a_reload_and_its_token_is_read_from_its_file(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    inputs = folder_to_files(tmp_path)
    daemon = DaemonProcess(tmp_path / "daemon", (), inputs)
    try:
        daemon.start()
        first: str = wait_until(lambda: daemon.status()["daemon"]["web"], WITHIN_S, "the page is there")
        assert Browser(first).change("/api/v1/destinations/files/pause").status == 401
        text = daemon.config_path.read_text()
        daemon.config_path.write_text(text.replace("[web]\n", f'[web]\ntoken_file = "{token_file}"\n'))
        daemon.hang_up()
        second: str = wait_until(
            lambda: (url := daemon.status()["daemon"]["web"]) != first and url, WITHIN_S, "the page is there again"
        )
        assert Browser(second).change("/api/v1/destinations/files/pause").status == 200
        token_file.write_text("another-token-of-the-hospital")
        assert Browser(second).change("/api/v1/destinations/files/pause").status == 401
        token_file.write_text("short")
        assert Browser(second).change("/api/v1/destinations/files/pause").status == 503
        daemon.config_path.write_text(text.replace("[web]\n", "[web]\nenabled = false\n"))
        daemon.hang_up()
        wait_until(lambda: not daemon.status()["daemon"]["web"], WITHIN_S, "the page is gone")
        assert daemon.terminate() == 0
    finally:
        daemon.clean_up()
