"""The thread that has the store forget studies that every destination has had for long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dicom2fhir.ops.rounds import Rounds
from dicom2fhir.store.base import Store

log = structlog.get_logger(__name__)


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


class Forgetter(Rounds):
    """Calls :meth:`dicom2fhir.store.base.Store.forget_delivered`.

    Parameters
    ----------
    terms
        The terms in force.

    Attributes
    ----------
    count
        How many studies were forgotten.
    """

    def __init__(self, store: Store, terms: Callable[[], Terms]) -> None:
        super().__init__("forget")
        self._store = store
        self._terms = terms
        self.count = 0

    def _quiet_s(self) -> float | None:
        return self._terms().quiet_s

    def _do_part(self, quiet_s: float) -> bool:
        gone = self._store.forget_delivered(quiet_s, self._terms().most_instances)
        self.count += len(gone or ())
        for study in gone or ():
            log.info("store.study_forgotten", study=study)
        return gone is not None
