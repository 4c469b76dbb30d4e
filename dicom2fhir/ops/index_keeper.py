"""The thread that keeps the search index of the store up to date."""

from __future__ import annotations

import structlog

from dicom2fhir.errors import BridgeFault, StoreUnavailable, log_fields
from dicom2fhir.ops.repeating import Repeating
from dicom2fhir.store.study_search import StudySearch

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
_AFTER_FAILURE_S = 60.0


class IndexKeeper(Repeating):
    """Calls :meth:`dicom2fhir.store.study_search.StudySearch.update_index` every second until it is stopped.

    Whatever fails here delays searches only, so it is logged and tried again.
    """

    def __init__(self, store: StudySearch) -> None:
        super().__init__("index", self._update)
        self._store = store

    def _update(self) -> float:
        """Do one part; the seconds to wait before the next one."""
        try:
            return 0.0 if self._store.update_index() else _LOOK_EVERY_S
        except StoreUnavailable as error:
            log.warning("index.delayed", **log_fields(error))
            return _LOOK_EVERY_S
        except Exception as error:  # an index that cannot be filled must not stop the daemon
            log.error("index.failed", **log_fields(BridgeFault(error)))
            return _AFTER_FAILURE_S
