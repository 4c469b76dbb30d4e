"""The meaning of key object selections (PS3.3 A.35.4, PS3.16 TID 2010): who selected what, when, and for which purpose.

The functions are like those of :mod:`dicom2fhir.fhir.mapping.imaging_study`, and
:mod:`dicom2fhir.fhir.mapping.key_object_rules` lists the element of each.
:func:`key_objects_of` reads the documents of a study.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from dicom2fhir.document_references import EVIDENCE, Referenced, referenced_by
from dicom2fhir.fhir.mapping import imaging_study, related
from dicom2fhir.fhir.mapping.content import ID, ContentItem, dcm, key_object_description, referenced
from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.selection import KeyObjects, SelectedInstance, SelectedSeries, SelectedStudy
from dicom2fhir.fhir.mapping.sr_documents import observing_device
from dicom2fhir.fhir.mapping.study_reference import study_reference
from dicom2fhir.fhir.version.datatypes import DCM, Concept
from dicom2fhir.fhir.version.dialect import words_of
from dicom2fhir.model import Instance, Resource, Series
from dicom2fhir.sop_classes import KEY_OBJECT_SELECTION

_LISTS_OF_EVERYTHING = frozenset({"113030", "113031", "113032", "113033", "113034", "113035"})
"""Titles of manifests and of complete contents of a study or an acquisition (PS3.16 CID 7010): they select nothing, and
the ImagingStudy is the list."""
_TITLE_MODIFIER = dcm("113011")
_PERSON_NAME = dcm("121008")
_UNTITLED = Concept(text="Key Object Selection")

# The documents of a study -------------------------------------------------------------------------------------------


def key_objects_of(context: MappingContext) -> Iterator[KeyObjects]:
    """The documents of a study that select something; rejection notes do not."""
    rejection = context.study.rejection
    notes = rejection.notes if rejection else ()
    for series in context.study.series:
        for instance in series.instances:
            is_selection = instance.attrs.get("SOPClassUID") == KEY_OBJECT_SELECTION and instance.uid not in notes
            if is_selection and not _lists_everything(instance, context):
                found = _selected(instance, context)
                if found:
                    yield KeyObjects(instance.uid, {**series.attrs, **instance.attrs}, found)
                else:
                    context.note(
                        "info",
                        "ContentSequence",
                        "refers to no instance, or only to rejected ones: not written",
                    )


def _lists_everything(instance: Instance, context: MappingContext) -> bool:
    codings = title(MappingSource(context, instance, instance.attrs)).codings
    return any(code.system == DCM and code.code in _LISTS_OF_EVERYTHING for code in codings)


def _selected(document: Instance, context: MappingContext) -> tuple[SelectedStudy, ...]:
    """The selected instances by study and series, in the order of the evidence sequences."""
    named = list(referenced_by(document.attrs, EVIDENCE))
    in_content = list(referenced(ContentItem(document.attrs, context.schemes)))
    known = {reference.uid for reference in named}
    named += _in_this_study((one for one in in_content if one.uid not in known), context)
    usable = [one for one in named if all(map(ID.fullmatch, (one.uid, one.sop_class, one.study_uid, one.series_uid)))]
    if len(usable) < len(named) or not {one.uid for one in in_content} <= {one.uid for one in named}:
        context.note("warning", "ContentSequence", "refers to instances without class, series or study; left out")
    usable = [one for one in usable if not context.study.is_rejected(one.study_uid, one.uid)]
    by_series: dict[str, dict[str, dict[str, Referenced]]] = {}
    for one in usable:
        by_series.setdefault(one.study_uid, {}).setdefault(one.series_uid, {}).setdefault(one.uid, one)
    frames = _frames(in_content)
    held = {(context.study.uid, series.uid): series for series in context.study.series}
    return tuple(
        SelectedStudy(
            study_uid,
            tuple(
                _series(document.uid, instances.values(), frames, held.get((study_uid, uid)))
                for uid, instances in series.items()
            ),
        )
        for study_uid, series in by_series.items()
    )


def _in_this_study(unknown: Iterable[Referenced], context: MappingContext) -> Iterator[Referenced]:
    """Instances that only content items name, with the series that has them in the document's own study."""
    series_of = {instance.uid: series.uid for series in context.study.series for instance in series.instances}
    for one in unknown:
        if one.uid in series_of:
            yield replace(one, study_uid=context.study.uid, series_uid=series_of[one.uid])


