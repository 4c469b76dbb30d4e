"""The metrics of a running daemon, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from dicom2fhir.ops.latencies import Latencies
from dicom2fhir.ops.metric_table import DELIVERY_DURATION, METRICS, STORE_DURATION, Distribution, Facts, Metric
from dicom2fhir.ops.status import Readable, daemon_of

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Records durations, and writes all metrics; used by many threads at once."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._store_duration = self._histogram(STORE_DURATION)
        self._delivery_duration = self._histogram(DELIVERY_DURATION)
        self._latencies = Latencies()

    def _histogram(self, one: Distribution) -> Histogram:
        return Histogram(one.name, one.text, one.labels, buckets=one.buckets, registry=self._registry)

    def stored(self, duration_s: float) -> None:
        """Record that an instance was stored."""
        self._store_duration.observe(duration_s)

    def delivered(self, destination: str, duration_s: float) -> None:
        """Record an attempt to deliver."""
        self._delivery_duration.labels(destination).observe(duration_s)
        self._latencies.add(destination, duration_s)

    def latency_s(self, destination: str) -> float | None:
        """The median duration of the latest attempts to deliver; None before the first."""
        return self._latencies.median_s(destination)

    def text(self, store: Readable, now: float) -> bytes:
        """The page for Prometheus."""
        return generate_latest(_Page(partial(self._collect, store, now)))

    def _collect(self, store: Readable, now: float) -> Iterator[Family]:
        yield from self._registry.collect()
        daemon = daemon_of(store, now).said
        if daemon is not None:
            facts = Facts(now, daemon, store.stats(), store.destinations(), store.damages)
            yield from (_family(metric, facts) for metric in METRICS)


class _Page:
    """Stands for a registry."""

    def __init__(self, collect: Callable[[], Iterator[Family]]) -> None:
        self.collect = collect


def _family(metric: Metric, facts: Facts) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for labels, value in metric.read(facts).items():
        family.add_metric(labels, float(value))
    return family
