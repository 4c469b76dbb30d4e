"""Notes about content of a study for which its FHIR version has no element."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.rule import Rule
from dicom2fhir.fhir.mapping.rules import RULES
from dicom2fhir.model import Instance, Series, Study


def note_losses(context: MappingContext) -> None:
    """Note each element that the study would have in another version and does not have in this one."""
    elements = context.dialect.elements
    for path, nodes in _NODES.items():
        for rule in RULES[path]:
            if elements.keys().isdisjoint((rule.concept, *rule.elsewhere)) and _is_said(rule, nodes, context):
                element = f"{path}.{rule.concept.rpartition('.')[2]}"
                context.lacks(element, f"element for {element.removeprefix('ImagingStudy.')}")


def _is_said(rule: Rule, nodes: Callable[[Study], Iterator[_Node]], context: MappingContext) -> bool:
    """Whether the rule would write anything. Resources that it contains are not kept: nothing would refer to them."""
    return any(
        rule.meaning(MappingSource(context, node, node.attrs, series_uid).aside())
        for node, series_uid in nodes(context.study)
        if not node.attrs.keys().isdisjoint(rule.attributes)
    )


_Node = tuple[Study | Series | Instance, str]
"""A node, and the Series Instance UID if it is an instance."""


def _study(study: Study) -> Iterator[_Node]:
    yield study, ""


def _series(study: Study) -> Iterator[_Node]:
    yield from ((series, "") for series in study.series)


def _instances(study: Study) -> Iterator[_Node]:
    yield from ((instance, series.uid) for series in study.series for instance in series.instances)


_NODES: Mapping[str, Callable[[Study], Iterator[_Node]]] = MappingProxyType(
    {"ImagingStudy": _study, "ImagingStudy.series": _series, "ImagingStudy.series.instance": _instances}
)
