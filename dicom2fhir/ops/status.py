"""The status of the bridge: one document for ``status --json`` and other readers, and what needs attention.

It is read from the store and from the state that the daemon writes; nothing here waits for the daemon. It contains no
patient data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from dicom2fhir.ops import daemon_state
from dicom2fhir.ops.daemon_state import CheckState, DaemonState, DestinationState
from dicom2fhir.store.statuses import (
    Damage,
    DeliveryStatus,
    DestinationStatus,
    Rejection,
    State,
    Stats,
    StudyStatus,
    Undelivered,
)
from dicom2fhir.system.text import counted

_RECENT_S = 86_400.0
"""How long a refused instance needs attention; nothing records that somebody has dealt with it."""


class Readable(Protocol):
    """What is read from the store."""

    @property
    def location(self) -> str:
        """Its file, or its database."""

    @property
    def directory(self) -> Path:
        """The folder in which the daemon says how it is."""

    @property
    def is_owned(self) -> bool:
        """Whether a daemon has it."""

    @property
    def damages(self) -> Sequence[Damage]:
        """Damages of its file that nobody has acknowledged."""

    def stats(self) -> Stats:
        """Counts over the whole store."""

    def destinations(self) -> Sequence[DestinationStatus]:
        """The destinations in force."""

    def oldest_undelivered(self) -> Undelivered | None:
        """The delivery that waits longest."""

    def studies(self, state: State | None = None, limit: int = 100) -> Sequence[StudyStatus]:
        """The studies changed last."""

    def study_status(self, study_uid: str) -> StudyStatus | None:
        """One study."""

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """The latest refusals."""


@dataclass(frozen=True, slots=True)
class DaemonView:
    """The daemon as another process sees it.

    Attributes
    ----------
    running
        Whether a process uses the store.
    silent
        It runs, but has not written its state for a long time.
    said
        The last state that a daemon of this store wrote; None if there is none.
    """

    running: bool
    silent: bool
    said: DaemonState | None

    def destination(self, name: str) -> DestinationState | None:
        """The state of a destination; None if it is not known."""
        if self.said is None or not self.running or self.silent:
            return None
        return next((one for one in self.said.destinations if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that ``status`` shows."""

    at: float
    store: str
    daemon: DaemonView
    stats: Stats
    destinations: Sequence[DestinationStatus]
    studies: Sequence[StudyStatus]
    rejections: Sequence[Rejection]
    damages: Sequence[Damage]
    oldest: Undelivered | None
    attention: Sequence[str]
    """What needs an operator's attention, one sentence each."""


def daemon_of(store: Readable, now: float) -> DaemonView:
    """The daemon that uses the store, or that used it last."""
    running, said = store.is_owned, daemon_state.read(store.directory)
    fresh = said is not None and said.stopped_at is None and now - said.written_at < daemon_state.FRESH_S
    return DaemonView(running, running and not fresh, said)


def overview(store: Readable, only: State | None, limit: int, now: float | None = None) -> Overview:
    """Read everything.

    Parameters
    ----------
    only
        Studies in this state, and no rejections.
    limit
        Of studies and of rejections.
    """
    now = time.time() if now is None else now
    daemon, stats = daemon_of(store, now), store.stats()
    latest, damages, destinations = store.rejections(max(limit, 1)), store.damages, store.destinations()
    return Overview(
        at=now,
        store=store.location,
        daemon=daemon,
        stats=stats,
        destinations=destinations,
        studies=store.studies(only, limit),
        rejections=[] if only else latest[:limit],
        damages=damages,
        oldest=store.oldest_undelivered(),
        attention=[
            *map(_damage_message, damages),
            *_attention(daemon, stats, latest, now),
            *(
                f"Destination {one.name} is {_paused(one.name, one.paused_at)}"
                for one in destinations
                if one.paused_at is not None
            ),
        ],
    )


def not_receiving(daemon: DaemonView) -> str:
    """Why the bridge does not take in instances; empty if it does. FHIR servers do not matter."""
    if not daemon.running or daemon.said is None:
        return "the daemon is not running"
    if daemon.silent:
        return "the daemon does not report its state"
    if daemon.said.disk and daemon.said.disk.intake_stopped:
        return "reception is stopped: the disk of the store is full"
    return ""


