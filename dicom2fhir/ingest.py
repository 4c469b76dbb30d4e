"""Everything that is received is decoded and stored here, before its sender gets Success (0000)."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from dicom2fhir.dicom import availability, procedure_step
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.errors import BridgeError, BridgeFault, Permanent, attempt, log_fields
from dicom2fhir.model import Origin, Received
from dicom2fhir.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP
from dicom2fhir.store.base import Store
from dicom2fhir.store.statuses import Rejection

log = structlog.get_logger(__name__)


class Ingest:
    """Stores instances, notifications and procedure steps from all receivers; may be called by many threads at once.

    Parameters
    ----------
    stored
        Called for each instance that was stored, with its Study Instance UID and the seconds that it took.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        stored: Callable[[str, float], None] = lambda study_uid, duration_s: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._stored = stored

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
        self._take(lambda taken: self._keep(taken, reader), received)

    def _keep(self, received: Received, reader: InstanceReader) -> None:
        began = time.monotonic()
        record = reader.decode(received)
        self._store.add(record, received.origin)
        self._stored(record.study_uid, time.monotonic() - began)
        log.debug("instance.taken", sop_instance=record.sop_uid, study=record.study_uid)

    def create(self, received: Received) -> None:
        """Decode and store a notification (IAN) or a new procedure step (MPPS); it is on disk when this returns.

        Raises
        ------
        Permanent
            :class:`~dicom2fhir.errors.MissingAttribute`, :class:`~dicom2fhir.errors.InvalidValue`,
            :class:`~dicom2fhir.errors.InvalidInstanceUID`, :class:`~dicom2fhir.errors.DuplicateInstance` or
            :class:`~dicom2fhir.errors.BridgeFault`; the rejection is in the store.
        StoreUnavailable
            Nothing was stored; the sender must try again.
        """
        is_step = received.sop_class == MODALITY_PERFORMED_PROCEDURE_STEP
        self._take(self._begin_step if is_step else self._state, received)

    def set(self, received: Received) -> None:
        """Update a procedure step (MPPS); the change is on disk when this returns.

        Raises
        ------
        Permanent
            :class:`~dicom2fhir.errors.NoSuchInstance`, :class:`~dicom2fhir.errors.NoLongerUpdatable`,
            :class:`~dicom2fhir.errors.InvalidValue` or :class:`~dicom2fhir.errors.BridgeFault`; the rejection is in the
            store.
        StoreUnavailable
            Nothing was stored; the sender must try again.
        """
        self._take(self._update_step, received)

    def _take(self, keep: Callable[[Received], None], received: Received) -> None:
        try:
            attempt(keep, received)
        except Permanent as error:
            self.reject(received.origin, error, received.sop_instance)
            raise

    def _state(self, received: Received) -> None:
        notification = availability.notification(received)
        self._store.state_availability(notification)
        log.debug("notice.taken", sop_instance=notification.uid, study=notification.study_uid)

    def _begin_step(self, received: Received) -> None:
        step = procedure_step.created(received)
        self._store.create_step(step, received.origin)
        log.debug("notice.taken", sop_instance=step.uid, study=step.study_uid)

    def _update_step(self, received: Received) -> None:
        self._store.update_step(received.sop_instance, procedure_step.changes(received))
        log.debug("notice.taken", sop_instance=received.sop_instance)

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
