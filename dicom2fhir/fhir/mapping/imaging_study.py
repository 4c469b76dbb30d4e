"""The meaning of DICOM attributes: one function for each element that needs more than a look-up.

A function takes a :class:`~dicom2fhir.fhir.mapping.context.MappingSource` and returns meaning (None or an empty list if
there is none); it notes what it drops or replaces. :mod:`dicom2fhir.fhir.mapping.rules` lists the element of each
function.
"""

from __future__ import annotations

from datetime import tzinfo
from itertools import islice

from dicom2fhir.fhir.mapping import related
from dicom2fhir.fhir.mapping.content import ContentItem, key_object_description
from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.date_times import earliest, is_before
from dicom2fhir.fhir.version import code_tables
from dicom2fhir.fhir.version.datatypes import (
    DCM,
    SNOMED_CT,
    V3_PARTICIPATION,
    Coding,
    Concept,
    coding,
    concept,
    date_time,
    date_time_of_dt,
    one,
    unsigned_int,
)
from dicom2fhir.fhir.version.dialect import codeable_concept, words_of
from dicom2fhir.model import Attrs, Code, Instance, Resource, Series, items_of, texts_of

# Study --------------------------------------------------------------------------------------------------------------


def procedures(source: MappingSource) -> list[Concept]:
    """The codes of (0008,1032) Procedure Code Sequence."""
    found = source.concepts("ProcedureCodeSequence")
    if source.context.dialect.elements["procedure"].shape == "Reference by display" and any(c.codings for c in found):
        source.context.lacks("ImagingStudy.procedure", "codes for procedures: only their text is written")
    return found


_AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
"""(0008,0056) Instance Availability, the best first (PS3.3 C.4.23)."""
UNAVAILABLE = _AVAILABILITIES[-1]


def _availability_of(instance: Instance) -> str:
    """Instance Availability as archives state it, the best of several archives; else as the instance has it."""
    if not instance.stated:
        return one(instance.attrs.get("InstanceAvailability")).upper()
    stated = {one(each.attrs.get("InstanceAvailability")) for each in instance.stated}
    return next((word for word in _AVAILABILITIES if word in stated), "")


def stated_availability(source: MappingSource) -> str | None:
    """The worst Instance Availability among the instances that have one; of a study that is rejected, UNAVAILABLE."""
    if source.context.study.rejected_for:
        return UNAVAILABLE
    node = source.node
    series = (node,) if isinstance(node, Series) else source.context.study.series
    stated = {_availability_of(instance) for s in series for instance in s.instances}
    return next((word for word in reversed(_AVAILABILITIES) if word in stated), None)


def availability(source: MappingSource) -> str | None:
    """The availability that the instances state, else the configured one."""
    return stated_availability(source) or source.context.options.availability


def status(source: MappingSource) -> str:
    """``available``, because an instance was received, unless all instances are stated to be unavailable.

    Before the first instance, the status of the procedure steps decides; without any left, the rejection note.
    """
    study = source.context.study
    if study.rejected_for:
        return source.context.dialect.rejected[study.rejected_for]
    if study.is_announced:
        return "cancelled" if all(step.status == "DISCONTINUED" for step in study.steps) else "registered"
    instances = [instance for series in study.series for instance in series.instances]
    gone = all(_availability_of(instance) == UNAVAILABLE for instance in instances)
    return source.context.dialect.unavailable if gone and instances else "available"


