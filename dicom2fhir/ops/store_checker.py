"""The thread that checks a store which was too large to be checked at the start."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.ops.daemon_state import CheckState
from dicom2fhir.ops.repeating import Repeating

log = structlog.get_logger(__name__)

_NICENESS = 10
"""Of the thread: reception and deliveries come first."""
_AFTER_FAILURE_S = 60.0
_AFTER_THE_END_S = threading.TIMEOUT_MAX


class Checkable(Protocol):
    """What a store is asked; see :class:`dicom2fhir.store.sql.database.Database`."""

    @property
    def is_unchecked(self) -> bool:
        """Whether something is left to check."""

    @property
    def check_progress(self) -> tuple[int, int]:
        """How many parts were checked, and how many there are."""

    @property
    def failure(self) -> str | None:
        """Why the store can no longer be written."""

    def check_part(self, is_stopping: Callable[[], bool]) -> None:
        """Check a part."""


class StoreChecker(Repeating):
    """Has a store check one part after another until nothing is left.

    Attributes
    ----------
    state
        None before it has begun.
    """

    def __init__(self, store: Checkable) -> None:
        super().__init__("check", self._check_part)
        self._store = store
        self._began_at = 0.0
        self.state: CheckState | None = None

    def _check_part(self) -> float:
        """Check one part; the seconds to wait before the next one."""
        if not self._store.is_unchecked:
            return _AFTER_THE_END_S
        if self.state is None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            self._began_at = time.monotonic()
            self.state = CheckState(time.time())
        found = ""
        try:
            self._store.check_part(self._stopping.is_set)
        except StoreUnavailable as error:
            if not self._stopping.is_set():
                log.warning("store.check_delayed", **log_fields(error))
            return _AFTER_FAILURE_S
        except Exception as error:  # a check that fails must not stop the daemon
            log.error("store.check_failed", **log_fields(BridgeFault(error)))
            found = f"the check failed: {type(error).__name__}; see the log"
        return self._note(self.state, found or self._store.failure or "")

    def _note(self, state: CheckState, found: str) -> float:
        """Note how far the check has come; the seconds to wait before the next part."""
        checked, tables = self._store.check_progress
        is_left = self._store.is_unchecked and not found
        self.state = replace(
            state, checked=checked, tables=tables, ended_at=None if is_left else time.time(), found=found
        )
        if is_left:
            return 0.0
        if not found:
            log.info("store.checked", duration_s=round(time.monotonic() - self._began_at, 1))
        return _AFTER_THE_END_S
