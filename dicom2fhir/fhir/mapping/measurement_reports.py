"""The meaning of measurement reports (PS3.16 TID 1500): which observations they hold, and of what.

Observations are read from three containers: the groups of Imaging Measurements (TID 1410, 1411 and 1501), Derived
Imaging Measurements (TID 1420) and Qualitative Evaluations. :mod:`dicom2fhir.fhir.mapping.measured` says what each
element of an Observation is, and :mod:`dicom2fhir.fhir.mapping.measurement_rules` lists them.

Ids are made from the UID of the document, and in it from the Observation UID, else the Tracking Unique Identifier of
the group and the concept name; only what has the same of all these is told apart by its order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dicom2fhir.fhir.mapping.content import ID, ContentItem, code_parts, dcm, replaced_by_others
from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.mapping.document_nodes import Measured, Site, Stated
from dicom2fhir.fhir.mapping.measured_images import Places, held_instances, images_of
from dicom2fhir.fhir.mapping.measured_values import absent_reason, normal_range, quantity
from dicom2fhir.fhir.mapping.selection import MeasuredImages
from dicom2fhir.fhir.mapping.sr_documents import observing_equipment
from dicom2fhir.fhir.version.datatypes import DCM, SNOMED_CT, Coding, Concept, deterministic_id, one
from dicom2fhir.fhir.version.dialect import words_of
from dicom2fhir.model import Attrs, items_of
from dicom2fhir.sop_classes import COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR, ENHANCED_SR

CLASSES = frozenset({ENHANCED_SR, COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR})
TEMPLATE = "1500"
TITLES = tuple(dcm(code) for code in ("126000", "126001", "126002", "126003"))
"""Document titles of PS3.16 CID 7021."""
MOST = 500
"""Resources for one report."""

GROUP = Concept((Coding("125007", DCM, "Measurement Group"),))
_UMLS = "http://terminology.hl7.org/CodeSystem/umls"
_EVALUATIONS = Concept((Coding("C0034375", _UMLS, "Qualitative Evaluations"),))
_DERIVED = Concept((Coding("126011", DCM, "Derived Imaging Measurements"),))
_MEASUREMENTS = dcm("126010")
_FINDING, _FINDING_CATEGORY = dcm("121071"), Coding("276214006", SNOMED_CT)
_DERIVATION, _COMMENT = dcm("121401"), dcm("121106")
_TRACKING_IDENTIFIER, _TRACKING_UID = dcm("112039"), dcm("112040")
_PERSON_NAME, _NORMALITY = dcm("121008"), dcm("121402")
_SITE, _METHOD = Coding("363698007", SNOMED_CT), Coding("370129005", SNOMED_CT)
_LATERALITY, _TOPOGRAPHICAL = Coding("272741003", SNOMED_CT), Coding("106233006", SNOMED_CT)
_ALGORITHM_NAME = "StationName"
_ALGORITHM = (
    (dcm("111001"), _ALGORITHM_NAME),
    (dcm("111003"), "SoftwareVersions"),
    (dcm("122405"), "Manufacturer"),
)
"""Name, version and manufacturer of an algorithm (PS3.16 TID 4019) -> the equipment's attribute of the same meaning."""
_CONTEXT = ("HAS CONCEPT MOD", "HAS OBS CONTEXT", "HAS ACQ CONTEXT")
"""Relationships of items that say something of the item that they are in."""


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """What a report holds; groups come after the observations in them."""

    attrs: Attrs
    images: tuple[MeasuredImages, ...] = ()
    observations: tuple[Measured, ...] = ()


def measurement_reports_of(context: MappingContext) -> Iterator[MeasurementReport]:
    """The measurement reports of a study that hold something and that no other one of the study replaces."""
    found = [
        (series, instance)
        for series in context.study.series
        for instance in series.instances
        if one(instance.attrs.get("SOPClassUID")) in CLASSES and _is_measurement_report(instance.attrs, context)
    ]
    replaced = replaced_by_others(instance for _, instance in found)
    held = held_instances(context) if found else {}
    for series, instance in found:
        if instance.uid in replaced:
            context.note("info", "PredecessorDocumentsSequence", "names a report, which is no longer written")
            continue
        attrs = {**series.attrs, **instance.attrs}
        report = _Reader(attrs, Places.of(instance, held, context)).read(ContentItem(attrs, context.schemes))
        if report.observations:
            yield report
        else:
            context.note("info", "ContentSequence", "has no measurements: no observation is written")


def _is_measurement_report(attrs: Attrs, context: MappingContext) -> bool:
    templates = items_of(attrs.get("ContentTemplateSequence"))
    by_template = any(
        (one(item.get("MappingResource")), one(item.get("TemplateIdentifier"))) == ("DCMR", TEMPLATE)
        for item in templates
    )
    root = ContentItem(attrs, context.schemes)
    return by_template or any(map(root.is_named, TITLES))


