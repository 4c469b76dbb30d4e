"""Load for a daemon that is killed and started again: senders, and a writer of files, that try until all is taken."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.sender import Sender
from testdata.make_dicom import EncodedInstance, ct_instances
from tests.acceptance.promises import Instance, Ledger
from tests.daemon_process import DaemonProcess

AE_TITLE = "DICOM2FHIR"
_LOOK_EVERY_S = 0.01
_WITHIN_S = 100.0
"""The longest between two acknowledgements."""
_IN_FOLDER = 20
"""Files that wait in the folder at a time."""


def of(encoded: EncodedInstance) -> Instance:
    """The instance that some bytes hold."""
    return Instance(encoded.study, encoded.series, encoded.sop_instance)


def slices(count: int, studies: int, draw: random.Random) -> list[EncodedInstance]:
    """CT slices of several studies with series of 5, in a random order."""
    made = list(ct_instances(count, studies, slices=5))
    draw.shuffle(made)
    return made


def stored(path: Path) -> list[Instance]:
    """The instances in a store, row by row; read as SQLite reads them, without the bridge."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        rows = connection.execute(
            "SELECT study.uid, series.uid, instance.uid FROM instance"
            " JOIN study ON study.id = instance.study_id JOIN series ON series.id = instance.series_id"
        )
        return [Instance(*row) for row in rows]


def try_to_send(daemon: DaemonProcess, encoded: EncodedInstance) -> bool:
    """Send one instance over an association of its own; whether it was acknowledged."""
    try:
        with Sender(daemon.address[1], AE_TITLE, encoded) as sender:
            sender.store(encoded)
    except OSError:
        return False
    return True


class Load:
    """Sends while the block runs, whatever happens to the daemon; each instance until it is acknowledged.

    Parameters
    ----------
    inbox
        A watched folder whose files are removed when they were taken; None: everything goes over associations.
    instances
        Every fourth goes into the folder.
    """

    def __init__(
        self,
        daemon: DaemonProcess,
        ledger: Ledger,
        instances: Sequence[EncodedInstance],
        inbox: Path | None = None,
        senders: int = 4,
    ) -> None:
        self._daemon = daemon
        self._ledger = ledger
        self._inbox = inbox
        self._left = deque(instances if inbox is None else (one for n, one in enumerate(instances) if n % 4))
        self._for_folder = deque(instances[::4] if inbox else ())
        self._in_folder: dict[Path, Instance] = {}
        self._total = len(instances)
        self._more = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send_all) for _ in range(senders)]
        if inbox is not None:
            self._threads.append(threading.Thread(target=self._write_all))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, count: int) -> None:
        """Wait until so many more instances were acknowledged, or all were."""
        with self._more:
            wanted = min(self._ledger.acknowledgements + count, self._total)
            while self._ledger.acknowledgements < wanted:
                done = self._more.wait(_WITHIN_S)
                assert done, f"{self._ledger.acknowledgements} of {wanted} instances were acknowledged"

    def ends(self) -> None:
        """Wait until all were acknowledged."""
        self.goes_on(self._total)

    def _acknowledge(self, instance: Instance) -> None:
        with self._more:
            self._ledger.acknowledge(instance)
            self._more.notify_all()

    def _send_all(self) -> None:
        while not self._stopping.is_set():
            encoded = self._next()
            if encoded is None:
                time.sleep(_LOOK_EVERY_S)  # others may give theirs back
                continue
            try:
                with Sender(self._daemon.address[1], AE_TITLE, encoded) as sender:
                    while encoded is not None and not self._stopping.is_set():
                        self._ledger.send(of(encoded))
                        sender.store(encoded)
                        self._acknowledge(of(encoded))
                        encoded = None  # the association may fail from here on without a loss
                        encoded = self._next()
            except OSError:
                self._stopping.wait(_LOOK_EVERY_S)
            if encoded is not None:
                self._left.appendleft(encoded)

    def _next(self) -> EncodedInstance | None:
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def _write_all(self) -> None:
        assert self._inbox is not None
        while not self._stopping.is_set() and (self._for_folder or self._in_folder):
            while self._for_folder and len(self._in_folder) < _IN_FOLDER:
                self._write(self._inbox, self._for_folder.popleft())
            for path, instance in list(self._in_folder.items()):
                if not path.exists():
                    del self._in_folder[path]
                    self._acknowledge(instance)
            time.sleep(_LOOK_EVERY_S)

    def _write(self, inbox: Path, encoded: EncodedInstance) -> None:
        path = inbox / f"{encoded.sop_instance}.dcm"
        partial = path.with_suffix(".part")
        partial.write_bytes(encoded.file)
        self._ledger.send(of(encoded))
        self._in_folder[path] = of(encoded)
        partial.rename(path)