_REJECTION_TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""PS3.16 CID 7031."""


def rejection_reason(source: MappingSource) -> Concept | None:
    """The title of the rejection note that rejects the whole study, with its modifiers also as text."""
    rejection = source.context.study.rejection
    if not rejection or not rejection.code:
        return None
    title = Coding(rejection.code, DCM, _REJECTION_TITLES[rejection.code])
    modifiers = [each for code in rejection.modifiers if (each := _concept_of(code, source))]
    words = ", ".join(map(words_of, modifiers))
    codings = (each for modifier in modifiers for each in modifier.codings)
    return Concept((title, *codings), f"{title.display}: {words}" if words else "")


def _concept_of(code: Code, source: MappingSource) -> Concept | None:
    item = {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme, "CodeMeaning": code.meaning}
    return concept(item, source.context.schemes)


def modalities(source: MappingSource) -> list[Concept]:
    """The distinct modalities of the series.

    Up to R4B the element holds "all series modality if actual acquisition modalities"; from R5 on it holds all of them,
    and R6 requires that both sets are equal (ist-7).
    """
    found = dict.fromkeys(modality_of(series.attrs) for series in source.context.study.series)
    if not source.context.dialect.acquisition_only:
        return list(found)
    acquired = [modality for modality in found if _is_acquisition(modality)]
    if found and not acquired:
        source.context.note("info", "ImagingStudy.modality", "left out: no series has an acquisition modality (CID 29)")
    return acquired


def _is_acquisition(modality: Concept) -> bool:
    return any(coding.code in code_tables.acquisition_modalities() for coding in modality.codings)


def study_started(source: MappingSource) -> str | None:
    """The start of the study; without a Study Date, the start of its first series."""
    started = source.moment("StudyDate", "StudyTime")
    if started:
        return started
    return earliest(series_moment(source, series) for series in source.context.study.series)


def referrer(source: MappingSource) -> Resource | None:
    """The referring physician (VM 1)."""
    people = related.practitioners(source, "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence")
    return next(people, None)


def interpreters(source: MappingSource) -> list[Resource]:
    """The physicians reading the study; only the first in a version with an element for one."""
    people = related.practitioners(
        source, "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence"
    )
    if source.context.dialect.holds_several("interpreter"):
        return list(people)
    if len(source.texts("NameOfPhysiciansReadingStudy")) > 1:
        source.context.lacks("ImagingStudy.interpreter", "room for more than one interpreter")
    return list(islice(people, 1))


def reasons(source: MappingSource) -> list[Concept]:
    """Reasons of each request and of the study itself: a code with its text, or only the text. In a version with an
    element for one reason, it has the first code and all texts."""
    found: dict[Concept, None] = {}
    requests = [source.attrs, *source.items("RequestAttributesSequence")]
    for attrs in requests:
        inner = MappingSource(source.context, source.node, attrs)
        codes = inner.concepts("ReasonForRequestedProcedureCodeSequence")
        words = inner.text("ReasonForTheRequestedProcedure")
        if words:
            codes = [Concept(codes[0].codings, words), *codes[1:]] if codes else [Concept(text=words)]
        found |= dict.fromkeys(codes)
    found |= dict.fromkeys(source.concepts("ReasonForPerformedProcedureCodeSequence"))
    if len(found) < 2 or source.context.dialect.holds_several("reason"):
        return list(found)
    return [_one_reason(source, list(found))]


def _one_reason(source: MappingSource, several_reasons: list[Concept]) -> Concept:
    coded = [reason for reason in several_reasons if reason.codings]
    if len(coded) > 1:
        source.context.lacks(
            "ImagingStudy.reason", "room for more than one reason: the codes after the first are left out"
        )
    words = (words_of(reason) if len(coded) > 1 else reason.text for reason in several_reasons)
    return Concept(coded[0].codings if coded else (), "; ".join(dict.fromkeys(filter(None, words))))


# Series -------------------------------------------------------------------------------------------------------------

_OTHER = "OT"


def modality_of(attrs: Attrs) -> Concept:
    """(0008,0060) Modality; the first of several, or OT (PS3.3 C.7.3.1.1.1) if there is none.

    A term that is not in the standard becomes text, not a code: a server that validates would refuse the whole study.
    """
    term = " ".join(one(attrs.get("Modality")).upper().split()) or _OTHER
    return Concept((Coding(term, DCM),)) if term in code_tables.modalities() else Concept(text=term)


def series_modality(source: MappingSource) -> Concept:
    """The modality, with a note if there are several or none, or if it is not a code."""
    found = modality_of(source.attrs)
    if not source.text("Modality"):
        source.note("Modality", "is missing; OT is used")
    if not found.codings:
        source.note("Modality", "is not a code of PS3.16 CID 33; written as text without a code")
    return found


def number(source: MappingSource, keyword: str) -> int | None:
    """An IS as ``unsignedInt``; other values (such as negative numbers) are left out with a note."""
    text = source.text(keyword)
    value = unsigned_int(text) if text else None
    if text and value is None:
        source.note(keyword, "is not a valid unsignedInt; left out")
    return value


def body_site(source: MappingSource) -> Concept | None:
    """The imaged part of the body: the coded region is preferred to the Defined Term."""
    for region in source.items("AnatomicRegionSequence"):
        found = concept(region, source.context.schemes)
        if found:
            return found
    part = source.text("BodyPartExamined")
    if not part:
        return None
    known = code_tables.body_parts().get("".join(part.upper().split()))
    if known:
        return Concept((Coding(known[0], SNOMED_CT, known[1]),))
    source.context.note("info", "BodyPartExamined", "is not a Defined Term of PS3.16 Annex L; written without a code")
    return Concept(text=part)


_UNPAIRED = "U"
"""An unpaired body part (PS3.3 C.8.11.2, C.7.6.16.2.8): it has no side, so there is no code. SNOMED CT's "unilateral"
means one side of a pair."""


_SIDES = {"24028007": "R", "7771000": "L", "51440002": "B"}
"""SNOMED CT's code of an anatomic modifier (PS3.16 CID 2) -> Laterality."""


def _side(source: MappingSource, image: Attrs) -> str:
    """The side that an image shows: its Laterality, else the modifiers of its regions if they mean one side."""
    modifiers = (
        coding(modifier, source.context.schemes)
        for region in items_of(image.get("AnatomicRegionSequence"))
        for modifier in items_of(region.get("AnatomicRegionModifierSequence"))
    )
    sides = {_SIDES[code.code] for code in modifiers if code and code.system == SNOMED_CT and code.code in _SIDES}
    return one(image.get("ImageLaterality")) or (sides.pop() if len(sides) == 1 else "")


