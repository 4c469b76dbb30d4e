"""The part of the contract of a store for what archives and modalities state of studies: IAN and MPPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dicom2fhir.model import Attrs, AvailabilityNotification, Origin, ProcedureStep


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One procedure step (MPPS) of a study, with its Performed Procedure Step Status."""

    uid: str
    status: str


class Notices(Protocol):
    """Availability notifications and procedure steps, which may come before or after the instances of their study.

    A study that is not known yet is added, without instances. Like an instance, what changes something raises the
    study's revision and makes the study due.
    """

    def state_availability(self, notification: AvailabilityNotification) -> None:
        """Store what an archive states; it is on disk when this returns.

        For each instance and Retrieve AE Title the last statement counts, whether the instance has arrived or not. A
        notification that is repeated changes nothing.

        Raises
        ------
        DuplicateInstance
            Another notification with this UID is stored.
        """

    def create_step(self, step: ProcedureStep, origin: Origin) -> None:
        """Store a new procedure step; it is on disk when this returns. One that is repeated changes nothing.

        A study of which no instance has arrived is due at once. ``origin`` is a sender of the study.

        Raises
        ------
        DuplicateInstance
            Another procedure step with this UID is stored.
        """

    def update_step(self, uid: str, changes: Attrs) -> None:
        """Change attributes of a procedure step; the change is on disk when this returns.

        As :meth:`create_step`. In addition, a study that is complete is due at once, even while associations send it:
        when all its procedure steps have ended, each that was completed lists instances, and all listed instances have
        arrived. An instance that arrives later waits for the quiet period again.

        Raises
        ------
        NoSuchInstance
            There is no such procedure step.
        NoLongerUpdatable
            It has ended, and this is not a repetition.
        """