def _frames(in_content: list[Referenced]) -> dict[str, tuple[int, ...]]:
    """SOP Instance UID -> the frames that the content items name; empty if one of them names all of it."""
    ordered = sorted(in_content, key=lambda one: one.uid)
    found: dict[str, tuple[int, ...]] = {}
    for uid, group in groupby(ordered, key=lambda one: one.uid):
        named = [one.frames for one in group]
        found[uid] = tuple(sorted({number for frames in named for number in frames})) if all(named) else ()
    return found


def _series(
    document: str, instances: Collection[Referenced], frames: Mapping[str, tuple[int, ...]], held: Series | None
) -> SelectedSeries:
    first = next(iter(instances))
    by_uid = {instance.uid: instance for instance in held.instances} if held else {}
    selected = (
        SelectedInstance(
            one.uid, one.sop_class, one.study_uid, one.series_uid, frames.get(one.uid, ()), by_uid.get(one.uid)
        )
        for one in instances
    )
    return SelectedSeries(first.series_uid, first.study_uid, document, tuple(selected), held)


# Elements -----------------------------------------------------------------------------------------------------------


def title(source: MappingSource) -> Concept:
    """The document title; a text if there is none."""
    return next(iter(source.concepts("ConceptNameCodeSequence")), _UNTITLED)


def purpose(source: MappingSource) -> Concept:
    """The document title with the description as its text."""
    return replace(title(source), text=description(source) or title(source).text)


def modifiers(source: MappingSource) -> list[Concept]:
    """The modifiers of the title, such as the reason for a rejection."""
    found = (item.code for item in _root(source).named(_TITLE_MODIFIER, "CODE"))
    return [code for code in found if code]


def description(source: MappingSource) -> str | None:
    """The Key Object Description."""
    return key_object_description(_root(source)) or None


def title_and_description(source: MappingSource) -> str:
    """The document title, its modifiers and the description, for versions with one text for all."""
    words = ", ".join(map(words_of, (title(source), *modifiers(source))))
    said = description(source)
    return f"{words}: {said}" if said else words


def performers(source: MappingSource) -> list[Resource]:
    """The observers, the equipment that made the document, and its institution."""
    actors: list[tuple[str, Resource | None]] = [("PRF", person) for person in _observers(source)]
    actors += [("DEV", observing_device(source)), ("DEV", related.equipment(source))]
    return imaging_study.with_functions([*actors, ("LOC", related.institution(source))])


def author(source: MappingSource) -> Resource | None:
    """The first observer: a person, else a device."""
    return next(_observers(source), None) or observing_device(source)


def _observers(source: MappingSource) -> Iterator[Resource]:
    """The Practitioners of the persons that observed (PS3.16 TID 1003)."""
    names = [name for item in _root(source).named(_PERSON_NAME, "PNAME") for name in item.texts("PersonName")]
    return related.practitioners(replace(source, attrs={"PersonName": names}), "PersonName", "")


def series_of(source: MappingSource) -> SelectedSeries:
    """The selected series of a rule that is applied to one."""
    if not isinstance(source.node, SelectedSeries):
        raise TypeError(source.node)
    return source.node


def instance_of(source: MappingSource) -> SelectedInstance:
    """The selected instance of a rule that is applied to one."""
    if not isinstance(source.node, SelectedInstance):
        raise TypeError(source.node)
    return source.node


def held_series(source: MappingSource) -> MappingSource | None:
    """The selected series with the attributes that it has in the study; None if it is not in it."""
    held = series_of(source).held
    return replace(source, node=held, attrs=held.attrs) if isinstance(held, Series) else None


def from_study(source: MappingSource) -> list[Resource]:
    """The ImagingStudy that the selected series belongs to."""
    found = study_reference(source.context, series_of(source).study_uid)
    return [found] if found else []


def _root(source: MappingSource) -> ContentItem:
    return ContentItem(source.attrs, source.context.schemes)
