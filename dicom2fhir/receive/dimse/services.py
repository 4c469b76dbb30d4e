"""Which operation performs a request, by its command and the SOP class of its presentation context."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.receive.dimse.command_set import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_CREATE_RQ,
    N_SET_RQ,
    NO_SUCH_SOP_CLASS,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Command,
    ResponseStatus,
)
from dicom2fhir.receive.dimse.normalized import Normalized
from dicom2fhir.receive.dimse.operation import Callbacks, DimseOperation
from dicom2fhir.receive.dimse.storage import Storage
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP, VERIFICATION
from dicom2fhir.system.memory_budget import Share

_NOT_STORAGE: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        VERIFICATION: frozenset(),
        INSTANCE_AVAILABILITY_NOTIFICATION: frozenset({N_CREATE_RQ}),
        MODALITY_PERFORMED_PROCEDURE_STEP: frozenset({N_CREATE_RQ, N_SET_RQ}),
    }
)
"""SOP class -> its requests with a data set (PS3.4 tables R.3.1-1 and F.7.1-1). All other SOP classes that are accepted
have C-STORE."""


class Services:
    """The operations of one association."""

    def __init__(self, callbacks: Callbacks, budgets: Budgets, share: Share) -> None:
        self.storage = Storage(callbacks, budgets, share)
        self._normalized = Normalized(callbacks, budgets, share)

    def operation(self, command: Command, sop_class: str) -> DimseOperation | None:
        """What performs a command in a presentation context of a SOP class; None if :meth:`answer` is enough."""
        requests = _NOT_STORAGE.get(sop_class)
        if requests is None:
            return self.storage if command.field == C_STORE_RQ else None
        return self._normalized if command.field in requests and command.sop_class == sop_class else None

    @staticmethod
    def answer(command: Command, sop_class: str) -> ResponseStatus:
        """The response to a command that no operation performs."""
        if command.field == C_ECHO_RQ:
            return SUCCESS
        if command.field == C_STORE_RQ:
            return SOP_CLASS_NOT_SUPPORTED
        return NO_SUCH_SOP_CLASS if command.field in _NOT_STORAGE.get(sop_class, ()) else UNRECOGNIZED_OPERATION
