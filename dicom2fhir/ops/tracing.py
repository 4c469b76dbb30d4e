"""Traces by OpenTelemetry (OTLP over HTTP): one for each study, from its reception to what servers answer.

The trace id is computed from the Study Instance UID, so that what happens to a study days later, or after a restart,
belongs to the same trace. Spans have no other identifier. This module needs the extra ``otel``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from dicom2fhir.errors import BridgeFault, log_fields
from dicom2fhir.outcomes import Attempt, Exchange

_TIMEOUT_S = 3
"""Of one request to the collector; the daemon may wait for it when it stops."""
_FAILURES = frozenset({"refused", "retry"})

log = structlog.get_logger(__name__)


class Traces:
    """Records what happens to studies; a failure harms nothing else, and is logged once.

    Parameters
    ----------
    endpoint
        URL of the collector.
    share
        The share of studies whose traces are sent, from 0 to 1.
    version
        Of the bridge.
    """

    def __init__(self, endpoint: str, share: float, version: str) -> None:
        self._ids = _IdsOfStudies()
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(share),
            resource=Resource({"service.name": "dicom2fhir", "service.version": version}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_TIMEOUT_S)))
        self._tracer = self._provider.get_tracer("dicom2fhir")
        self._has_failed = False

    def stored(self, study_uid: str, duration_s: float) -> None:
        """Record that an instance of a study was stored, now."""
        with self._guarded():
            self._record(study_uid, "store instance", SpanKind.SERVER, time.time(), duration_s, {})

    def delivered(self, destination: str, attempt: Attempt) -> None:
        """Record an attempt to deliver a study, and its exchanges with the server."""
        attributes = {"dicom2fhir.destination": destination, "dicom2fhir.outcome": attempt.outcome}
        with self._guarded():
            span = self._record(
                attempt.study_uid, "deliver study", SpanKind.INTERNAL, attempt.ended, attempt.duration_s, attributes
            )
            for exchange in attempt.exchanges:
                self._record_exchange(exchange, span)

    def stop(self) -> None:
        """Send what has been recorded."""
        self._provider.shutdown()

    def _record(
        self,
        study_uid: str,
        name: str,
        kind: SpanKind,
        end: float,
        duration_s: float,
        attributes: dict[str, str],
    ) -> Span:
        self._ids.begin(study_uid)
        span = self._tracer.start_span(name, kind=kind, attributes=attributes, start_time=_ns(end - duration_s))
        if attributes.get("dicom2fhir.outcome") in _FAILURES:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(end))
        return span

    def _record_exchange(self, exchange: Exchange, delivery: Span) -> None:
        """With the names of OpenTelemetry's semantic conventions for HTTP clients; URLs have ids of patients."""
        attributes: dict[str, str | int] = {"http.request.method": exchange.method}
        if exchange.status is not None:
            attributes["http.response.status_code"] = exchange.status
        span = self._tracer.start_span(
            exchange.method,
            context=set_span_in_context(delivery),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=_ns(exchange.ended - exchange.duration_s),
        )
        if exchange.status is None or exchange.status >= 400:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(exchange.ended))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                log.error("trace.failed", **log_fields(BridgeFault(error)))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


class _IdsOfStudies(RandomIdGenerator):
    """Trace ids that are computed from the study that this thread records."""

    def __init__(self) -> None:
        self._here = threading.local()

    def begin(self, study_uid: str) -> None:
        self._here.trace_id = int.from_bytes(blake2b(study_uid.encode(), digest_size=16).digest(), "big")

    def generate_trace_id(self) -> int:
        found: int = self._here.trace_id
        return found
