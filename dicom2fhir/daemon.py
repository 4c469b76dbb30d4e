"""The daemon: builds the parts, starts them from the destinations to the inputs, supervises, stops in reverse order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from dicom2fhir import __version__
from dicom2fhir.config import Settings, warnings
from dicom2fhir.config.needed_files import needs
from dicom2fhir.deliver.worker import Deliverer
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.errors import BridgeError, BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.ingest import Ingest
from dicom2fhir.ops import logs
from dicom2fhir.ops.daemon_state import DaemonState, DestinationState, DiskState, StateFile, in_a_line, senders_of
from dicom2fhir.ops.metrics import Metrics
from dicom2fhir.outcomes import Attempt
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.receive.folder.watcher import FolderWatcher
from dicom2fhir.system.durable import make_directory
from dicom2fhir.system.memory_budget import HeaderSpace
from dicom2fhir.system.permissions import Use, faults, open_to_others, present_user
from dicom2fhir.system.signals import SignalInbox
from dicom2fhir.system.systemd import notify, reloading, watchdog_s
from dicom2fhir.web.server import WebServer
from dicom2fhir.wiring import parts
from dicom2fhir.wiring.previews import Previews
from dicom2fhir.wiring.reload import Blueprint, blueprint, difference, needs_restart
from dicom2fhir.wiring.store_options import store_address, store_options

if TYPE_CHECKING:
    from dicom2fhir.ops.tracing import Traces

_LOOK_EVERY_S = 1.0
_END = frozenset({signal.SIGTERM, signal.SIGINT})
_STOP_TIMEOUT_S = 20.0
"""For associations to finish their current instance, and for open requests; systemd waits longer."""
_FOLDER_SILENCE_S = 600.0
"""A watcher without a heartbeat for this long hangs; a single header from a slow network share may take minutes."""

log = structlog.get_logger(__name__)


class Daemon:
    """Everything that ``serve`` runs, in one process.

    Parameters
    ----------
    load
        Reads the settings again, for SIGHUP; without it they do not change.

    Raises
    ------
    ConfigError
        There is no input or no destination, or another daemon uses the store.
    StoreUnavailable
        The store cannot be opened.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings] | None = None) -> None:
        self._load = load or (lambda: settings)
        self._started_with = settings
        self._blueprint = blueprint(settings)
        self._wake: Callable[[], None] = lambda: None
        self._started_at = time.time()
        self._leaving: list[Deliverer] = []
        self._config_refused = ""
        self.store = store_address(settings).own(
            **store_options(settings),
            steady=time.monotonic,
            on_failure=lambda _reason: self._wake(),
            reader=fingerprint(),
        )
        self._metrics = Metrics()
        self._traces: Traces | None = None
        make_directory(self.store.directory, 0o700)
        self._state_file = StateFile(self.store.directory, time.time)
        with ExitStack() as undo:  # a store that stays open could not be opened again
            undo.callback(self.store.close)
            self._ingest = Ingest(self.store, stored=self._stored)
            self._store_keepers = parts.store_keepers(self.store, lambda: self.settings)
            self.deliverers = self._make_deliverers(self._blueprint, settings.destinations)
            self.folders = self._make_watchers(self._blueprint, settings.folders)
            self.receiver = (
                StorageSCP(
                    self._blueprint.listen,
                    on_received=self._ingest.receive,
                    on_created=self._ingest.create,
                    on_set=self._ingest.set,
                    on_rejected=self._ingest.reject,
                    on_association_ended=self.store.association_ended,
                )
                if settings.receiver.enabled
                else None
            )
            self.web = self._make_web(settings)
            self._traces = parts.traces(settings)
            undo.pop_all()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._blueprint.settings

    def _make_web(self, settings: Settings) -> WebServer | None:
        if not settings.web.enabled:
            return None
        space = self.receiver.space if self.receiver else HeaderSpace(settings.receiver.max_held_bytes)
        return parts.web_server(settings, self.store, Previews(lambda: self.settings), self._metrics, space)

    def _make_deliverers(self, plan: Blueprint, names: Iterable[str]) -> dict[str, Deliverer]:
        return {
            name: parts.deliverer(plan.settings, name, self.store, partial(self._delivered, name)) for name in names
        }

    def _stored(self, study_uid: str, duration_s: float) -> None:
        self._metrics.stored(duration_s)
        if self._traces:
            self._traces.stored(study_uid, duration_s)

    def _delivered(self, destination: str, attempt: Attempt) -> None:
        self._metrics.delivered(destination, attempt.duration_s)
        if self._traces:
            self._traces.delivered(destination, attempt)

    def _make_watchers(self, plan: Blueprint, names: Iterable[str]) -> dict[str, FolderWatcher]:
        return {name: self._make_watcher(*plan.folders[name]) for name in names}

    def _make_watcher(self, watch: Watch, budgets: Budgets) -> FolderWatcher:
        return FolderWatcher(
            watch,
            on_received=self._ingest.receive,
            on_rejected=self._ingest.reject,
            ledger=self.store,
            budgets=budgets,
        )

    def start(self) -> None:
        """Start the destinations first and the inputs last.

        Raises
        ------
        ConfigError, NotReady
            The receiver cannot listen on its address, or not yet.
        StoreInUse
            Another daemon shares the store and has other destinations.
        """
        _warn(self.settings)
        try:
            self._name_destinations(self.settings, may_differ=False)
            for deliverer in self.deliverers.values():
                deliverer.start()
            for watcher in self.folders.values():
                watcher.start()
            if self.receiver:
                self.receiver.start()
            if self.web:
                self.web.start()
            self._store_keepers.start()
        except BaseException:
            self.stop()
            raise
        log.info(
            "daemon.started",
            version=__version__,
            store=self.store.location,
            listening=":".join(map(str, self.receiver.address)) if self.receiver else "",
            ae_title=self.settings.receiver.ae_title if self.receiver else "",
            folders=len(self.folders),
            destinations=list(self.settings.destinations),
            storage="Storage Level 0: headers only, not an archive",
        )
        self._state_file.write(self.state())
        notify("READY=1")

    def state(self) -> DaemonState:
        """The state of all parts, for other processes."""
        listening = self.receiver is not None and self.receiver.is_alive()
        return DaemonState(
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            listening=":".join(map(str, self.receiver.address)) if self.receiver and listening else "",
            associations=self.receiver.associations if self.receiver else 0,
            refused=self.receiver.refused if self.receiver else {},
            folders={name: watcher.obstacle for name, watcher in self.folders.items()},
            config_refused=self._config_refused,
            needs_restart=tuple(needs_restart(self._started_with, self.settings)),
            disk=self._disk(),
            destinations=tuple(_state_of(one, self._metrics.latency_s(one.name)) for one in self.deliverers.values()),
            ae_title=self.settings.receiver.ae_title if self.receiver else "",
            web=self.web.url if self.web else "",
            senders=senders_of(self.receiver.senders if self.receiver else {}),
            store_check=self._store_keepers.checker.state,
            forgotten=self._store_keepers.forgetter.count,
        )

    def _disk(self) -> DiskState | None:
        try:
            room = self.store.room
        except OSError:  # the store reports it when the next instance arrives
            return None
        return DiskState(room.free_bytes, room.min_free_bytes, intake_stopped=room.is_low) if room else None

    def _name_destinations(self, settings: Settings, *, may_differ: bool) -> None:
        """Tell the store the destinations, which may differ from those of other daemons, and how each is mapped."""
        self.store.declare_destinations(parts.addresses(settings), may_differ=may_differ)
        self.store.set_destinations(settings.destinations)
        for known in self.store.destinations():
            self.store.set_mapping_fingerprint(
                known.name, parts.mapping_fingerprint_of(settings, known.name, known.fingerprint)
            )

    def reload(self) -> None:
        """Reload the configuration and apply what can change while associations are open; raises nothing.

        If the configuration is not usable, nothing changes.
        """
        reloading()
        try:
            self._take_over(blueprint(self._load()))
        except (BridgeError, OSError) as error:
            self._config_refused = str(error)
            log.error("config.refused", **log_fields(error))
        except Exception as error:  # reception and deliveries must continue in any case
            self._config_refused = f"{type(error).__name__}; see the log"
            log.error("config.refused", **log_fields(BridgeFault(error)))
        else:
            self._config_refused = ""
        finally:
            notify("READY=1")

    def _take_over(self, new: Blueprint) -> None:
        """Replace the parts whose options have changed; whatever may fail comes first, before anything has changed."""
        routes = difference(self._blueprint.routes, new.routes)
        folders = difference(self._blueprint.folders, new.folders)
        deliverers = self._make_deliverers(new, routes.to_start)
        watchers = self._make_watchers(new, folders.to_start)
        if self.receiver:
            self.receiver.take_over(new.listen)
        self._name_destinations(new.settings, may_differ=True)
        self._replace_deliverers(routes.to_stop, deliverers)
        self._replace_watchers(folders.to_stop, watchers)
        if new.web != self._blueprint.web:
            self._replace_web(new.settings)
        if new.settings.log != self.settings.log:
            logs.configure(new.settings.log.level, new.settings.log.format)
        is_other_receiver = new.listen != self._blueprint.listen
        self._blueprint = new
        _warn(new.settings)
        log.info("config.reloaded", destinations=asdict(routes), folders=asdict(folders), receiver=is_other_receiver)
        if changed := needs_restart(self._started_with, new.settings):
            log.warning("config.restart_needed", options=changed)

    def _replace_deliverers(self, to_stop: Iterable[str], deliverers: dict[str, Deliverer]) -> None:
        """Start the new ones while the old ones finish their deliveries; the lease keeps both off the same study."""
        for name in to_stop:
            self._leaving.append(self.deliverers.pop(name))
        self._part_with_leaving()
        for deliverer in deliverers.values():
            deliverer.start()
        self.deliverers |= deliverers

    def _part_with_leaving(self) -> None:
        self._leaving = [deliverer for deliverer in self._leaving if not deliverer.stop(0.0)]

    def _replace_watchers(self, to_stop: Iterable[str], watchers: dict[str, FolderWatcher]) -> None:
        """Stop the old ones before the new ones start: two watchers of a folder would import the same files."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for name in to_stop:
            self.folders.pop(name).stop(_left_s(deadline))
        for watcher in watchers.values():
            watcher.start()
        self.folders |= watchers

    def _replace_web(self, settings: Settings) -> None:
        """Stop the old server before the new one starts: both may want the same port."""
        if self.web:
            self.web.stop(_STOP_TIMEOUT_S)
        self.web = self._make_web(settings)
        if self.web:
            self.web.start()

    def trouble(self) -> str:
        """What has stopped working; empty if everything works."""
        if self.store.failure:
            return f"the store failed: {self.store.failure}"
        if self.receiver and not self.receiver.is_alive():
            return "the receiver is no longer listening"
        now = time.monotonic()
        for name, watcher in self.folders.items():
            if not watcher.is_alive() or now - watcher.heartbeat > _FOLDER_SILENCE_S:
                return f"the watcher of folder {name} has stopped"
        for deliverer in self.deliverers.values():
            if any(now - beat > deliverer.lease_s for beat in deliverer.heartbeats().values()):
                return f"a worker of destination {deliverer.name} has stopped"
        return ""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, reload at SIGHUP; must be called in the main thread.

        Raises
        ------
        StoreUnavailable
            The store failed, or a part of the daemon stopped working; systemd restarts the daemon.
        """
        inbox = SignalInbox()
        with inbox.receives(_END | {signal.SIGHUP}):
            self._wake = inbox.wake
            self.start()
            try:
                look_s = min(_LOOK_EVERY_S, (watchdog_s() or _LOOK_EVERY_S) / 2)
                while not (received := inbox.wait(look_s)) & _END and not self.trouble():
                    notify("WATCHDOG=1")
                    self.look()
                    if signal.SIGHUP in received:
                        self.reload()
                trouble = self.trouble()
            finally:
                self.stop()
        if trouble:
            log.error("daemon.failed", reason=trouble)
            raise StoreUnavailable(f"The daemon stopped: {trouble}.")
        log.info("daemon.stopped")

    def look(self) -> None:
        """What is due every second: look after the disk, report the state, part with what has ended."""
        self.store.look()
        state = self.state()
        self._state_file.write(state)
        notify(f"STATUS={in_a_line(state)}")
        self._part_with_leaving()

    def stop(self) -> None:
        """Stop the inputs, let deliveries finish, close the store."""
        notify("STOPPING=1")
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        if self.receiver:
            self.receiver.stop(_left_s(deadline))
        for watcher in self.folders.values():
            watcher.stop(_left_s(deadline))
        for deliverer in (*self._leaving, *self.deliverers.values()):
            deliverer.stop(_left_s(deadline))
        if self.web:
            self.web.stop(_left_s(deadline))
        self._store_keepers.stop(_left_s(deadline))
        self._state_file.write(replace(self.state(), stopped_at=time.time()))
        self.store.close()
        if self._traces:
            self._traces.stop()


def _state_of(deliverer: Deliverer, latency_s: float | None) -> DestinationState:
    standing, counts = deliverer.standing(), deliverer.counts()
    return DestinationState(
        name=deliverer.name,
        state=standing.state,
        since=standing.since,
        reason=standing.reason,
        until=standing.until if standing.state in ("down", "paused") else None,
        latency_s=latency_s,
        **asdict(counts),
    )


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.1)


def _warn(settings: Settings) -> None:
    # watchers report faults of their own folders, and a share that hangs would delay the other checks
    wanted = [need for need in needs(settings) if need.use not in (Use.WATCH, Use.EMPTY)]
    exposed = open_to_others(settings.store.directory)
    for doubt in (*warnings(settings), *exposed, *map(str, faults(wanted, present_user()))):
        log.warning("config.warning", text=doubt)
