"""The metrics, as data: names, meanings, labels, and where the values come from.

Names follow https://prometheus.io/docs/practices/naming/: base units, and ``_total`` for what only grows. No label
identifies a patient, a study or a sender. ``docs/metrics.md`` is generated from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dicom2fhir.ops.daemon_state import DaemonState
from dicom2fhir.store.statuses import Damage, DestinationStatus, State, Stats

_STATES = ("untried", "up", "down", "paused")
"""Of :class:`~dicom2fhir.ops.daemon_state.DestinationState`."""
_OUTCOMES = ("written", "unchanged", "failed", "refused", "excluded")
"""Its counts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the values are taken from; times are seconds since the epoch."""

    at: float
    daemon: DaemonState
    stats: Stats
    destinations: Sequence[DestinationStatus]
    damages: Sequence[Damage]


Values = Mapping[tuple[str, ...], float]
"""The values of the labels -> the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A value that is read when it is asked for."""

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    read: Callable[[Facts], Values]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of durations, which are recorded when they occur; ``buckets`` in seconds."""

    name: str
    text: str
    buckets: tuple[float, ...]
    labels: tuple[str, ...] = ()
    kind: Literal["histogram"] = "histogram"


def _one(read: Callable[[Facts], float]) -> Callable[[Facts], Values]:
    return lambda facts: {(): read(facts)}


def _waiting_s(facts: Facts) -> float:
    since = facts.stats.oldest_undelivered_at
    return 0.0 if since is None else max(facts.at - since, 0.0)


def _deliveries(facts: Facts) -> Values:
    counts = facts.stats
    return {
        (State.WAITING,): counts.waiting,
        (State.SENDING,): counts.sending,
        (State.DELIVERED,): counts.delivered,
        (State.REFUSED,): counts.refused,
        (State.EXCLUDED,): counts.excluded,
    }


def _attempts(facts: Facts) -> Values:
    return {(one.name, outcome): getattr(one, outcome) for one in facts.daemon.destinations for outcome in _OUTCOMES}


def _states(facts: Facts) -> Values:
    return {(one.name, state): one.state == state for one in facts.daemon.destinations for state in _STATES}


def _receiver(facts: Facts) -> Values:
    return {(): bool(facts.daemon.listening)} if facts.daemon.ae_title else {}


def _disk(name: str) -> Callable[[Facts], Values]:
    return lambda facts: {(): getattr(facts.daemon.disk, name)} if facts.daemon.disk else {}


STORE_DURATION = Distribution(
    "dicom2fhir_store_duration_seconds",
    "Time to decode an instance and to commit it to the store; Success (0000) is sent afterwards.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
DELIVERY_DURATION = Distribution(
    "dicom2fhir_delivery_duration_seconds",
    "Time of one attempt to deliver a study: mapping, looking up and writing, whatever its outcome.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 240.0),
    ("destination",),
)
DISTRIBUTIONS = (STORE_DURATION, DELIVERY_DURATION)

METRICS = (
    Metric(
        "dicom2fhir_info",
        "gauge",
        "1, with the version of the bridge.",
        lambda f: {(f.daemon.version,): 1},
        ("version",),
    ),
    Metric(
        "dicom2fhir_start_time_seconds",
        "gauge",
        "When the daemon started, in seconds since the epoch.",
        _one(lambda f: f.daemon.started_at),
    ),
    Metric(
        "dicom2fhir_receiver_up",
        "gauge",
        "Whether the DICOM receiver listens; absent if there is none.",
        _receiver,
    ),
    Metric("dicom2fhir_associations", "gauge", "Open associations.", _one(lambda f: f.daemon.associations)),
    Metric(
        "dicom2fhir_receiver_refused_total",
        "counter",
        "Connections, associations and instances that the receiver refused since the start, by kind.",
        lambda f: {(kind,): count for kind, count in (f.daemon.refused or {}).items()},
        ("kind",),
    ),
    Metric(
        "dicom2fhir_rejected_instances",
        "gauge",
        "Instances that were refused on arrival and are listed by `status`, by kind.",
        lambda f: {(kind,): count for kind, count in f.stats.rejected_by_kind.items()},
        ("kind",),
    ),
    Metric("dicom2fhir_studies", "gauge", "Studies in the store.", _one(lambda f: f.stats.studies)),
    Metric("dicom2fhir_instances", "gauge", "Instances in the store.", _one(lambda f: f.stats.instances)),
    Metric(
        "dicom2fhir_forgotten_studies_total",
        "counter",
        "Studies that were forgotten since the start (store.forget_after_s).",
        _one(lambda f: f.daemon.forgotten),
    ),
    Metric(
        "dicom2fhir_deliveries",
        "gauge",
        "Deliveries by state, one for each study and destination.",
        _deliveries,
        ("state",),
    ),
    Metric(
        "dicom2fhir_oldest_undelivered_seconds",
        "gauge",
        "Age of the oldest change that has not been delivered; 0 if there is none. Refused studies do not count.",
        _one(_waiting_s),
    ),
    Metric(
        "dicom2fhir_delivery_attempts_total",
        "counter",
        "Attempts to deliver a study since the start, by outcome (failed: it is tried again).",
        _attempts,
        ("destination", "outcome"),
    ),
    Metric(
        "dicom2fhir_destination_state",
        "gauge",
        "1 for the state that a destination is in (untried, up, down, or paused by the server), 0 for the others.",
        _states,
        ("destination", "state"),
    ),
    Metric(
        "dicom2fhir_destination_paused",
        "gauge",
        "Whether an operator paused a destination (`dicom2fhir pause`).",
        lambda f: {(one.name,): one.paused_at is not None for one in f.destinations},
        ("destination",),
    ),
    Metric(
        "dicom2fhir_disk_free_bytes",
        "gauge",
        "Free space on the disk of the store.",
        _disk("free_bytes"),
    ),
    Metric(
        "dicom2fhir_disk_min_free_bytes",
        "gauge",
        "Free space below which nothing is accepted (store.min_free_bytes).",
        _disk("min_free_bytes"),
    ),
    Metric(
        "dicom2fhir_intake_stopped",
        "gauge",
        "Whether nothing is accepted because the disk is almost full.",
        _disk("intake_stopped"),
    ),
    Metric(
        "dicom2fhir_folder_obstructed",
        "gauge",
        "Whether no files can be imported from a watched folder.",
        lambda f: {(name,): bool(why) for name, why in (f.daemon.folders or {}).items()},
        ("folder",),
    ),
    Metric(
        "dicom2fhir_config_refused",
        "gauge",
        "Whether the last reload of the configuration failed.",
        _one(lambda f: bool(f.daemon.config_refused)),
    ),
    Metric(
        "dicom2fhir_store_damages",
        "gauge",
        "Damages of the store that nobody has acknowledged.",
        _one(lambda f: len(f.damages)),
    ),
)


def everything() -> list[Metric | Distribution]:
    """All of them, sorted by name."""
    found: list[Metric | Distribution] = [*METRICS, *DISTRIBUTIONS]
    return sorted(found, key=lambda metric: metric.name)
