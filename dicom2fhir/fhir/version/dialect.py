"""How meaning becomes JSON in one FHIR version: names and datatypes of elements, and differences in datatypes.

A :class:`Dialect` is a value. The differences between versions are in its fields; no code checks the version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.version.datatypes import URI, Coding, Concept, oid
from dicom2fhir.model import Resource

Shape = Literal[
    "as is",
    "code",
    "Coding",
    "CodeableConcept",
    "CodeableReference",
    "Annotation",
    "HumanName",
    "Reference",
    "Reference by display",
    "Reference in ref",
    "CodeableReference by reference",
    "performer",
    "actor",
    "performer in role",
    "oid",
    "Coding of oid",
    "code extension",
    "concept extension",
]


IdentifierKind = Literal["uid", "accession", "further accession", "accession if asked for", "study id"]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a FHIR version.

    Attributes
    ----------
    shape
        The datatype of the element.
    many
        Whether it repeats.
    types
        For references: the allowed resource types; empty: any.
    url
        URL of an extension.
    """

    name: str
    shape: Shape = "as is"
    many: bool = False
    types: frozenset[str] = frozenset()
    url: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A FHIR version.

    Attributes
    ----------
    elements
        Concept -> element, for ImagingStudy (``modality``, ``series.modality``, ``instance.uid``...) and, with the
        type before it, for the other resources (``Device.name``).
    lateralities
        (0020,0060) Laterality and related attributes -> code.
    identifiers
        The content of the study's ``identifier``, in this order. ``accession`` are all accession numbers, ``further
        accession`` those that do not fit into the element ``accession``.
    oid
        Pattern of the datatype ``oid``.
    acquisition_only
        Whether the study's modalities are the acquisition modalities of its series (PS3.16 CID 29); else they are all
        modalities of its series (ist-7).
    systems
        System in R4 -> system in this version.
    reference_parts
        Which of ``reference``, ``type``, ``identifier``, ``display`` the datatype Reference has.
    families_repeat
        Whether ``HumanName.family`` is a list.
    search_by
        The search parameter that finds an ImagingStudy by its Study Instance UID: ``identifier`` as a token, any other
        by the UID as ``urn:oid:``.
    unavailable
        ``ImagingStudy.status`` of a study whose instances are no longer available.
    rejected
        Title of a rejection note -> ``ImagingStudy.status`` of a study that is rejected as a whole.
    discontinued
        ``Procedure.status`` of a procedure step that was discontinued.
    order_type
        The resource type of an order for imaging.
    key_objects
        The resource type for key object selections; empty if the version has none.
    selection_titles
        Codes that the title of an ImagingObjectSelection may have: its binding is required.
    has_sizes
        Whether ``Attachment.size`` is written. As an integer64 it is a string in JSON, but servers return a number,
        which would look like a change by somebody else.
    media_type
        Media type of JSON.
    """

    name: str
    fhir_version: str
    elements: Mapping[str, Element]
    lateralities: Mapping[str, Coding]
    identifiers: tuple[IdentifierKind, ...]
    oid: re.Pattern[str]
    acquisition_only: bool
    systems: Mapping[str, str] = field(default_factory=dict)
    reference_parts: frozenset[str] = frozenset({"reference", "type", "identifier", "display"})
    families_repeat: bool = False
    search_by: str = "identifier"
    unavailable: str = "registered"
    rejected: Mapping[str, str] = field(default_factory=dict)
    discontinued: str = "stopped"
    order_type: str = "ServiceRequest"
    key_objects: str = ""
    selection_titles: frozenset[str] = frozenset()
    has_sizes: bool = True
    media_type: str = "application/fhir+json"

    def put(self, target: Resource, concept: str, meaning: Any) -> Any:
        """Set the concept's element in ``target``.

        Returns
        -------
        Any
            The JSON that was set; None if this version has no such element, or the element cannot hold the value.

        Raises
        ------
        NotExpressible
            The version requires a form that the value does not have.
        """
        element = self.elements.get(concept)
        if element is None:
            return None
        if element.shape == "as is" and not element.many and self.is_plain:
            target[element.name] = meaning
            return meaning
        meanings = meaning if isinstance(meaning, list) else [meaning]
        shaped = [json for one in meanings if (json := _SHAPES[element.shape](self, element, one)) is not None]
        if not shaped:
            return None
        if element.url:  # one of several extensions
            target.setdefault(element.name, []).extend(shaped)
            return shaped
        target[element.name] = shaped if element.many else shaped[0]
        return target[element.name]

    def adapt(self, json: Any) -> Any:
        """Convert JSON from R4's datatypes to this version's: systems, references with fewer parts, family names."""
        if isinstance(json, list):
            return [self.adapt(item) for item in json]
        if not isinstance(json, dict):
            return json
        adapted = {key: self.adapt(value) for key, value in json.items()}
        if self.systems and adapted.get("system") in self.systems:
            adapted["system"] = self.systems[adapted["system"]]
        if self.families_repeat and isinstance(adapted.get("family"), str):
            adapted["family"] = [adapted["family"]]
        return adapted

    def holds_several(self, concept: str) -> bool:
        """Whether the element of a concept is a list, or this version has no such element."""
        element = self.elements.get(concept)
        return element is None or element.many

    @property
    def is_plain(self) -> bool:
        """Whether :meth:`adapt` has nothing to do."""
        return not self.systems and not self.families_repeat

    def writes_as(self, other: Dialect) -> bool:
        """Whether both write the same: ImagingStudy and the related resources are the same in R4 and R4B."""
        return replace(self, name=other.name, fhir_version=other.fhir_version) == other

    def reference(self, reference: Resource) -> Resource | None:
        """A Reference without the parts that this version does not have; None if only ``type`` or nothing is left."""
        kept = {key: value for key, value in reference.items() if key in self.reference_parts}
        return self.adapt(kept) if kept.keys() - {"type"} else None


def _coding(meaning: Concept) -> Resource:
    if not meaning.codings:
        return {"display": meaning.text}
    coding = meaning.codings[0]
    return {
        key: value
        for key, value in (
            ("system", coding.system),
            ("version", coding.version),
            ("code", coding.code),
            ("display", coding.display),
        )
        if value
    }


def codeable_concept(meaning: Concept) -> Resource:
    """A CodeableConcept; between versions only its systems differ."""
    result: Resource = {}
    if meaning.codings:
        result["coding"] = [_coding(Concept((coding,))) for coding in meaning.codings]
    if meaning.text:
        result["text"] = meaning.text
    return result


def _reference(dialect: Dialect, element: Element, meaning: Resource) -> Resource | None:
    if element.types and meaning.get("type") not in element.types:
        return None
    return dialect.reference(meaning)


def _within(name: str, reference: Resource | None) -> Resource | None:
    return {name: reference} if reference else None


def _performer(dialect: Dialect, element: Element, meaning: Resource) -> Resource | None:
    """The performer with its function (:func:`_actor`: without it)."""
    actor = dialect.reference(meaning["actor"])
    return {"function": dialect.adapt(meaning["function"]), "actor": actor} if actor else None


def _actor(dialect: Dialect, element: Element, meaning: Resource) -> Resource | None:
    return _reference(dialect, element, meaning["actor"])


def _performer_in_role(dialect: Dialect, element: Element, meaning: Resource) -> Resource | None:
    """:func:`_performer` by the name that the function had before R4."""
    performer = _performer(dialect, element, meaning)
    return {"role": performer["function"], "actor": performer["actor"]} if performer else None


def _oid(dialect: Dialect, element: Element, uid: str) -> str:
    if not dialect.oid.fullmatch(oid(uid)):
        raise NotExpressible(
            f"A UID is not valid in {element.name} of FHIR {dialect.name} (leading zeros, letters): "
            "send to a version from R4 on, or correct it at the source."
        )
    return oid(uid)


_SHAPES: Mapping[Shape, Callable[[Dialect, Element, Any], Any]] = MappingProxyType(
    {
        "as is": lambda dialect, element, meaning: meaning if dialect.is_plain else dialect.adapt(meaning),
        "code": lambda dialect, element, meaning: meaning.codings[0].code,
        "Coding": lambda dialect, element, meaning: dialect.adapt(_coding(meaning)),
        "CodeableConcept": lambda dialect, element, meaning: dialect.adapt(codeable_concept(meaning)),
        "CodeableReference": lambda dialect, element, meaning: {"concept": dialect.adapt(codeable_concept(meaning))},
        "Annotation": lambda dialect, element, meaning: {"text": meaning},
        "HumanName": lambda dialect, element, meaning: meaning,  # adapted with the resource that it is in
        "Reference": _reference,
        "Reference by display": lambda dialect, element, meaning: {"display": words_of(meaning)},
        "Reference in ref": lambda dialect, element, meaning: _within("ref", _reference(dialect, element, meaning)),
        "CodeableReference by reference": lambda dialect, element, meaning: _within(
            "reference", _reference(dialect, element, meaning)
        ),
        "performer": _performer,
        "actor": _actor,
        "performer in role": _performer_in_role,
        "oid": _oid,
        "code extension": lambda dialect, element, code: {"url": element.url, "valueCode": code},
        "concept extension": lambda dialect, element, meaning: {
            "url": element.url,
            "valueCodeableConcept": codeable_concept(meaning),
        },
        "Coding of oid": lambda dialect, element, uid: {"system": URI, "code": oid(uid)},
    }
)


def words_of(meaning: Concept) -> str:
    """The human-readable text of a concept."""
    return meaning.text or next((c.display or c.code for c in meaning.codings), "")
