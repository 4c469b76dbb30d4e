"""The daemon: build the parts in the order of the flow, start them from the far end, supervise, stop in reverse."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from types import FrameType

import structlog

from dicom2fhir import __version__, assembly, translation
from dicom2fhir.config import Settings, require_roads, warnings
from dicom2fhir.deliver import Deliverer
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ingest import Ingest
from dicom2fhir.ops.state import DaemonState, DestinationState, DiskState, StateFile
from dicom2fhir.ops.systemd import notify, watchdog_s
from dicom2fhir.receive.folder import FolderWatcher
from dicom2fhir.receive.scp import StorageSCP
from dicom2fhir.store.sqlite import SqliteStore

_LOOK_EVERY_S = 1.0
_STOP_TIMEOUT_S = 20.0
"""For associations to finish their instance, and for requests under way; systemd waits longer."""
_FOLDER_SILENCE_S = 600.0
"""A watcher that shows no sign of life for so long hangs: one header from a dying network share may take minutes."""

log = structlog.get_logger(__name__)


class Daemon:
    """Everything that ``serve`` runs, in one process.

    Raises
    ------
    ConfigError
        Nothing can come in or go out, or the store belongs to another daemon.
    StoreUnavailable
        The store cannot be opened as it must be.
    """

    def __init__(self, settings: Settings) -> None:
        require_roads(settings)
        self.settings = settings
        self._stop = threading.Event()
        self._started_at = time.time()
        self.store = SqliteStore(
            translation.store_path(settings),
            quiet_period_s=settings.store.quiet_period_s,
            max_wait_s=settings.store.max_wait_s,
            min_free_bytes=settings.store.min_free_bytes,
            on_failure=lambda _reason: self._stop.set(),
        )
        self._state_file = StateFile(self.store.path.parent, time.time)
        with ExitStack() as undo:  # nobody else could open a store that stays open
            undo.callback(self.store.close)
            ingest = Ingest(self.store)
            self.deliverers = [assembly.deliverer(settings, name, self.store) for name in settings.destinations]
            self.folders = {
                name: FolderWatcher(
                    assembly.watch(folder),
                    on_received=ingest.receive,
                    on_rejected=ingest.reject,
                    ledger=self.store,
                    budgets=translation.budgets(settings),
                )
                for name, folder in settings.folders.items()
            }
            self.receiver = (
                StorageSCP(
                    assembly.listen(settings),
                    on_received=ingest.receive,
                    on_rejected=ingest.reject,
                    on_association_ended=self.store.association_ended,
                )
                if settings.receiver.enabled
                else None
            )
            undo.pop_all()

    def start(self) -> None:
        """Begin to work: first the way out, last the ways in.

        Raises
        ------
        ConfigError
            The receiver cannot listen where it must.
        """
        for doubt in warnings(self.settings):
            log.warning("config.warning", text=doubt)
        try:
            self.store.set_destinations(self.settings.destinations)
            for known in self.store.destinations():
                recipe = assembly.recipe(self.settings, known.name, known.recipe)
                self.store.set_recipe(known.name, recipe)
            for deliverer in self.deliverers:
                deliverer.start()
            for watcher in self.folders.values():
                watcher.start()
            if self.receiver:
                self.receiver.start()
        except BaseException:
            self.stop()
            raise
        log.info(
            "daemon.started",
            version=__version__,
            store=str(self.store.path),
            listening=":".join(map(str, self.receiver.address)) if self.receiver else "",
            ae_title=self.settings.receiver.ae_title if self.receiver else "",
            folders=len(self.folders),
            destinations=list(self.settings.destinations),
            storage="Storage Level 0: headers only, this is no archive",
        )
        self._state_file.write(self.state())
        notify("READY=1")

    def state(self) -> DaemonState:
        """How everything is, for those who look from other processes."""
        listening = self.receiver is not None and self.receiver.is_alive()
        return DaemonState(
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            listening=":".join(map(str, self.receiver.address)) if self.receiver and listening else "",
            associations=self.receiver.associations if self.receiver else 0,
            refused=self.receiver.refused if self.receiver else {},
            disk=self._disk(),
            destinations=tuple(map(_state_of, self.deliverers)),
        )

    def _disk(self) -> DiskState | None:
        try:
            room = self.store.room
        except OSError:  # the store says so itself, as soon as something comes in
            return None
        return DiskState(room.free_bytes, room.min_free_bytes, intake_stopped=room.is_low)

    def trouble(self) -> str:
        """What does not work any more, or ``""``."""
        if self.store.failure:
            return f"the store: {self.store.failure}"
        if self.receiver and not self.receiver.is_alive():
            return "the receiver does not listen any more"
        now = time.monotonic()
        for name, watcher in self.folders.items():
            if not watcher.is_alive() or now - watcher.heartbeat > _FOLDER_SILENCE_S:
                return f"the watcher of folder {name} has stopped"
        for deliverer in self.deliverers:
            if any(now - beat > deliverer.lease_s for beat in deliverer.heartbeats().values()):
                return f"a worker of destination {deliverer.name} has stopped"
        return ""

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; to be called in the main thread.

        Raises
        ------
        StoreUnavailable
            The store failed, or a part of the daemon stopped working: systemd starts us again.
        """
        with _on_signals(self._stop.set):
            self.start()
            try:
                look_s = min(_LOOK_EVERY_S, (watchdog_s() or _LOOK_EVERY_S) / 2)
                while not self._stop.wait(look_s) and not self.trouble():
                    notify("WATCHDOG=1")
                    self._state_file.write(self.state())
                trouble = self.trouble()
            finally:
                self.stop()
        if trouble:
            log.error("daemon.failed", trouble=trouble)
            raise StoreUnavailable(f"The daemon stopped: {trouble}.")
        log.info("daemon.stopped")

    def stop(self) -> None:
        """Close the ways in, let what is under way finish, close the store."""
        notify("STOPPING=1")
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        if self.receiver:
            self.receiver.stop(_left_s(deadline))
        for watcher in self.folders.values():
            watcher.stop(_left_s(deadline))
        for deliverer in self.deliverers:
            deliverer.stop(_left_s(deadline))
        self._state_file.write(replace(self.state(), stopped_at=time.time()))
        self.store.close()


def _state_of(deliverer: Deliverer) -> DestinationState:
    standing, counts = deliverer.standing(), deliverer.counts()
    return DestinationState(
        name=deliverer.name,
        state=standing.state,
        since=standing.since,
        reason=standing.reason,
        until=standing.until if standing.state in ("down", "paused") else None,
        **asdict(counts),
    )


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.1)


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT only set a flag; what they did before comes back afterwards."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
