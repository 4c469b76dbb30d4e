"""Traces as a collector receives them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.wiring import parts
from tests.command_line import Run
from tests.daemon_process import DaemonProcess, folder_to_files
from tests.scripted_server import scripted_server

APART_NS = 100_000_000
"""The times of a span and of what is within it are taken one after another, and a busy machine may wait in between."""


class Collector:
    """Keeps the bodies that it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_packed = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if is_packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1/traces"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def check_exchanges(spans: list[Span]) -> None:
    """Each request is within the attempt that needed it, with its status; the write, which was refused, is an error."""
    attempts = {span.span_id: span for span in spans if span.name == "deliver study"}
    statuses = []
    for span in spans:
        if span.kind == Span.SPAN_KIND_CLIENT:
            said = {one.key: one.value for one in span.attributes}
            attempt = attempts[span.parent_span_id]
            assert attempt.start_time_unix_nano - APART_NS <= span.start_time_unix_nano < span.end_time_unix_nano
            assert span.end_time_unix_nano <= attempt.end_time_unix_nano + APART_NS
            assert said.keys() == {"http.request.method", "http.response.status_code"}
            assert said["http.request.method"].string_value == span.name
            statuses.append(said["http.response.status_code"].int_value)
            assert (span.status.code == Status.STATUS_CODE_ERROR) == (statuses[-1] >= 400)
    assert 422 in statuses


def test_one_trace_leads_from_reception_to_the_outcome_at_each_destination(
    collector: Collector, tmp_path: Path
) -> None:
    with scripted_server() as fhir:
        fhir.status = 422
        more = f'[destinations.main]\nurl = "{fhir.url}"\n[tracing]\nendpoint = "{collector.url}"\n'
        daemon = DaemonProcess(tmp_path / "daemon", (), folder_to_files(tmp_path) + more)
        try:
            daemon.start()
            made = [instance("CT", study="traced-1"), instance("MR", study="traced-2")]
            for number, one in enumerate(made):
                one.save_as(tmp_path / "inbox" / f"{number}.dcm", enforce_file_format=True)
            daemon.holds(2)
            daemon.settled()
            assert daemon.terminate() == 0  # what was recorded is sent then
        finally:
            daemon.clean_up()
    traces: dict[bytes, list[Span]] = {}
    for span in collector.spans():
        traces.setdefault(span.trace_id, []).append(span)
    assert len(traces) == 2
    for spans in traces.values():
        assert {span.name for span in spans} >= {"store instance", "deliver study", "POST"}
        check_exchanges(spans)
        (stored,) = (span for span in spans if span.name == "store instance")
        assert stored.kind == Span.SPAN_KIND_SERVER
        delivered = [span for span in spans if span.name == "deliver study"]
        outcomes = {tuple(one.value.string_value for one in span.attributes) for span in delivered}
        assert outcomes == {("files", "delivered"), ("main", "refused")}
        for span in (stored, *delivered):
            assert span.end_time_unix_nano > span.start_time_unix_nano
            is_refused = any(one.value.string_value == "refused" for one in span.attributes)
            assert (span.status.code == Status.STATUS_CODE_ERROR) == is_refused
    sent = b"".join(collector.bodies)
    for one in made:
        for part in (one.PatientName, one.PatientID, one.StudyInstanceUID, one.SOPInstanceUID, one.AccessionNumber):
            assert str(part).encode() not in sent


def test_a_collector_that_cannot_be_reached_changes_nothing(tmp_path: Path, free_port: int) -> None:
    more = f'[tracing]\nendpoint = "http://127.0.0.1:{free_port}/v1/traces"\n'
    daemon = DaemonProcess(tmp_path / "daemon", (), folder_to_files(tmp_path) + more)
    try:
        daemon.start()
        instance("CT").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
        daemon.holds(1)
        assert daemon.settled().delivered == 1
        assert daemon.terminate() == 0
    finally:
        daemon.clean_up()


def test_without_the_extra_the_next_step_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    path = tmp_path / "config.toml"
    path.write_text(
        f'[store]\ndirectory = "{tmp_path}/state"\n[receiver]\nport = 0\n[tracing]\nendpoint = "http://127.0.0.1:1/"\n'
        f'[destinations.files]\ntype = "file"\ndirectory = "{tmp_path}/out"\n'
    )
    for command in ("check-config", "serve"):
        done = run(command, "--config", path)
        assert done.status == 78
        assert "pip install 'dicom2fhir-bridge[otel]'" in done.stderr
