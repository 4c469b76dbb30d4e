"""The thread that has the store forget studies that every destination has had for long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.ops.repeating import Repeating
from dicom2fhir.store.base import Store

log = structlog.get_logger(__name__)

_PAUSE_S = 0.2
"""Between two parts, so that reception and deliveries come first."""
_NEXT_ROUND_S = 600.0
_LOOK_EVERY_S = 5.0
"""While nothing is to be forgotten: a reload may change that."""
_AFTER_FAILURE_S = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Which studies are forgotten.

    Attributes
    ----------
    quiet_s
        For how long nothing must have happened to them; None: no study is forgotten.
    most_instances
        Larger ones stay; None: none are too large.
    """

    quiet_s: float | None = None
    most_instances: int | None = None


class Forgetter(Repeating):
    """Calls :meth:`dicom2fhir.store.base.Store.forget_delivered`, a part each time, until it is stopped.

    Parameters
    ----------
    terms
        The terms in force.
    """

    def __init__(self, store: Store, terms: Callable[[], Terms]) -> None:
        super().__init__("forget", self._forget_some)
        self._store = store
        self._terms = terms

    def _forget_some(self) -> float:
        """Do one part; the seconds to wait before the next one."""
        terms = self._terms()
        if terms.quiet_s is None:
            return _LOOK_EVERY_S
        try:
            gone = self._store.forget_delivered(terms.quiet_s, terms.most_instances)
        except StoreUnavailable as error:
            log.warning("store.forgetting_delayed", **log_fields(error))
            return _AFTER_FAILURE_S
        except Exception as error:  # a store that grows must not stop the daemon
            log.error("store.forgetting_failed", **log_fields(BridgeFault(error)))
            return _AFTER_FAILURE_S
        for study in gone or ():
            log.info("store.study_forgotten", study=study)
        return _NEXT_ROUND_S if gone is None else _PAUSE_S