def _damage_message(damage: Damage) -> str:
    aside = f" The damaged files were renamed to {damage.aside}." if damage.aside else ""
    return f"{moment(damage.at)}: {damage.reason}.{aside} See docs/store-damaged.md."


def _attention(daemon: DaemonView, stats: Stats, latest: Sequence[Rejection], now: float) -> Iterator[str]:
    if not daemon.running:
        yield f"The daemon is not running{_last_seen(daemon.said)}."
    elif daemon.silent:
        yield f"The daemon does not report its state{_last_seen(daemon.said)}: check its log, or restart it."
    elif daemon.said:
        yield from _complaints(daemon.said)
    if stats.refused:
        refused = f"{counted(stats.refused, 'delivery')} {'is' if stats.refused == 1 else 'are'}"
        yield f"{refused} refused: `status --state refused` shows the reasons, `retry` sends again."
    if latest and now - latest[0].at < _RECENT_S:
        yield "Instances or files were refused on reception within the last 24 hours: see `status`."


def _last_seen(said: DaemonState | None) -> str:
    if said is None:
        return ""
    if said.stopped_at:
        check = said.store_check
        found = f". Its check of the store {check_of_store(check)}" if check and check.found else ""
        return f"; it stopped at {moment(said.stopped_at)}{found}"
    return f"; last report at {moment(said.written_at)}"


def check_of_store(check: CheckState) -> str:
    """How far the check of a large store has come, or how it ended."""
    of_all = f"{check.checked} of {counted(check.tables, 'table')} checked" if check.tables else "just begun"
    if check.ended_at is None:
        return f"runs since {moment(check.since)}, {of_all}"
    if check.found:
        return f"ended at {moment(check.ended_at)}, {of_all}: {check.found}"
    return f"nothing wrong, ended at {moment(check.ended_at)}"


def _complaints(said: DaemonState) -> Iterator[str]:
    if said.disk and said.disk.intake_stopped:
        yield (
            f"Reception is stopped: {counted(said.disk.free_bytes, 'byte')} free on the disk of the store, and"
            f" store.min_free_bytes is {said.disk.min_free_bytes:,}."
        )
    if said.config_refused:
        yield f"The configuration was not reloaded; the previous settings are in force: {said.config_refused}"
    if said.store_check and said.store_check.found:
        yield f"The check of the store {check_of_store(said.store_check)}"
    if said.needs_restart:
        yield f"A restart is needed to apply {', '.join(said.needs_restart)}."
    for name, obstacle in (said.folders or {}).items():
        if obstacle:
            yield f"Folder {name} is not read: {obstacle}."
    for one in said.destinations:
        if one.state in ("down", "paused"):
            yield f"Destination {one.name} is {one.state} since {moment(one.since)}: {one.reason}"


def why(delivery: DeliveryStatus, study: StudyStatus, daemon: DaemonView, now: float, words: bool = True) -> str:
    """Why a delivery is not done; empty where it is.

    Parameters
    ----------
    words
        Whether to repeat what the destination said of the study, which may name the patient.
    """
    match delivery.state:
        case State.WAITING:
            said = f": {delivery.reason}" if words and delivery.reason else ""
            return _why_it_waits(delivery, study, daemon, now, said)
        case State.REFUSED | State.EXCLUDED if not words:
            return ""
        case State.REFUSED:
            return delivery.reason
        case State.SENDING:
            return "" if daemon.running else "the daemon stopped while the study was being sent"
        case State.EXCLUDED:
            return f"{delivery.reason}{_still_there(delivery)}"
        case _:
            return ""


def _still_there(delivery: DeliveryStatus) -> str:
    if not delivery.delivered_revision:
        return ""
    sent = f"revision {delivery.delivered_revision} was sent at {moment(delivery.delivered_at)}"
    return f"; {sent} before the study was excluded, and is not removed"


