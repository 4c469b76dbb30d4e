"""What the data set of an N-CREATE or N-SET request must have; the errors name what is missing or wrong."""

from __future__ import annotations

from dicom2fhir.dicom.decode import is_usable_uid
from dicom2fhir.errors import InvalidInstanceUID, InvalidValue, MissingAttribute
from dicom2fhir.model import Attrs, Received, items_of, texts_of


def sop_instance_of(received: Received) -> str:
    """The UID of the SOP instance that a request creates.

    Raises
    ------
    InvalidInstanceUID
        It is not a UID.
    """
    if not is_usable_uid(received.sop_instance):
        raise InvalidInstanceUID
    return received.sop_instance


def required(attrs: Attrs, keyword: str) -> str:
    """The first value of an attribute.

    Raises
    ------
    MissingAttribute
        It has none.
    """
    if value := next(filter(None, texts_of(attrs.get(keyword))), ""):
        return value
    raise MissingAttribute(f"{keyword} is missing.")


def required_items(attrs: Attrs, keyword: str) -> list[Attrs]:
    """The items of a sequence.

    Raises
    ------
    MissingAttribute
        It has none.
    """
    if items := items_of(attrs.get(keyword)):
        return items
    raise MissingAttribute(f"{keyword} is missing, or cannot be read.")


def usable_uid(attrs: Attrs, keyword: str) -> str:
    """The value of a UID that can be used in FHIR.

    Raises
    ------
    MissingAttribute, InvalidValue
        It is missing, or cannot be used.
    """
    value = required(attrs, keyword)
    if not is_usable_uid(value):
        raise InvalidValue(f"{keyword} is not a valid UID: up to 64 digits and dots.")
    return value
