"""The value of a NUM: its number with the unit, or why there is no number (PS3.3 table C.18.1-1); its normal range."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicom2fhir.fhir.mapping.content import ContentItem, dcm
from dicom2fhir.fhir.version.datatypes import SNOMED_CT, Coding, Concept, coding, concept, decimal, first_item, one
from dicom2fhir.model import Resource, items_of

_ABSENT: Mapping[str, str] = MappingProxyType(
    {
        "114000": "not-a-number",
        "114001": "negative-infinity",
        "114002": "positive-infinity",
        "114007": "not-performed",
        "114010": "unknown",
    }
)
"""Numeric Value Qualifier (PS3.16 CID 42) -> data-absent-reason; all others are ``error``."""
_DATA_ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def quantity(item: ContentItem) -> Resource | None:
    """The number as a Quantity; None without a number or without a unit."""
    measured = first_item(item.attrs, "MeasuredValueSequence") or {}
    number = decimal(one(measured.get("NumericValue")) or one(measured.get("FloatingPointValue")))
    units = first_item(measured, "MeasurementUnitsCodeSequence")
    unit = coding(units, item.schemes) if units else None
    if number is None or not unit:
        return None
    json = int(number) if number == number.to_integral_value() else float(number)
    parts = {"value": json, "unit": unit.display or unit.code, "system": unit.system, "code": unit.code}
    # a code needs its system (qty-3)
    return {key: part for key, part in parts.items() if unit.system or key in ("value", "unit")}


def absent_reason(item: ContentItem) -> Concept | None:
    """Why there is no number, as a code of data-absent-reason and as stated; None if it is not stated."""
    qualifiers = items_of(item.attrs.get("NumericValueQualifierCodeSequence"))
    reason = next(filter(None, (concept(one_of_them, item.schemes) for one_of_them in qualifiers)), None)
    if reason is None:
        return None
    codes = [_ABSENT.get(own.code, "error") for own in reason.codings] or ["error"]
    return Concept((Coding(codes[0], _DATA_ABSENT_REASON), *reason.codings), reason.text)


_BOUNDS = (("low", Coding("385524004", SNOMED_CT)), ("high", Coding("371933006", SNOMED_CT)))
"""Element -> Normal Range Lower Limit and Normal Range Upper Limit (PS3.16 CID 223)."""
_IN_WORDS = (dcm("121407"), dcm("121408"))
"""Normal Range description and Normal Range Authority."""


def normal_range(item: ContentItem) -> Resource | None:
    """The normal range that a NUM states (PS3.16 TID 312); None without a limit and words."""
    found: Resource = {}
    for element, name in _BOUNDS:
        limits = (quantity(limit) for limit in item.named(name, "NUM"))
        if limit := next(filter(None, limits), None):
            found[element] = limit
    texts = (text for name in _IN_WORDS for inner in item.named(name, "TEXT") for text in inner.texts("TextValue"))
    if words := ", ".join(texts):
        found["text"] = words
    return found or None
