"""Threads that have the store go through its studies, round after round."""

from __future__ import annotations

from abc import ABC, abstractmethod

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.ops.repeating import Repeating

log = structlog.get_logger(__name__)

_PAUSE_S = 0.2
"""Between two parts, so that reception and deliveries come first."""
_NEXT_ROUND_S = 600.0
_LOOK_EVERY_S = 5.0
"""While nothing is to be done: a reload may change that."""
_AFTER_FAILURE_S = 60.0


class Rounds(Repeating, ABC):
    """Does a part each time, until it is stopped.

    Parameters
    ----------
    name
        What it does: the name of the thread, and of its work in the log.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, self._go_on)
        self._name = name

    @abstractmethod
    def _quiet_s(self) -> float | None:
        """For how long studies must have been quiet, by the settings in force; None if nothing is to be done."""

    @abstractmethod
    def _do_part(self, quiet_s: float) -> bool:
        """Do one part; False if it ended a round."""

    def _go_on(self) -> float:
        """The seconds to wait before the next part."""
        quiet_s = self._quiet_s()
        if quiet_s is None:
            return _LOOK_EVERY_S
        try:
            return _PAUSE_S if self._do_part(quiet_s) else _NEXT_ROUND_S
        except StoreUnavailable as error:
            log.warning("store.upkeep_delayed", work=self._name, **log_fields(error))
        except Exception as error:  # a store that grows must not stop the daemon
            log.error("store.upkeep_failed", work=self._name, **log_fields(BridgeFault(error)))
        return _AFTER_FAILURE_S
