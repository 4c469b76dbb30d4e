"""Every received instance is decoded and stored here, before its sender gets Success (0000)."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, BridgeFault, Permanent, attempt, log_fields
from dicom2fhir.model import Origin, Received
from dicom2fhir.store.base import Rejection, Store

log = structlog.get_logger(__name__)


class Ingest:
    """Stores instances from all receivers; may be called by many threads at once."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def receive(self, received: Received, reader: InstanceReader) -> None:
        """Decode and store an instance; it is on disk when this returns.

        Parameters
        ----------
        reader
            The reader that read the instance; it also decodes it.

        Raises
        ------
        Permanent
            :class:`~dicom2fhir.errors.CannotUnderstand`, :class:`~dicom2fhir.errors.MissingUID`,
            :class:`~dicom2fhir.errors.Mismatch` or :class:`~dicom2fhir.errors.BridgeFault`; the rejection is in the
            store.
        StoreUnavailable
            Nothing was stored; the sender must try again.
        """
        try:
            attempt(self._keep, received, reader)
        except Permanent as error:
            self.reject(received.origin, error, received.sop_instance)
            raise

    def _keep(self, received: Received, reader: InstanceReader) -> None:
        record = reader.decode(received)
        self._store.add(record, received.origin)
        log.debug("instance.taken", sop_instance=record.sop_uid, study=record.study_uid)

    def reject(self, origin: Origin, error: BridgeError, sop_instance: str = "") -> None:
        """Record a rejection, for ``status``."""
        (log.error if isinstance(error, BridgeFault) else log.warning)(
            "instance.rejected",
            origin=origin.kind,
            calling_ae=origin.calling_ae,
            sop_instance=sop_instance,
            **log_fields(error),
        )
        self._store.reject(Rejection(self._clock(), origin, str(error), error.kind))
