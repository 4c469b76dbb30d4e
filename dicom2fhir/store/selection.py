"""Which studies a destination takes, by the values in their instances and by the AE titles that sent them.

The values of every instance count, not those that were chosen for the study: one research series is enough to exclude
the study from a destination that takes no research.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dicom2fhir.model import Attrs, Value, items_of, texts_of

Patterns = Mapping[str, tuple[str, ...]]
"""A key of :data:`KEYS` -> shell patterns."""

_ATTRIBUTES = {
    "modality": ("Modality",),
    "institution": ("InstitutionName", "InstitutionCodeSequence"),
    "department": ("InstitutionalDepartmentName", "InstitutionalDepartmentTypeCodeSequence"),
}
_CODES = ("CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning")
_CALLING_AE_TITLE = "calling_ae_title"
KEYS = (*_ATTRIBUTES, _CALLING_AE_TITLE)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a destination takes; empty: everything.

    Parameters
    ----------
    only
        Each key must match at least one value of the study.
    never
        No key may match any value of the study. This wins over ``only``.
    announced
        Whether it takes studies of which no instance has arrived.
    """

    only: Patterns = field(default_factory=dict)
    never: Patterns = field(default_factory=dict)
    announced: bool = True

    @property
    def chooses(self) -> bool:
        """Whether it has any condition on values."""
        return bool(self.only or self.never)

    def __str__(self) -> str:
        """The same text for equal selections; empty if it takes everything."""
        conditions: dict[str, object] = {"except": self.never, "only": self.only} if self.chooses else {}
        if not self.announced:
            conditions["registered"] = False
        return json.dumps(conditions, sort_keys=True) if conditions else ""

    def refuses(self, stated: Mapping[str, Iterable[str]]) -> str:
        """Why a study with these values is excluded; empty if it is taken. Contains none of the values."""
        for key, patterns in self.never.items():
            if pattern := _match(patterns, stated.get(key, ())):
                return f'except.{key} matches "{pattern}"'
        for key, patterns in self.only.items():
            if not _match(patterns, stated.get(key, ())):
                return f"only.{key} matches no value of the study"
        return ""


def _match(patterns: Iterable[str], values: Iterable[str]) -> str:
    """The first pattern that a value matches; case and spaces at the ends are ignored (PS3.5 section 6.2)."""
    plain = [value.strip().casefold() for value in values]
    return next((pattern for pattern in patterns if any(fnmatchcase(v, pattern.strip().casefold()) for v in plain)), "")


def stated_by(mappings: Iterable[Attrs], calling_ae_titles: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The distinct values of :data:`KEYS`: from the attributes of a study and its series, and from its senders."""
    texts: dict[str, set[str]] = {key: set() for key in _ATTRIBUTES}
    for attrs in mappings:
        for key, names in _ATTRIBUTES.items():
            texts[key].update(text for name in names for text in _texts(attrs.get(name)))
    found = {key: tuple(sorted(values)) for key, values in texts.items()}
    return {**found, _CALLING_AE_TITLE: tuple(sorted(calling_ae_titles))}


def _texts(value: Value | None) -> Iterator[str]:
    """The texts of an attribute: its values, or the codes and meanings of a code sequence."""
    yield from texts_of(value)
    for item in items_of(value):
        for name in _CODES:
            yield from _texts(item.get(name))
