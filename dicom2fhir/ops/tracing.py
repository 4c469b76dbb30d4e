"""Traces by OpenTelemetry (OTLP over HTTP): one for each study, from its reception to what servers answer.

The trace id is computed from the Study Instance UID, so that what happens to a study days later, or after a restart,
belongs to the same trace. Spans have no other identifier. This module needs the extra ``otel``.
"""

from __future__ import annotations

import threading
import time
from hashlib import blake2b

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from dicom2fhir.errors import BridgeFault, log_fields

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
        self._record(study_uid, "store instance", SpanKind.SERVER, duration_s, {})

    def delivered(self, study_uid: str, destination: str, outcome: str, duration_s: float) -> None:
        """Record an attempt to deliver a study, which ended now."""
        attributes = {"dicom2fhir.destination": destination, "dicom2fhir.outcome": outcome}
        self._record(study_uid, "deliver study", SpanKind.CLIENT, duration_s, attributes)

    def stop(self) -> None:
        """Send what has been recorded."""
        self._provider.shutdown()

    def _record(self, study_uid: str, name: str, kind: SpanKind, duration_s: float, attributes: dict[str, str]) -> None:
        end = time.time_ns()
        try:
            self._ids.begin(study_uid)
            span = self._tracer.start_span(
                name, kind=kind, attributes=attributes, start_time=end - int(duration_s * 1e9)
            )
            if attributes.get("dicom2fhir.outcome") in _FAILURES:
                span.set_status(Status(StatusCode.ERROR))
            span.end(end)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                log.error("trace.failed", **log_fields(BridgeFault(error)))


class _IdsOfStudies(RandomIdGenerator):
    """Trace ids that are computed from the study that this thread records."""

    def __init__(self) -> None:
        self._here = threading.local()

    def begin(self, study_uid: str) -> None:
        self._here.trace_id = int.from_bytes(blake2b(study_uid.encode(), digest_size=16).digest(), "big")

    def generate_trace_id(self) -> int:
        found: int = self._here.trace_id
        return found