@dataclass(slots=True)
class _Reader:
    """Reads one report."""

    attrs: Attrs
    places: Places
    _seen: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def read(self, root: ContentItem) -> MeasurementReport:
        """All parts of the report, up to :data:`MOST` resources."""
        images: list[MeasuredImages] = []
        observations: list[Measured] = []
        for part in self._parts(root):
            if len(images) + len(observations) + len(part.images) + len(part.observations) > MOST:
                text = f"has measurements for more than {MOST} resources; the rest is left out"
                self.places.context.note("warning", "ContentSequence", text)
                break
            images += part.images
            observations += part.observations
        return MeasurementReport(self.attrs, tuple(images), tuple(observations))

    def _parts(self, root: ContentItem) -> Iterator[MeasurementReport]:
        """What each group holds, then each other container."""
        of_root = _stated_by(root)
        for container in root.named(_MEASUREMENTS, "CONTAINER"):
            stated = (_stated_by(container), of_root)
            for group in container.named(GROUP.codings[0], "CONTAINER"):
                yield self._group(group, (_stated_by(group), *stated))
        for category in (_DERIVED, _EVALUATIONS):
            for container in root.named(category.codings[0], "CONTAINER"):
                identity = self._identity(self.places.document, category.codings[0].code)
                yield self._members(container, (_stated_by(container), of_root), identity, category, ())

    def _group(self, group: ContentItem, stated: tuple[Stated, ...]) -> MeasurementReport:
        """A group, after what is in it."""
        own = stated[0]
        tracking = own.tracking_uid or own.tracking_text
        identity = self._identity(self.places.document, own.uid or tracking, "" if own.uid else "group")
        images = tuple(images_of(group, identity, self.places))
        ids = tuple(map(image_id, images))
        members = self._members(group, stated, identity, None, ids)
        finding = next(group.coded(_FINDING), None)
        if not members.observations and not finding:
            return MeasurementReport(self.attrs)
        whole = Measured(
            self.places.document,
            self.attrs,
            identity,
            next(group.coded(_FINDING_CATEGORY), GROUP),
            stated,
            GROUP,
            code=finding,
            members=tuple(map(observation_id, members.observations)),
            images=ids,
        )
        return MeasurementReport(self.attrs, (*images, *members.images), (*members.observations, whole))

    def _members(
        self,
        container: ContentItem,
        stated: tuple[Stated, ...],
        identity: tuple[str, ...],
        category: Concept | None,
        images_of_group: tuple[str, ...],
    ) -> MeasurementReport:
        """The measurements and evaluations in a group, or in another container."""
        images: list[MeasuredImages] = []
        observations: list[Measured] = []
        for item in container.items:
            if (name := item.name) is None or not (value := self._value(item, name)):
                continue
            own = _stated_by(item)
            parts = (self.places.document, own.uid) if own.uid else (*identity, *code_parts(name))
            made = replace(value, identity=self._identity(*parts), stated=(own, *stated))
            own_images = list(images_of(item, made.identity, self.places))
            ids = tuple(map(image_id, own_images)) or images_of_group
            observations.append(replace(made, category=category or value.category, images=ids))
            images += own_images
        return MeasurementReport(self.attrs, tuple(images), tuple(observations))

    def _value(self, item: ContentItem, name: Concept) -> Measured | None:
        """The observation of a content item with its value; None if it is none."""
        value_type = one(item.attrs.get("ValueType"))
        made = Measured(self.places.document, self.attrs, (), name, ())
        if value_type == "NUM":
            named = replace(made, name=_with_derivation(name, item), normal_range=normal_range(item))
            if number := quantity(item):
                return replace(named, quantity=number)
            if reason := absent_reason(item):
                return replace(named, absent=reason)
            text = "a measurement has no number with a unit; left out"
            self.places.context.note("warning", "MeasuredValueSequence", text)
        elif value_type in ("CODE", "TEXT") and _is_evaluation(item):
            text = "\n".join(item.texts("TextValue"))
            if code := item.code or (Concept(text=text) if text else None):
                return replace(made, code=code, category=_EVALUATIONS)
        return None

    def _identity(self, *parts: str) -> tuple[str, ...]:
        """The parts of an id; with a number if the report has the same before."""
        self._seen[parts] += 1
        return parts if self._seen[parts] == 1 else (*parts, str(self._seen[parts]))


def _is_evaluation(item: ContentItem) -> bool:
    is_context = one(item.attrs.get("RelationshipType")) in _CONTEXT
    return not is_context and not any(map(item.is_named, (_FINDING, _FINDING_CATEGORY, _COMMENT)))


def _with_derivation(name: Concept, item: ContentItem) -> Concept:
    """The name of a measurement; if it is a mean, a maximum or the like, with that in its text."""
    derived = [words_of(code) for code in item.coded(_DERIVATION)]
    return replace(name, text=", ".join((words_of(name), *derived))) if derived else name


def _stated_by(item: ContentItem) -> Stated:
    """What a content item states; asked once for each, because a group may have hundreds of items."""
    sites = (
        Site(structure, tuple(site.coded(_LATERALITY)), tuple(site.coded(_TOPOGRAPHICAL)))
        for site in item.named(_SITE, "CODE")
        if (structure := site.code)
    )
    algorithm = {keyword: text for code, keyword in _ALGORITHM if (text := _text(item, code, "TEXT", "TextValue"))}
    uids = (_text(item, _TRACKING_UID, "UIDREF", "UID"), next(iter(item.texts("ObservationUID")), ""))
    tracking_uid, uid = (found if ID.fullmatch(found) else "" for found in uids)
    return Stated(
        uid,
        next(iter(item.texts("ObservationDateTime")), ""),
        tracking_uid,
        _text(item, _TRACKING_IDENTIFIER, "TEXT", "TextValue"),
        next(sites, None),
        next(item.coded(_METHOD), None),
        algorithm if _ALGORITHM_NAME in algorithm else {},
        observing_equipment(item),
        tuple(name for person in item.named(_PERSON_NAME, "PNAME") for name in person.texts("PersonName")),
        tuple(item.coded(_NORMALITY)),
    )


def _text(item: ContentItem, name: Coding, value_type: str, keyword: str) -> str:
    """The first value of the content items in this one with a concept name."""
    return next((text for inner in item.named(name, value_type) for text in inner.texts(keyword)), "")


def observation_id(observation: Measured) -> str:
    """The id of the Observation."""
    return deterministic_id("Observation", *observation.identity)


def image_id(images: MeasuredImages) -> str:
    """The id of the ImagingSelection."""
    return deterministic_id("ImagingSelection", *images.identity)
