"""A rule of the mapping: the attributes that it reads and the element that it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.model import Resource

Meaning = Callable[[MappingSource], object]


@dataclass(frozen=True, slots=True)
class Rule:
    """One element and its source.

    Attributes
    ----------
    concept
        Key of the dialect's ``elements``.
    attributes
        Keywords read, the preferred one first; empty if the value is counted or configured.
    how
        How the value is converted, for the documentation.
    elsewhere
        Concepts that have the same content in versions without this one.
    """

    concept: str
    attributes: tuple[str, ...]
    meaning: Meaning
    how: str
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """The result of one rule: its attributes and its element; ``value`` is None if it wrote nothing."""

    rule: Rule
    element: str | None
    """Its name in the dialect; None if that version has no such element."""
    given: tuple[str, ...]
    """The keywords among the rule's attributes that had a value."""
    value: object

    @property
    def path(self) -> str:
        """Where the element is in the dialect's ImagingStudy; for other resources, with their type."""
        if self.element is None:
            return self.rule.concept
        level, _, _ = self.rule.concept.rpartition(".")
        in_study = {"": "", "series": "series.", "instance": "series.instance."}
        return in_study.get(level, f"{level}.") + self.element


def apply(rules: Iterable[Rule], source: MappingSource, target: Resource, traces: list[Trace] | None = None) -> None:
    """Write the elements of a resource, or of a part of it; ``traces`` gets the result of each rule."""
    dialect = source.context.dialect
    for rule in rules:
        # a rule without an element must not run: it would contain resources that nothing refers to (dom-3)
        meaning = rule.meaning(source) if rule.concept in dialect.elements else None
        value = None
        if meaning or meaning == 0:
            value = dialect.put(target, rule.concept, meaning)
        if traces is not None:
            element = dialect.elements.get(rule.concept)
            everything = {**source.context.study.patient, **source.attrs}
            given = tuple(keyword for keyword in rule.attributes if everything.get(keyword))
            traces.append(Trace(rule, element.name if element else None, given, value))


def text(keyword: str) -> Meaning:
    """The meaning of an attribute whose first value is written unchanged."""
    return lambda source: source.text(keyword)
