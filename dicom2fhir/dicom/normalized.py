"""The attributes that are read of normalized SOP instances: notifications (IAN) and procedure steps (MPPS).

Their SOP classes have one data set for each request (PS3.7 section 10), which holds attributes that the instances of a
study do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from dicom2fhir.dicom.attributes import CODE, LEVELS, SPECIFIC_CHARACTER_SET, Attribute
from dicom2fhir.dicom.data_elements import Budgets, Wanted
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.dicom.wanted import wanted
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP


def _a(keyword: str, tag: int, vr: str, *items: Attribute, many: bool = False) -> Attribute:
    return Attribute(keyword, tag, vr, items=items, many=many)


NOTIFICATION = (
    _a("StudyInstanceUID", 0x0020000D, "UI"),
    _a(
        "ReferencedSeriesSequence",
        0x00081115,
        "SQ",
        _a("SeriesInstanceUID", 0x0020000E, "UI"),  # not used, but an item without any value would be left out
        _a(
            "ReferencedSOPSequence",
            0x00081199,
            "SQ",
            _a("ReferencedSOPInstanceUID", 0x00081155, "UI"),
            _a("InstanceAvailability", 0x00080056, "CS"),
            _a("RetrieveAETitle", 0x00080054, "AE", many=True),
            _a("RetrieveURL", 0x00081190, "UR"),
            _a("RetrieveLocationUID", 0x0040E011, "UI"),
        ),
    ),
)
"""Instance Availability Notification Module, PS3.3 C.4.23."""

_PERFORMERS = tuple(
    attribute for attribute in LEVELS["series"] if attribute.keyword.startswith(("PerformingPhysician", "Operator"))
)
_REFERENCED_INSTANCE = _a("ReferencedSOPInstanceUID", 0x00081155, "UI")
_REQUEST = next(attribute for attribute in LEVELS["study"] if attribute.keyword == "RequestAttributesSequence")

STEP_OF_STUDY = (*LEVELS["patient"], *LEVELS["study"])
"""Attributes that a procedure step and the instances of its study have in common."""

PROCEDURE_STEP = (
    *STEP_OF_STUDY,
    _a("Modality", 0x00080060, "CS"),
    _a("PerformedProcedureStepStartDate", 0x00400244, "DA"),
    _a("PerformedProcedureStepStartTime", 0x00400245, "TM"),
    _a("PerformedStationAETitle", 0x00400241, "AE"),
    _a("PerformedStationName", 0x00400242, "SH"),
    _a("PerformedProcedureStepEndDate", 0x00400250, "DA"),
    _a("PerformedProcedureStepEndTime", 0x00400251, "TM"),
    _a("PerformedProcedureStepStatus", 0x00400252, "CS"),
    _a("PerformedProcedureStepDescription", 0x00400254, "LO"),
    _a("PerformedProtocolCodeSequence", 0x00400260, "SQ", *CODE),
    _a("PerformedProcedureStepDiscontinuationReasonCodeSequence", 0x00400281, "SQ", *CODE),
    _a(
        "ScheduledStepAttributesSequence",
        0x00400270,
        "SQ",
        _a("StudyInstanceUID", 0x0020000D, "UI"),
        *_REQUEST.items,
    ),
    _a(
        "PerformedSeriesSequence",
        0x00400340,
        "SQ",
        *_PERFORMERS,
        _a("ReferencedImageSequence", 0x00081140, "SQ", _REFERENCED_INSTANCE),
        _a("ReferencedNonImageCompositeSOPInstanceSequence", 0x00400220, "SQ", _REFERENCED_INSTANCE),
    ),
)
"""Modules of PS3.3 C.4.13 to C.4.15: relationship, information, image acquisition results."""

ATTRIBUTES: Mapping[str, tuple[Attribute, ...]] = {
    INSTANCE_AVAILABILITY_NOTIFICATION: NOTIFICATION,
    MODALITY_PERFORMED_PROCEDURE_STEP: PROCEDURE_STEP,
}
"""SOP class -> what is read."""

_WANTED: Mapping[str, Wanted] = {
    sop_class: wanted((SPECIFIC_CHARACTER_SET, *attributes)) for sop_class, attributes in ATTRIBUTES.items()
}
_MORE_ELEMENTS = 4
"""A notification names each instance of a study, and all of its elements are taken: at 35 to 70 elements of the budget
for an instance, the budget of a header is enough for 4,000 instances, and this one for 17,000."""


def all_attributes() -> Iterator[Attribute]:
    """Every attribute of the tables, with those of items."""
    waiting = [attribute for attributes in ATTRIBUTES.values() for attribute in attributes]
    while waiting:
        attribute = waiting.pop()
        yield attribute
        waiting += attribute.items


def budgets_of(budgets: Budgets) -> Budgets:
    """The limits for a data set, from those for the header of an instance; no item of a sequence is left out."""
    elements = _MORE_ELEMENTS * budgets.elements
    return replace(budgets, elements=elements, items=elements)


def open_data_set(
    sop_class: str, transfer_syntax: str, budgets: Budgets, hold: Callable[[int], object]
) -> HeaderReader:
    """Begin to read the data set of a request; see :class:`~dicom2fhir.dicom.reader.HeaderReader`."""
    return HeaderReader(transfer_syntax, _WANTED[sop_class], budgets, hold=hold)
