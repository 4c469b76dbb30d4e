"""What documents of all kinds have in common: their observing device, orders and moment."""

from __future__ import annotations

from dataclasses import replace

from dicom2fhir.fhir.mapping import identification, related
from dicom2fhir.fhir.mapping.content import ContentItem, dcm
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.model import Attrs, Resource

_DEVICE: tuple[tuple[str, str, str, str], ...] = (
    ("121012", "UIDREF", "UID", "DeviceUID"),
    ("121013", "TEXT", "TextValue", "StationName"),
    ("121014", "TEXT", "TextValue", "Manufacturer"),
    ("121015", "TEXT", "TextValue", "ManufacturerModelName"),
    ("121016", "TEXT", "TextValue", "DeviceSerialNumber"),
)
"""Content items of a device as observer (PS3.16 TID 1004): code, value type, attribute -> the equipment's attribute."""


def observing_device(source: MappingSource) -> Resource | None:
    """The Device that observed."""
    attrs = observing_equipment(ContentItem(source.attrs, source.context.schemes))
    return related.equipment(replace(source, attrs=attrs))


def observing_equipment(item: ContentItem) -> Attrs:
    """The device that observed, as the attributes of equipment."""
    attrs: dict[str, str] = {}
    for code, value_type, keyword, of_equipment in _DEVICE:
        texts = (text for inner in item.named(dcm(code), value_type) for text in inner.texts(keyword))
        if text := next(texts, ""):
            attrs[of_equipment] = text
    return attrs


def orders(source: MappingSource) -> list[Resource]:
    """The orders of the document, else those of its study."""
    own = source.items("ReferencedRequestSequence")
    study = source.context.study
    attrs = {"RequestAttributesSequence": own} if any(item.get("AccessionNumber") for item in own) else study.attrs
    return identification.orders(replace(source, attrs=attrs))


def authored(source: MappingSource) -> str | None:
    """The moment of the content, or only its day."""
    return source.moment("ContentDate", "ContentTime")


def issued(source: MappingSource) -> str | None:
    """The moment of the content, if its time and time zone are known."""
    moment = authored(source)
    return moment if moment and "T" in moment else None
