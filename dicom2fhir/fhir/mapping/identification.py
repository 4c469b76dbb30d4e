"""The identifiers of a study: its UID, its Study ID and the accession numbers of its orders; references to the orders.

The functions are like those of :mod:`dicom2fhir.fhir.mapping.imaging_study`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dicom2fhir.fhir.mapping.context import MappingSource
from dicom2fhir.fhir.mapping.related import own_id, search_by, sought
from dicom2fhir.fhir.mapping.subject import subject
from dicom2fhir.fhir.version.datatypes import DICOM_UID, first_item, identifier, issuer_system, oid, one
from dicom2fhir.fhir.version.dialect import IdentifierKind
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Attrs, Resource


def identifiers(source: MappingSource) -> list[Resource]:
    """Those of the study's UID, accession numbers and Study ID that the dialect puts into ``identifier``."""
    return [found for kind in source.context.dialect.identifiers for found in _IDENTIFIERS[kind](source)]


def _study_uid(source: MappingSource) -> list[Resource]:
    return [identifier(oid(source.node.uid), DICOM_UID, use="official")]


def _study_id(source: MappingSource) -> list[Resource]:
    value = source.text("StudyID")
    if not value:
        return []
    own = identifier(value, source.context.options.systems.study_id, use="secondary")
    return [{"use": own.pop("use"), "type": {"text": "Study ID"}, **own}]


def _accession(source: MappingSource, attrs: Attrs) -> Resource | None:
    value = one(attrs.get("AccessionNumber"))
    if not value:
        return None
    issuer = first_item(attrs, "IssuerOfAccessionNumberSequence")
    system, name = issuer_system(source.context.options.systems.accession_number, "", issuer)
    return identifier(value, system, "ACSN", name)


def _accessions(source: MappingSource) -> list[Resource]:
    """The study's accession number, then those of its requests and of instances with another one; each once.

    A request rarely repeats the issuer: a number without issuer is the same as that number with an issuer.
    """
    items = (source.attrs, *source.items("RequestAttributesSequence"))
    found = [own for attrs in items if (own := _accession(source, attrs))]
    issued = {own["value"]: own for own in reversed(found) if "system" in own}
    each: dict[tuple[str, str], Resource] = {}
    for own in found:
        known = own if "system" in own else issued.get(own["value"], own)
        each.setdefault((known.get("system", ""), known["value"]), known)
    return list(each.values())


def _accessions_if_asked_for(source: MappingSource) -> list[Resource]:
    return _accessions(source) if source.context.options.accession_identifier else []


_IDENTIFIERS: Mapping[IdentifierKind, Callable[[MappingSource], list[Resource]]] = MappingProxyType(
    {
        "uid": _study_uid,
        "accession": _accessions,
        "further accession": lambda source: _accessions(source)[1:],
        "accession if asked for": _accessions_if_asked_for,
        "study id": _study_id,
    }
)


def accession(source: MappingSource) -> Resource | None:
    """The first accession number, for versions with an element for one."""
    return next(iter(_accessions(source)), None)


def accession_number(source: MappingSource) -> str:
    """The value of the first accession number; empty if there is none."""
    return one([own["value"] for own in _accessions(source)])


def orders(source: MappingSource) -> list[Resource]:
    """A reference to the order of each accession number."""
    return [_order(source, own) for own in _accessions(source)]


def _order(source: MappingSource, accession: Resource) -> Resource:
    """A reference to the order by its accession number: to the order on the server, else by identifier.

    If a Reference cannot have an identifier, it refers to a contained order that has only this identifier.
    """
    context = source.context
    type_ = context.dialect.order_type
    if "identifier" in context.dialect.reference_parts:
        return sought(context, "order", type_, accession)
    order_id = own_id(type_, accession)
    resource: Resource = {
        "resourceType": type_,
        "id": order_id,
        "subject": context.dialect.reference(subject(source)),
        "identifier": [accession],
    }
    search = search_by(accession) if "order" in context.options.linked else ""
    return context.add(Entry(resource, Write.LINK, search, f"order-{order_id.replace('-', '')[:12]}"))
