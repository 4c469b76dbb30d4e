"""Reads Instance Availability Notifications (IAN, PS3.3 C.4.23)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dicom2fhir.dicom.decode import decode_attributes
from dicom2fhir.dicom.normalized import NOTIFICATION
from dicom2fhir.dicom.required_values import required, required_items, sop_instance_of, usable_uid
from dicom2fhir.errors import InvalidValue
from dicom2fhir.model import Attrs, Availability, AvailabilityNotification, Received, texts_of

AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
"""Instance Availability, the best first (PS3.3 C.4.23.1.1)."""

_WEB = re.compile(r"https?://[^\s/?#@\\]+(/[^\s?#@\\]*)?")
_KEPT = ("RetrieveAETitle", "RetrieveLocationUID")


def notification(received: Received) -> AvailabilityNotification:
    """The notification in an N-CREATE request.

    If it names an instance twice for one Retrieve AE Title, the last one counts.

    Raises
    ------
    MissingAttribute, InvalidValue, InvalidInstanceUID
        A required attribute, or the UID of the notification, is missing or cannot be used.
    """
    attrs = decode_attributes(received, NOTIFICATION)
    study_uid = usable_uid(attrs, "StudyInstanceUID")
    stated = {(each.sop_uid, each.retrieve_ae): each for each in _stated(attrs, study_uid)}
    return AvailabilityNotification(sop_instance_of(received), study_uid, tuple(stated[key] for key in sorted(stated)))


def _stated(attrs: Attrs, study_uid: str) -> Iterator[Availability]:
    for series in required_items(attrs, "ReferencedSeriesSequence"):
        for item in required_items(series, "ReferencedSOPSequence"):
            availability = required(item, "InstanceAvailability").upper()
            if availability not in AVAILABILITIES:
                raise InvalidValue("InstanceAvailability is not ONLINE, NEARLINE, OFFLINE or UNAVAILABLE.")
            kept = {keyword: item[keyword] for keyword in _KEPT if keyword in item}
            if base := _base_url("".join(texts_of(item.get("RetrieveURL"))), study_uid):
                kept["RetrieveURL"] = base
            uid = usable_uid(item, "ReferencedSOPInstanceUID")
            yield Availability(uid, {"InstanceAvailability": availability, **kept})


def _base_url(url: str, study_uid: str) -> str:
    """What precedes ``/studies/STUDY`` in the Retrieve URL of an instance (PS3.18 section 10.4); else empty."""
    base, is_there, rest = url.partition(f"/studies/{study_uid}")
    return base if is_there and rest[:1] in ("", "/") and _WEB.fullmatch(base) else ""
