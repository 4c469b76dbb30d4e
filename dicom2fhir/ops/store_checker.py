"""The thread that checks a store which was too large to be checked at the start."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Protocol

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
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
    def failure(self) -> str | None:
        """Why the store can no longer be written."""

    def check_part(self, is_stopping: Callable[[], bool]) -> None:
        """Check a part."""


class StoreChecker(Repeating):
    """Has a store check one part after another until nothing is left."""

    def __init__(self, store: Checkable) -> None:
        super().__init__("check", self._check_part)
        self._store = store
        self._began_at = inf

    def _check_part(self) -> float:
        """Check one part; the seconds to wait before the next one."""
        if not self._store.is_unchecked:
            return _AFTER_THE_END_S
        if self._began_at == inf:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            self._began_at = time.monotonic()
        try:
            self._store.check_part(self._stopping.is_set)
        except StoreUnavailable as error:
            if not self._stopping.is_set():
                log.warning("store.check_delayed", **log_fields(error))
            return _AFTER_FAILURE_S
        except Exception as error:  # a check that fails must not stop the daemon
            log.error("store.check_failed", **log_fields(BridgeFault(error)))
            return _AFTER_THE_END_S
        if not self._store.is_unchecked and not self._store.failure:
            log.info("store.checked", duration_s=round(time.monotonic() - self._began_at, 1))
        return 0.0