def laterality(source: MappingSource) -> Concept | None:
    """The side, if the series states one or all its images state the same."""
    value = source.text("Laterality")
    if not value and isinstance(source.node, Series):
        of_images = {_side(source, instance.attrs) for instance in source.node.instances}
        if len(of_images) == 1:
            value = of_images.pop()
    if not value:
        return None
    code = source.context.dialect.lateralities.get(value.upper())
    if code is None and value.upper() != _UNPAIRED:
        source.note("Laterality", "is not L, R or B; left out")
    return Concept((code,)) if code else None


def series_started(source: MappingSource) -> str | None:
    """The start of a series; None if it is before the start of the study: R6 forbids that (FHIR-53726), and archives
    find a study by the study's date."""
    started = series_moment(source, source.node) if isinstance(source.node, Series) else None
    study = source.context.study
    of_study = MappingSource(source.context, study, study.attrs).moment("StudyDate", "StudyTime")
    if started and of_study and is_before(started, of_study):
        source.note("SeriesDate", "is before the start of the study; left out")
        return None
    return started


def series_moment(source: MappingSource, series: Series) -> str | None:
    """The start of a series: its own date, else its first acquisition, content or procedure step."""
    inner = MappingSource(source.context, series, series.attrs)
    started = inner.moment("SeriesDate", "SeriesTime")
    if started:
        return started
    for kind in ("Acquisition", "Content"):
        first = earliest(_instance_moment(instance, kind, inner.zone) for instance in series.instances)
        if first:
            return first
    return inner.moment("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime")


def _instance_moment(instance: Instance, kind: str, zone: tzinfo | None) -> str | None:
    attrs = instance.attrs
    found = date_time_of_dt(one(attrs.get(f"{kind}DateTime")), zone)
    return found or date_time(one(attrs.get(f"{kind}Date")), one(attrs.get(f"{kind}Time")), zone)


_FUNCTIONS = {
    "PRF": "performer",
    "SPRF": "secondary performer",
    "DEV": "device",
    "LOC": "location",
}


def performers(source: MappingSource) -> list[Resource]:
    """The people, organization and device that performed the series, each with a function."""
    actors: list[tuple[str, Resource | None]] = [
        *(
            ("PRF", person)
            for person in related.practitioners(
                source, "PerformingPhysicianName", "PerformingPhysicianIdentificationSequence"
            )
        ),
        *(
            ("SPRF", person)
            for person in related.practitioners(source, "OperatorsName", "OperatorIdentificationSequence")
        ),
    ]
    # a resource that the element cannot refer to must not be contained: nothing would refer to it (dom-3)
    element = source.context.dialect.elements.get("series.performer")
    for function, type_, make in (("DEV", "Device", related.equipment), ("LOC", "Organization", related.institution)):
        if element is None or not element.types or type_ in element.types:
            actors.append((function, make(source)))
        elif make(source.aside()):
            source.context.lacks("ImagingStudy.series.performer", f"performer of type {type_}")
    return with_functions(actors)


def with_functions(actors: list[tuple[str, Resource | None]]) -> list[Resource]:
    """Performers, each with its function, without those that are None."""
    return [
        {
            "function": codeable_concept(Concept((Coding(function, V3_PARTICIPATION, _FUNCTIONS[function]),))),
            "actor": actor,
        }
        for function, actor in actors
        if actor
    ]


# Instance -----------------------------------------------------------------------------------------------------------


def record_type(source: MappingSource) -> str | None:
    """The type of the instance's directory record in a DICOMDIR (PS3.3 F.3.2.2).

    None for a SOP class without a directory record, such as a private one: PRIVATE is the type of a private record and
    does not describe the instance.
    """
    return code_tables.record_types().get(source.text("SOPClassUID"))


def content(source: MappingSource) -> list[Resource]:
    """The instance as an Attachment with its WADO-RS URL."""
    base = source.context.options.dicomweb_url
    if not base or not source.series_uid:
        return []
    place = f"{base}/studies/{source.context.study.uid}/series/{source.series_uid}/instances/{source.node.uid}"
    return [{"contentType": "application/dicom", "url": place}]


def title(source: MappingSource) -> str | None:
    """The description of the instance."""
    attrs = source.attrs
    if label := one(attrs.get("ContentLabel")):
        return label
    if description := key_object_description(ContentItem(attrs, source.context.schemes)):
        return description
    if item := source.item("ConceptNameCodeSequence"):
        meaning = one(item.get("CodeMeaning"))
        if meaning:
            return meaning
    if title := one(attrs.get("DocumentTitle")):
        return title
    return "\\".join(texts_of(attrs.get("ImageType"))) or None