def _why_it_waits(delivery: DeliveryStatus, study: StudyStatus, daemon: DaemonView, now: float, said: str) -> str:
    if not daemon.running:
        return "the daemon is not running"
    if delivery.paused_at is not None:
        return "destination " + _paused(delivery.destination, delivery.paused_at)
    destination = daemon.destination(delivery.destination)
    if destination and destination.until is not None:
        return (
            f"destination {destination.state}: {destination.reason}; next try at"
            f" {moment(max(destination.until, delivery.due_at))}"
        )
    if delivery.reason:
        tries = f" after {counted(delivery.attempts, 'try')}" if delivery.attempts else ""
        return f"retry at {moment(delivery.due_at)}{tries}{said}"
    if delivery.due_at <= now:
        return f"due since {moment(delivery.due_at)}, queued" if delivery.due_at else "due now"
    if study.association_open:
        return f"an association that sends it is still open; due at {moment(delivery.due_at)} at the latest"
    return f"quiet period until {moment(delivery.due_at)}"


def _paused(destination: str, at: float) -> str:
    return f"paused since {moment(at)} by `dicom2fhir pause`; continue with `dicom2fhir resume {destination}`"


def moment(at: float | None) -> str:
    """Seconds since the epoch as local time, to the second."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def iso(at: float | None) -> str | None:
    """Seconds since the epoch as an instant in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else None


def as_json(seen: Overview) -> dict[str, Any]:
    """The document."""
    stats = asdict(seen.stats)
    stats["oldest_undelivered_at"] = iso(seen.stats.oldest_undelivered_at)
    return {
        "at": iso(seen.at),
        "store": str(seen.store),
        "attention": list(seen.attention),
        "damages": [asdict(damage) | {"at": iso(damage.at)} for damage in seen.damages],
        "daemon": _daemon_json(seen.daemon),
        "stats": stats,
        "oldest_undelivered": seen.oldest and _undelivered_json(seen.oldest, seen),
        "destinations": [_destination_json(one, seen.daemon) for one in seen.destinations],
        "studies": [study_json(study, seen.daemon, seen.at) for study in seen.studies],
        "rejections": [
            {
                "at": iso(rejection.at),
                "origin": rejection.origin.kind,
                "calling_ae": rejection.origin.calling_ae,
                "peer": rejection.origin.peer,
                "path": rejection.origin.path,
                "kind": rejection.kind,
                "reason": rejection.reason,
            }
            for rejection in seen.rejections
        ],
    }


def why_undelivered(one: Undelivered, seen: Overview, words: bool = True) -> str:
    """Why a study is not delivered to a destination: :func:`why`."""
    deliveries = (delivery for delivery in one.study.deliveries if delivery.destination == one.destination)
    return next((why(delivery, one.study, seen.daemon, seen.at, words) for delivery in deliveries), "")


def _undelivered_json(one: Undelivered, seen: Overview) -> dict[str, object]:
    return {
        "study_uid": one.study.study_uid,
        "destination": one.destination,
        "since": iso(one.since),
        "why": why_undelivered(one, seen),
    }


def _daemon_json(daemon: DaemonView) -> dict[str, object]:
    facts: dict[str, object] = {"running": daemon.running, "silent": daemon.silent}
    if daemon.said is None:
        return facts
    said = asdict(daemon.said)
    del said["destinations"]
    if check := said["store_check"]:
        said["store_check"] = check | {name: iso(check[name]) for name in ("since", "ended_at")}
    return facts | said | {name: iso(said[name]) for name in ("started_at", "written_at", "stopped_at")}


def _destination_json(one: DestinationStatus, daemon: DaemonView) -> dict[str, object]:
    facts: dict[str, object] = {
        "name": one.name,
        "mapping": one.fingerprint,
        "other_mappings": dict(one.others),
        "paused_at": iso(one.paused_at),
    }
    found = daemon.destination(one.name)
    if found is None:
        return facts
    return facts | asdict(found) | {"since": iso(found.since), "until": iso(found.until)}


def study_json(study: StudyStatus, daemon: DaemonView, now: float) -> dict[str, Any]:
    """One study of the document."""
    facts = asdict(study)
    facts["first_at"], facts["last_at"] = iso(study.first_at), iso(study.last_at)
    for shown, delivery in zip(facts["deliveries"], study.deliveries, strict=True):
        for name in ("due_at", "delivered_at", "paused_at"):
            shown[name] = iso(shown[name])
        shown["why"] = why(delivery, study, daemon, now)
    return facts
