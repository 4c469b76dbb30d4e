"""What a study says and its FHIR version has no element for: noted once for each element, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.fhir.mapping.context import Context, Scope
from dicom2fhir.fhir.mapping.rules import RULES, Level, Rule
from dicom2fhir.model import Attrs, Instance, Series, Study


def note_losses(context: Context) -> None:
    """Note each element that the study would have in another version, and in this one nowhere."""
    elements = context.dialect.elements
    for level, rules in RULES.items():
        for rule in rules:
            if elements.keys().isdisjoint((rule.concept, *rule.elsewhere)) and _is_said(rule, level, context):
                path = f"series.{rule.concept}" if level == "instance" else rule.concept
                context.lacks(f"ImagingStudy.{path}", f"element for {path}")


def _is_said(rule: Rule, level: Level, context: Context) -> bool:
    """Whether the rule would write anything. It is tried aside, so that nothing is contained that nobody refers to."""
    return any(
        rule.meaning(Scope(context, node, attrs, series_uid).aside())
        for node, attrs, series_uid in _nodes(context.study, level)
        if not attrs.keys().isdisjoint(rule.attributes)
    )


def _nodes(study: Study, level: Level) -> Iterator[tuple[Study | Series | Instance, Attrs, str]]:
    if level == "study":
        yield study, study.attrs, ""
    for series in study.series:
        if level == "series":
            yield series, series.attrs, ""
        elif level == "instance":
            yield from ((instance, instance.attrs, series.uid) for instance in series.instances)
