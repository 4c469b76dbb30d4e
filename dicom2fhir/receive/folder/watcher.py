"""A watched folder: each file is imported exactly once, when it no longer changes.

The whole folder is scanned repeatedly, and only the scans are reliable. File system events only make it faster: they
get lost on network shares, when queues overflow and when a folder is moved in.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, BridgeFault, ConfigError, Transient, log_fields, words_of
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.folder.files import Found, is_ignored, is_on_network, look_at, walk_folder
from dicom2fhir.receive.folder.folder_file import Changed, Incomplete, Intake
from dicom2fhir.receive.folder.incomplete_files import LeftAlone
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.receive.folder.watch_events import FolderEvents
from dicom2fhir.system.text import token

if TYPE_CHECKING:
    from dicom2fhir.store.file_marks import Ledger

log = structlog.get_logger(__name__)

_MOST_WAITING = 10_000
"""Files watched for changes at a time; the others wait on disk."""
_MOST_SETTLED = 200_000
"""Completed files kept in memory, so that the ledger need not be queried: about 14 MB."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_LONGEST_IDLE_S = 1.0
_GATHER_S = 0.05
_FIRST_LOOK_S = 2.0
"""How long the start waits for the first check of the folder; a share that hangs must not delay everything else."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that may still be changing, or that is tried again later."""

    file: Found
    due_at: float
    since: float
    """It has not changed since then, at least."""
    pause_s: float = 0.0


