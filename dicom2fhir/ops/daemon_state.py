"""The state of the daemon: a small JSON document beside the store, which other processes read.

The daemon writes it; ``status`` reads it, whether a daemon runs or not. The lock of the store tells whether the daemon
runs, not the document: a process that was killed could not update it. It contains no patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import structlog

from dicom2fhir.errors import log_fields
from dicom2fhir.system.durable import replacing
from dicom2fhir.system.permissions import give_to_owner
from dicom2fhir.system.text import counted

NAME = "daemon.json"
FRESH_S = 30.0
"""A running daemon with an older document hangs, or cannot write."""
MOST_SENDERS = 20
"""More would make the document large."""
_REPEAT_S = 10.0
"""It is written at this interval even if nothing has changed."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DestinationState:
    """One destination; times are seconds since the epoch.

    Attributes
    ----------
    state
        ``untried`` until it was used, ``up``, ``down``, or ``paused`` if the server asked for it or denies access.
    reason
        Why it is down or paused; may quote the server.
    until
        Time of the next attempt at the earliest; None unless it is down or paused.
    written, unchanged, failed, refused, excluded
        Outcomes of the attempts since the start.
    latency_s
        Median duration of its latest attempts, in seconds; None before the first.
    """

    name: str
    state: str
    since: float
    reason: str = ""
    until: float | None = None
    written: int = 0
    unchanged: int = 0
    failed: int = 0
    refused: int = 0
    excluded: int = 0
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class SenderState:
    """A peer with open associations, and their number."""

    calling_ae: str
    peer: str
    associations: int


@dataclass(frozen=True, slots=True)
class DiskState:
    """Free space on the disk of the store, and the limit."""

    free_bytes: int
    min_free_bytes: int
    intake_stopped: bool


@dataclass(frozen=True, slots=True)
class CheckState:
    """The check of a store that was too large to be checked at the start; times are seconds since the epoch.

    Attributes
    ----------
    checked, tables
        How many tables were checked, and how many there are; none before the first.
    ended_at
        None while it runs.
    found
        What is wrong, or why it ended early; empty if nothing is.
    """

    since: float
    checked: int = 0
    tables: int = 0
    ended_at: float | None = None
    found: str = ""


@dataclass(frozen=True, slots=True)
class DaemonState:
    """The whole document; times are seconds since the epoch.

    Attributes
    ----------
    stopped_at
        When it stopped regularly; None while it runs, or if it was killed.
    listening
        Host and port; empty if there is no receiver.
    refused
        What the receiver refused since the start, by kind.
    folders
        Watched folder -> why no files are imported from it; empty while they are.
    config_refused
        Why the last reload of the configuration failed; empty if it succeeded.
    needs_restart
        Options that have changed and need a restart.
    ae_title
        Of the receiver; empty if there is none.
    web
        Address of the web page; empty while it is not served.
    senders
        Who has open associations, after negotiation: at most :data:`MOST_SENDERS`, those with the most.
    store_check
        None if the store was checked at the start.
    forgotten
        How many studies were forgotten since the start.
    """

    pid: int
    version: str
    started_at: float
    written_at: float = 0.0
    stopped_at: float | None = None
    listening: str = ""
    associations: int = 0
    refused: Mapping[str, int] | None = None
    folders: Mapping[str, str] | None = None
    config_refused: str = ""
    needs_restart: tuple[str, ...] = ()
    disk: DiskState | None = None
    destinations: tuple[DestinationState, ...] = ()
    ae_title: str = ""
    web: str = ""
    senders: tuple[SenderState, ...] = ()
    store_check: CheckState | None = None
    forgotten: int = 0


def senders_of(associations: Mapping[tuple[str, str], int]) -> tuple[SenderState, ...]:
    """What is written of calling AE title and peer -> number of associations, in this order."""
    return tuple(SenderState(*sender, number) for sender, number in islice(associations.items(), MOST_SENDERS))


def in_a_line(state: DaemonState) -> str:
    """The state for `systemctl status`; without what servers say, since systemd keeps it."""
    said = []
    if state.ae_title:
        listens = (
            f"{state.ae_title} listens on {state.listening}" if state.listening else "the receiver does not listen"
        )
        said.append(f"{listens}, {counted(state.associations, 'association')}")
    if state.disk and state.disk.intake_stopped:
        said.append("nothing is accepted, because the disk is almost full")
    said += [f"folder {name} is obstructed" for name, why in (state.folders or {}).items() if why]
    said += [f"{one.name} {one.state}" for one in state.destinations]
    return "; ".join(said)


class StateFile:
    """Writes the document when it changes, and every ten seconds.

    A failure is logged once and never raised: only the report is lost.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._path = directory / NAME
        self._clock = clock
        self._last: DaemonState | None = None
        self._fails = False

    def write(self, state: DaemonState) -> None:
        """Write the document if the state has changed."""
        now = self._clock()
        last = self._last
        if last and last.stopped_at:  # the store, and its document, may be another daemon's now
            return
        if last and replace(last, written_at=state.written_at) == state and 0 <= now - last.written_at < _REPEAT_S:
            return
        self._last = replace(state, written_at=now)
        try:
            # not synced: after a power loss the daemon that it describes is gone too
            with replacing(self._path, f".{NAME}.tmp", sync=False) as file:
                give_to_owner(file.fileno(), self._path.parent)
                file.write(orjson.dumps(self._last))
            self._fails = False
        except OSError as error:
            if not self._fails:
                log.warning("state.not_written", **log_fields(error))
            self._fails = True


def read(directory: Path) -> DaemonState | None:
    """The last state of a daemon of this store; None if there is none that can be read."""
    try:
        said: Any = orjson.loads((directory / NAME).read_bytes())
        return DaemonState(
            **{
                **said,
                "disk": said["disk"] and DiskState(**said["disk"]),
                "destinations": tuple(DestinationState(**one) for one in said["destinations"]),
                "needs_restart": tuple(said["needs_restart"]),
                "store_check": said.get("store_check") and CheckState(**said["store_check"]),
                "senders": tuple(SenderState(**one) for one in said.get("senders", ())),
            }
        )
    except (OSError, ValueError, TypeError, KeyError):  # none yet, incomplete, or of another version
        return None
