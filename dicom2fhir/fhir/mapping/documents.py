"""The meaning of encapsulated documents (PS3.3 C.24.2): of what type they are, when they were made, and where they are.

The content itself is read only on request (``fhir.embed_documents``). What kind of content it is follows from the SOP
class, whose IOD allows no other.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha1
from types import MappingProxyType

from dicom2fhir.document_references import PREDECESSORS, referenced_by
from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping import identification, related
from dicom2fhir.fhir.mapping import imaging_study as study_rules
from dicom2fhir.fhir.mapping.content import replaced_by_others
from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.document_nodes import EncapsulatedDocument
from dicom2fhir.fhir.version.datatypes import (
    DCM,
    DICOM_UID,
    LOINC,
    SNOMED_CT,
    URI,
    Coding,
    Concept,
    date_time_of_dt,
    identifier,
    oid,
)
from dicom2fhir.model import Resource
from dicom2fhir.sop_classes import (
    ENCAPSULATED_CDA,
    ENCAPSULATED_MTL,
    ENCAPSULATED_OBJ,
    ENCAPSULATED_PDF,
    ENCAPSULATED_STL,
)


@dataclass(frozen=True, slots=True)
class DocumentClass:
    """A SOP class of encapsulated documents.

    Attributes
    ----------
    mime_type
        The only value that its IOD allows for MIME Type of Encapsulated Document (PS3.3 A.45, A.85, A.104, A.105).
    """

    name: str
    mime_type: str


_STL_HEADER_BYTES, _STL_FACET_BYTES = 84, 50
"""Of a binary STL: 80 bytes and the number of facets, then the facets."""

CLASSES: Mapping[str, DocumentClass] = MappingProxyType(
    {
        ENCAPSULATED_PDF: DocumentClass("Encapsulated PDF", "application/pdf"),
        ENCAPSULATED_CDA: DocumentClass("Encapsulated CDA", "text/xml"),
        ENCAPSULATED_STL: DocumentClass("Encapsulated STL", "model/stl"),
        ENCAPSULATED_OBJ: DocumentClass("Encapsulated OBJ", "model/obj"),
        ENCAPSULATED_MTL: DocumentClass("Encapsulated MTL", "model/mtl"),
    }
)
"""SOP Class UID -> what is known of its instances."""
REPORTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        DCM: frozenset({"111400", "125195", "125196", "125197", "125200"}),
        SNOMED_CT: frozenset({"48526000"}),
        LOINC: frozenset(
            [
                "11524-0",
                "11525-3",
                "11528-7",
                "18745-0",
                "18748-4",
                "18750-0",
                "18752-6",
                "18754-2",
                "18756-7",
                "24534-0",
                "24590-2",
                "24601-7",
                "24606-6",
                "24616-5",
                "24627-2",
                "24725-4",
                "24733-8",
                "24859-1",
                "24884-9",
                "24907-8",
                "24990-4",
                "25002-7",
                "25010-0",
                "25045-6",
                "25056-3",
                "25061-3",
                "28614-6",
                "30695-1",
                "38036-0",
                "38269-7",
                "39036-9",
                "39445-2",
                "39448-6",
                "39453-6",
                "41806-1",
                "42148-7",
                "43468-8",
                "43771-5",
                "44136-0",
                "44174-1",
                "46375-2",
                "47048-4",
                "49118-3",
                "49512-7",
            ]
        ),
    }
)
"""System -> the titles of diagnostic imaging reports (PS3.16 CID 7000)."""
_MOMENTS = (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))
"""Date and time of the document, the nearest first."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


def documents_of(context: MappingContext) -> Iterator[MappingSource]:
    """The documents of a study, each once: with its attributes, those of its series, and those of the study."""
    found = [
        (series, instance)
        for series in context.study.series
        for instance in series.instances
        if instance.attrs.get("SOPClassUID") in CLASSES
    ]
    replaced = replaced_by_others(instance for _, instance in found)
    known: set[str] = set()
    for series, instance in found:
        if instance.uid not in known:
            known.add(instance.uid)
            attrs = {**series.attrs, **instance.attrs}
            document = EncapsulatedDocument(instance.uid, attrs, instance.uid in replaced)
            own = context.for_other_resource()
            yield MappingSource(own, document, {**context.study.attrs, **attrs}, series.uid)


def master_identifier(source: MappingSource) -> Resource:
    """The SOP Instance UID of the document."""
    return identifier(oid(source.node.uid), DICOM_UID)


def identifiers(source: MappingSource) -> list[Resource]:
    """The HL7 Instance Identifier of a CDA, after the UID in versions that have one list for both."""
    has_own = "DocumentReference.masterIdentifier" in source.context.dialect.elements
    found = [] if has_own else [master_identifier(source)]
    written = source.text("HL7InstanceIdentifier")
    root, _, extension = written.partition("^")
    system = f"urn:uuid:{root.lower()}" if _UUID.fullmatch(root) else oid(root) if _OID.fullmatch(root) else ""
    if system:
        found.append(identifier(extension, system) if extension else identifier(system, URI))
    elif written:
        source.note("HL7InstanceIdentifier", "does not begin with a UID (root^extension); left out")
    return found


