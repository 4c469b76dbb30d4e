"""What measurements were made from: images, segments, and regions of images or in space (PS3.16 TID 320, 1410, 1411).

Each becomes an ImagingSelection for a purpose and a series, or for a purpose and a frame of reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dicom2fhir.document_references import EVIDENCE, Referenced, referenced_by
from dicom2fhir.fhir.mapping.content import ID, ContentItem, code_parts
from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.mapping.selection import MeasuredImages, Region, SelectedInstance
from dicom2fhir.fhir.version.datatypes import DCM, Coding, Concept, decimal, one, unsigned_int
from dicom2fhir.model import Attrs, Instance, Series, items_of, texts_of
from dicom2fhir.sop_classes import SEGMENTATION

_IMAGE_REGION = Concept((Coding("111030", DCM, "Image Region"),))
_SOURCE = Concept((Coding("121112", DCM, "Source of Measurement"),))
_PLANE: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "POINT": ("point", 2),
        "MULTIPOINT": ("point", 2),
        "POLYLINE": ("polyline", 0),
        "CIRCLE": ("circle", 4),
        "ELLIPSE": ("ellipse", 8),
    }
)
"""Graphic Type of SCOORD -> code of FHIR and number of coordinates, 0 for any. FHIR has no code for MULTIPOINT: each is
a point."""
_SPACE: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "POINT": ("point", 3),
        "MULTIPOINT": ("multipoint", 0),
        "POLYLINE": ("polyline", 0),
        "POLYGON": ("polygon", 0),
        "ELLIPSE": ("ellipse", 12),
        "ELLIPSOID": ("ellipsoid", 18),
    }
)
"""The same of SCOORD3D."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the instances are that a document names.

    Attributes
    ----------
    document
        SOP Instance UID of the document.
    named
        SOP Instance UID -> the reference in its evidence sequences.
    held
        SOP Instance UID -> series and instance in the study of the document, without rejected ones.
    """

    context: MappingContext
    document: str
    named: Mapping[str, Referenced]
    held: Mapping[str, tuple[Series, Instance]]

    @classmethod
    def of(cls, document: Instance, held: Mapping[str, tuple[Series, Instance]], context: MappingContext) -> Places:
        """Those of a document; ``held`` is the same for all documents of a study."""
        return cls(context, document.uid, {one.uid: one for one in referenced_by(document.attrs, EVIDENCE)}, held)

    def locate(self, reference: Referenced) -> Referenced | None:
        """The reference with its study and series; None if they are not known, or the instance was rejected."""
        study = self.context.study
        named, held = self.named.get(reference.uid), self.held.get(reference.uid)
        if held:
            found = replace(reference, study_uid=study.uid, series_uid=held[0].uid)
        elif named and not study.is_rejected(named.study_uid, named.uid):
            found = replace(reference, study_uid=named.study_uid, series_uid=named.series_uid)
        else:
            return None
        uids = (found.uid, found.sop_class, found.study_uid, found.series_uid)
        return found if all(map(ID.fullmatch, uids)) else None


def held_instances(context: MappingContext) -> dict[str, tuple[Series, Instance]]:
    """SOP Instance UID -> series and instance of the study."""
    return {one.uid: (series, one) for series in context.study.series for one in series.instances}


def images_of(owner: ContentItem, identity: tuple[str, ...], places: Places) -> Iterator[MeasuredImages]:
    """What the content items in ``owner`` name, by purpose and series, or by purpose and frame of reference."""
    series: dict[tuple[Concept, str, str], list[SelectedInstance]] = {}
    spaces: dict[tuple[Concept, str], list[Region]] = {}
    for item in owner.items:
        value_type = one(item.attrs.get("ValueType"))
        if value_type in ("IMAGE", "COMPOSITE"):
            purpose = item.name or _SOURCE
            found = _instances(item, (), places)
        elif value_type == "SCOORD":
            purpose = item.name or _IMAGE_REGION
            regions = _plane_regions(item, places.context)
            found = [made for image in item.items for made in _instances(image, regions, places)] if regions else []
        elif value_type == "SCOORD3D":
            if region := _region(item, _SPACE, 3, places.context):
                frame = one(item.attrs.get("ReferencedFrameOfReferenceUID"))
                spaces.setdefault((item.name or _IMAGE_REGION, frame), []).append(region)
            continue
        else:
            continue
        for made in found:
            series.setdefault((purpose, made.study_uid, made.series_uid), []).append(made)
    for (purpose, study_uid, uid), instances in series.items():
        held = places.held.get(instances[0].uid)
        parts = (*identity, *code_parts(purpose), study_uid, uid)
        merged = tuple(_merged(instances))
        yield MeasuredImages(uid, study_uid, places.document, merged, held[0] if held else None, parts, purpose)
    for (purpose, frame), in_space in spaces.items():
        if ID.fullmatch(frame):
            parts = (*identity, *code_parts(purpose), frame)
            study = places.context.study.uid
            yield MeasuredImages("", study, places.document, (), None, parts, purpose, frame, tuple(in_space))
        else:
            places.context.note("warning", "GraphicData", "is in no frame of reference; the region is left out")


def _instances(item: ContentItem, regions: tuple[Region, ...], places: Places) -> list[SelectedInstance]:
    """The instances that an item names."""
    named = [_instance(reference, regions, places) for reference in items_of(item.attrs.get("ReferencedSOPSequence"))]
    found = [made for made in named if made]
    if len(found) < len(named):
        text = "names instances without class, series or study, or rejected ones; left out"
        places.context.note("warning", "ReferencedSOPSequence", text)
    return found


def _instance(reference: Attrs, regions: tuple[Region, ...], places: Places) -> SelectedInstance | None:
    uid, sop_class = one(reference.get("ReferencedSOPInstanceUID")), one(reference.get("ReferencedSOPClassUID"))
    located = places.locate(Referenced(uid, sop_class))
    if located is None:
        return None
    frames = _numbers(reference, "ReferencedFrameNumber")
    segments = _numbers(reference, "ReferencedSegmentNumber")
    if frames and located.sop_class == SEGMENTATION:
        # a subset of a segmentation are its segments: frames would be taken for them
        places.context.note("info", "ReferencedFrameNumber", "of a segmentation; left out")
        frames = ()
    held = places.held.get(uid)
    return SelectedInstance(
        uid, sop_class, located.study_uid, located.series_uid, frames, held[1] if held else None, segments, regions
    )


def _numbers(reference: Attrs, keyword: str) -> tuple[int, ...]:
    return tuple(number for text in texts_of(reference.get(keyword)) if (number := unsigned_int(text)))


def _merged(instances: list[SelectedInstance]) -> Iterator[SelectedInstance]:
    """Each instance once for the same frames and segments, with all its regions."""
    found: dict[tuple[str, tuple[int, ...], tuple[int, ...]], SelectedInstance] = {}
    for made in instances:
        known = found.setdefault((made.uid, made.frames, made.segments), made)
        if known is not made:
            found[made.uid, made.frames, made.segments] = replace(known, regions=(*known.regions, *made.regions))
    yield from found.values()


def _plane_regions(item: ContentItem, context: MappingContext) -> tuple[Region, ...]:
    """The regions of SCOORD, in an image or a frame."""
    if one(item.attrs.get("PixelOriginInterpretation")) == "VOLUME":
        context.note("warning", "PixelOriginInterpretation", "is VOLUME: the region is of no single frame; left out")
        return ()
    if (region := _region(item, _PLANE, 2, context)) is None:
        return ()
    if region.kind != "point":
        return (region,)
    values = region.coordinates
    return tuple(Region("point", values[start : start + 2]) for start in range(0, len(values), 2))


def _region(
    item: ContentItem, kinds: Mapping[str, tuple[str, int]], dimensions: int, context: MappingContext
) -> Region | None:
    graphic = one(item.attrs.get("GraphicType"))
    kind, count = kinds.get(graphic, ("", 0))
    numbers = [decimal(text) for text in one(item.attrs.get("GraphicData")).split("\\")]
    values = tuple(float(number) for number in numbers if number is not None)
    is_expected = len(values) == count or ((not count or graphic == "MULTIPOINT") and len(values) % dimensions == 0)
    if not kind or not values or len(values) < len(numbers) or not is_expected:
        context.note("warning", "GraphicData", "does not have the coordinates of its Graphic Type; left out")
        return None
    return Region(kind, tuple(int(value) if value.is_integer() else value for value in values))
