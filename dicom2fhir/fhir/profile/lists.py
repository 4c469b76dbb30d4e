"""What a profile allows in a list: types of referenced resources, one item for each function, a number of items."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.profile.model import ElementRule
from dicom2fhir.model import Resource


def limited(
    rule: ElementRule, profile: str, items: list[Resource], where: str, context: MappingContext
) -> list[Resource]:
    """The items that a rule allows, with a note for each kind of item that it does not."""
    kept = items
    if rule.types:
        kept = [item for item in kept if item.get("actor", item).get("type") in rule.types]
        if len(kept) < len(items):
            context.note("info", where, f"profile {profile} allows only {' or '.join(rule.types)}")
    if rule.first_by:
        before, kept = kept, list(_first_of_each(rule, kept))
        if kept != before:
            rest = (
                f"the others are written without {rule.first_by}"
                if rule.others == "unmark"
                else "only the first is kept"
            )
            context.note("warning", where, f"profile {profile} allows each {rule.first_by} once; {rest}")
    if rule.at_most is not None and len(kept) > rule.at_most:
        context.note("warning", where, f"more than profile {profile} allows; only the first is kept")
        kept = kept[: rule.at_most]
    return kept


def _first_of_each(rule: ElementRule, items: list[Resource]) -> Iterator[Resource]:
    seen = []
    for item in items:
        value = item.get(rule.first_by)
        if value not in seen:
            seen.append(value)
            yield item
        elif rule.others == "unmark":
            yield {name: inner for name, inner in item.items() if name != rule.first_by}