class FolderWatcher:
    """Passes each file of a folder on once, from its own thread.

    Parameters
    ----------
    on_received
        Called with one instance and the reader that decodes it. If it raises ``CannotUnderstand``, ``Mismatch`` or
        ``BridgeFault``, the file is rejected; any other ``BridgeError`` pauses the folder; after any other exception
        the file is tried again later. Pauses grow and nothing is lost.
    on_rejected
        Called for files that are refused before ``on_received``, with the error.
    ledger
        Remembers across restarts which files are completed.
    clock
        A monotonic clock, in seconds.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        on_received: Callable[[Received, InstanceReader], object],
        on_rejected: Callable[[Origin, BridgeError], None],
        ledger: Ledger,
        budgets: Budgets = DEFAULT_BUDGETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._root = os.path.realpath(watch.path)
        self._leave_out = {os.path.realpath(folder) for folder in (watch.move_to, watch.rejected_to) if folder}
        self._intake = Intake(watch, self._root, on_received, on_rejected, ledger, budgets)
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._settled: set[int] = set()
        self._left_alone = LeftAlone(watch.incomplete_s, clock)
        self._scan: Iterator[Found] | None = None
        self._next_scan_at = self._paused_until = self._scan_began = clock()
        self._pause_s = 0.0
        self._hindrance = ""
        self._counts: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._looked = threading.Event()
        self._notices: FolderEvents | None = None
        self._listen_at = clock()
        self._deaf = ""
        self._found: tuple[int, int] | None = None
        self.absent = ""
        """Why the folder is missing, such as a share that is not mounted yet; empty while it exists."""
        self._thread = threading.Thread(target=self._run, name="watched folder", daemon=True)
        self.heartbeat = clock()
        """When the thread was last active, by ``clock``."""

    @property
    def obstacle(self) -> str:
        """Why no files are imported, such as a share that is not mounted yet; empty while they are."""
        return self.absent or self._hindrance

    @property
    def is_native(self) -> bool:
        """Whether file system events are used."""
        return self._notices is not None

    def is_alive(self) -> bool:
        """Whether the folder is being watched."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def start(self) -> None:
        """Start to watch.

        Raises
        ------
        ConfigError
            Files are to be moved, but ``move_to`` is not set.
        """
        watch = self._watch
        if watch.afterwards == "move" and watch.move_to is None:
            raise ConfigError(f"Files of {watch.path} are to be moved, but move_to is not set.")
        self._thread.start()
        self._looked.wait(_FIRST_LOOK_S)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the current file and stop."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._notices is not None:
            self._notices.stop()

    def _find(self) -> bool:
        """Whether the folder exists. A missing one is waited for; one mounted over it later is another folder."""
        try:
            status = os.stat(self._root)
            is_folder = stat.S_ISDIR(status.st_mode)
            found, absent = (status.st_dev, status.st_ino), "" if is_folder else "not a folder"
        except OSError as error:
            found, absent = None, words_of(error)
        if (found, absent) != (self._found, self.absent):
            self._found, self.absent = found, absent
            self._stop_listening()
            self._scan, self._next_scan_at = None, self._clock()
            if absent:
                log.warning("folder.absent", path=str(self._watch.path), reason=absent)
            else:
                self._listen()
                mode = "native" if self.is_native else "poll"
                log.info("folder.watched", mode=mode, afterwards=self._watch.afterwards)
        if absent:
            self._paused_until = self._clock() + min(self._watch.poll_s, self._watch.rescan_s)
        return not absent

    def _listen(self) -> None:
        """Subscribe to file system events; while the system has none left, poll the folder and try again."""
        watch = self._watch
        self._listen_at = self._clock() + watch.rescan_s
        if watch.mode == "poll" or (watch.mode == "auto" and is_on_network(self._root)):
            return
        notices = FolderEvents(self._root, self._wake)
        try:
            notices.start()
        except OSError as error:
            notices.stop()
            reason = words_of(error)
            if reason != self._deaf:
                (log.error if watch.mode == "native" else log.warning)(
                    "folder.polled",
                    reason=reason,
                    every_s=watch.poll_s,
                    hint="raise fs.inotify.max_user_watches and max_user_instances, see sysctl(8)",
                )
            self._deaf = reason
        else:
            self._notices, self._deaf = notices, ""

    def _stop_listening(self) -> None:
        if self._notices is not None:
            self._notices.stop()
            self._notices = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._clock() >= self._paused_until:
                    self._turn()
                    self._hindrance = ""
            except (Transient, OSError) as error:
                self._pause(error)
            except Exception as error:  # the thread must survive every error
                log.error("folder.failed", **log_fields(BridgeFault(error)))
                self._pause(error)
            self._wait()
        self._say()

    def _wait(self) -> None:
        self.heartbeat = self._clock()
        # events come in bursts: collect some first
        self._stopping.wait(_GATHER_S)
        dues = [waiting.due_at for waiting in self._waiting.values()]
        if self._scan is None:
            dues.append(self._next_scan_at)
        elif len(dues) < _MOST_WAITING:
            return
        self._wake.wait(min(max(max(min(dues), self._paused_until) - self._clock(), 0.0), _LONGEST_IDLE_S))
        self._wake.clear()

    def _pause(self, error: Exception) -> None:
        """Pause the whole folder: what prevents the import of one file prevents that of all."""
        self._hindrance = words_of(error).rstrip(".")
        self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._paused_until = self._next_scan_at = self._clock() + self._pause_s
        self._scan = None
        log.warning("folder.paused", seconds=self._pause_s, **log_fields(error))

    def _turn(self) -> None:
        is_there = self._find()
        self._looked.set()
        if not is_there:
            return
        if self._notices is None and self._clock() >= self._listen_at:
            self._listen()
        self._follow_notices()
        self._look_through()
        for waiting in list(self._waiting.values()):
            if self._stopping.is_set():
                return
            if waiting.due_at <= self._clock():
                self.heartbeat = self._clock()
                self._settle(waiting)

    def _follow_notices(self) -> None:
        if self._notices is None:
            return
        paths, overflow = self._notices.take()
        for path in paths:
            if self._is_left_out(path):
                continue
            if file := look_at(path):
                self._notice(file)
            elif os.path.isdir(path) and not os.path.islink(path):
                room = max(_MOST_WAITING - len(self._waiting), 0)
                below = list(islice(self._walk(path), room))
                overflow |= len(below) == room
                for each in below:
                    self._notice(each)
        if overflow:
            self._next_scan_at = self._clock()
        if not self._notices.is_alive():
            log.warning("folder.polled", reason="file system events ended", every_s=self._watch.poll_s)
            self._stop_listening()

    def _is_left_out(self, path: str) -> bool:
        """Whether a scan of the folder would not reach ``path``."""
        if not path.startswith(self._root + os.sep):
            return True
        while path != self._root:
            if path in self._leave_out or is_ignored(path, self._root, self._watch.ignore):
                return True
            path = os.path.dirname(path)
        return False

    def _walk(self, folder: str) -> Iterator[Found]:
        return walk_folder(
            folder, self._root, ignore=self._watch.ignore, leave_out=self._leave_out, on_error=self._cannot_read
        )

    def _cannot_read(self, path: str, error: OSError) -> None:
        if path == self._root:
            raise error
        log.warning("folder.unreadable", path=token(path), **log_fields(error))

    def _look_through(self) -> None:
        if self._scan is None:
            if self._clock() < self._next_scan_at:
                return
            self._intake.take_back()
            self._scan_began = self._clock()
            self._scan = self._walk(self._root)
        # files that are tried repeatedly must not block all others
        room = max(_MOST_WAITING - len(self._waiting), 1)
        for _ in range(room):
            self.heartbeat = self._clock()
            file = next(self._scan, None)
            if file is None:
                watch = self._watch
                self._scan = None
                self._left_alone.forget_gone(self._scan_began)
                self._next_scan_at = self._clock() + (
                    watch.rescan_s if self.is_native else min(watch.poll_s, watch.rescan_s)
                )
                self._say()
                return
            self._notice(file)

    def _notice(self, file: Found) -> None:
        """Wait until a file no longer changes, unless it is completed or waited for already."""
        waiting = self._waiting.get(file.path)
        if (
            hash(file) in self._settled
            or (waiting is not None and waiting.file == file)
            or self._left_alone.holds(file)
        ):
            return
        if waiting is None and self._intake.is_done_with(file):
            self._remember(file)
        else:
            self._wait_for(file)

    def _wait_for(self, file: Found) -> None:
        """Wait until a file no longer changes: from now on or, if it was left alone, since it was first seen."""
        now = self._clock()
        since = self._left_alone.take(file)
        self._waiting[file.path] = _Waiting(file, now + self._watch.stable_s, now if since is None else since)

    def _remember(self, file: Found) -> None:
        if len(self._settled) >= _MOST_SETTLED:
            self._settled.clear()
        self._settled.add(hash(file))

    def _settle(self, waiting: _Waiting) -> None:
        """Import a file if it has not changed."""
        path = waiting.file.path
        file = look_at(path)
        if file is None:
            del self._waiting[path]
            return
        try:
            if file != waiting.file:
                raise Changed
            is_final = self._left_alone.is_over(waiting.since)
            fate = self._intake.take(file, again=waiting.pause_s > 0, is_final=is_final)
        except Changed:
            self._wait_for(file)
        except Incomplete:
            del self._waiting[path]
            self._left_alone.add(file, waiting.since)
            self._counts["left_alone"] += 1
            log.debug("file.left_alone", path=token(path), seconds=self._watch.incomplete_s)
        except BridgeError:
            raise
        except OSError as error:
            self._try_later(file, waiting, error)
        except Exception as error:  # such as a lack of memory: the other files must not wait
            log.error("folder.failed", **log_fields(BridgeFault(error)))
            self._try_later(file, waiting, error)
        else:
            del self._waiting[path]
            if look_at(path) == file:
                self._remember(file)
            self._counts[fate] += 1
            self._pause_s = 0.0
            log.debug("file.processed", path=token(path), outcome=fate)

    def _try_later(self, file: Found, waiting: _Waiting, error: Exception) -> None:
        pause_s = min(max(2 * waiting.pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._waiting[file.path] = _Waiting(file, self._clock() + pause_s, waiting.since, pause_s)
        log.warning("file.postponed", path=token(file.path), seconds=pause_s, **log_fields(error))

    def _say(self) -> None:
        if self._counts:
            log.info("folder.processed", waiting=len(self._waiting), **self._counts)
            self._counts.clear()
