"""The thread that has the store seal studies that every destination has had for long."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from dicom2fhir.ops.rounds import Rounds
from dicom2fhir.store.base import Store

log = structlog.get_logger(__name__)


class Sealer(Rounds):
    """Calls :meth:`dicom2fhir.store.base.Store.seal_delivered`.

    Parameters
    ----------
    quiet_s
        For how long nothing must have happened to a study, by the settings in force; None: no study is sealed.
    """

    def __init__(self, store: Store, quiet_s: Callable[[], float | None]) -> None:
        super().__init__("seal")
        self._store = store
        self._of_settings = quiet_s
        self._count = 0
        """Studies that were sealed in this round."""

    def _quiet_s(self) -> float | None:
        return self._of_settings()

    def _do_part(self, quiet_s: float) -> bool:
        sealed = self._store.seal_delivered(quiet_s)
        self._count += len(sealed or ())
        if sealed is None and self._count:
            log.info("store.studies_sealed", studies=self._count)
            self._count = 0
        return sealed is not None