def status(source: MappingSource) -> str:
    """``superseded`` if another document of the study names this one as its predecessor."""
    if not isinstance(source.node, EncapsulatedDocument):
        raise TypeError(source.node)
    return "superseded" if source.node.is_replaced else "current"


def replaced_documents(source: MappingSource) -> list[Resource]:
    """The documents that this one replaces, by identifier: they may be in another study, or not be there."""
    named = dict.fromkeys(one.uid for one in referenced_by(source.attrs, PREDECESSORS) if one.sop_class in CLASSES)
    return [_replaced(source, uid) for uid in named if uid and uid != source.node.uid]


def _replaced(source: MappingSource, uid: str) -> Resource:
    part: Resource = {}
    target = {"type": "DocumentReference", "identifier": identifier(oid(uid), DICOM_UID)}
    source.context.dialect.put(part, "DocumentReference.relatesTo.code", _REPLACES)
    source.context.dialect.put(part, "DocumentReference.relatesTo.target", target)
    return part


_REPLACES = Concept((Coding("replaces", "http://hl7.org/fhir/document-relationship-type", "Replaces"),))


def doc_status(source: MappingSource) -> str | None:
    """``final`` if somebody who is named in the document vouches for it."""
    return "final" if source.text("VerificationFlag").upper() == "VERIFIED" else None


def document_type(source: MappingSource) -> Concept:
    """The code of the title, else the title, else the name of the SOP class."""
    codes = source.concepts("ConceptNameCodeSequence")
    return codes[0] if codes else Concept(text=_title(source) or _class_of(source).name)


def _title(source: MappingSource) -> str:
    return source.text("DocumentTitle")


def _class_of(source: MappingSource) -> DocumentClass:
    return CLASSES[source.text("SOPClassUID")]


def indexed(source: MappingSource) -> str:
    """The first moment with time and time zone of content, series and study.

    Raises
    ------
    NotExpressible
        None of them has both, and the version requires one.
    """
    for keywords in _MOMENTS:
        moment = source.moment(*keywords)
        if moment and "T" in moment:
            return moment
    raise NotExpressible("it requires a time with a time zone: set fhir.time_zone")


def content(source: MappingSource) -> list[Resource]:
    """The document as an attachment: of what kind it is, its title, its time, and its WADO-RS URL."""
    title = _title(source) or next((c.display for code in [document_type(source)] for c in code.codings), "")
    parts = {
        "contentType": _class_of(source).mime_type,
        **_embedded(source),
        "url": _url(source),
        "title": title,
        "creation": date_time_of_dt(source.text("AcquisitionDateTime"), source.zone),
    }
    return [{"attachment": {name: part for name, part in parts.items() if part}}]


def _embedded(source: MappingSource) -> Resource:
    """The content with its size and hash, if it was read and is wanted."""
    longest, data = source.context.options.embed_documents, _content(source)
    if not data or len(data) > longest:
        return {}
    digest = sha1(data, usedforsecurity=False).digest()  # the algorithm that Attachment.hash prescribes
    size = {"size": len(data)} if source.context.dialect.has_sizes else {}
    return {"data": _base64(data), **size, "hash": _base64(digest)}


def _content(source: MappingSource) -> bytes:
    """Encapsulated Document without the byte that pads it to an even length (PS3.5 section 6.2).

    No text and no PDF ends with NUL. A binary STL does, and has an even length.
    """
    value = b64decode(source.text("EncapsulatedDocument"))
    is_stl = source.text("SOPClassUID") == ENCAPSULATED_STL
    if is_stl and len(value) == _STL_HEADER_BYTES + _STL_FACET_BYTES * int.from_bytes(value[80:84], "little"):
        return value
    return value.removesuffix(b"\0")


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _url(source: MappingSource) -> str:
    """The resource that answers with the document itself (PS3.18 section 10.4.1.1.2, Rendered Instance)."""
    base, study = source.context.options.dicomweb_url, source.context.study.uid
    if not base:
        return ""
    return f"{base}/studies/{study}/series/{source.series_uid}/instances/{source.node.uid}/rendered"


def encounter(source: MappingSource) -> Resource | None:
    """The Encounter of the study."""
    return related.encounter(replace(source, attrs=source.context.study.attrs))


# Reports -------------------------------------------------------------------------------------------------------------


def is_report(source: MappingSource) -> bool:
    """Whether the document is a diagnostic imaging report that somebody vouches for."""
    is_titled_so = any(code.code in REPORTS.get(code.system, ()) for code in document_type(source).codings)
    return is_titled_so and doc_status(source) == "final"


def orders(source: MappingSource) -> list[Resource]:
    """The orders of the study."""
    return identification.orders(replace(source, attrs=source.context.study.attrs))


def interpreters(source: MappingSource) -> list[Resource]:
    """The physicians who read the study."""
    return study_rules.interpreters(replace(source, attrs=source.context.study.attrs))


def presented_form(source: MappingSource) -> list[Resource]:
    """The attachment of the document."""
    return [one["attachment"] for one in content(source)]
