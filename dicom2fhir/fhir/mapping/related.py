"""The resources that an ImagingStudy refers to: Encounter, people, devices, organizations, locations.

Each function makes one resource from the attributes of a source and returns the reference to it. :func:`_refer` decides
whether it is contained or a separate resource, which needs an identifier.
For people without an identifier, one is made from the spelling of their name (:func:`_spelling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.rule import Rule, apply, text
from dicom2fhir.fhir.version.datatypes import (
    URI,
    Coding,
    Concept,
    coding,
    deterministic_id,
    first_item,
    human_names,
    identifier,
    issuer_system,
    oid,
    one,
)
from dicom2fhir.fhir.version.dialect import codeable_concept
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Attrs, Resource, items_of


def search_by(*identifiers: Resource) -> str:
    """The query that finds a resource by any of several identifiers (token search), percent-encoded.

    An identifier without system is searched as ``|value``: only the value would match identifiers of any system.
    """

    def escaped(text: str) -> str:
        for special in ("\\", "$", ",", "|"):
            text = text.replace(special, "\\" + special)
        return quote(text, safe="")

    return "identifier=" + ",".join(f"{escaped(i.get('system', ''))}%7C{escaped(i['value'])}" for i in identifiers)


def own_id(type_: str, found: Resource) -> str:
    """The deterministic id of a resource, made from one of its identifiers."""
    return deterministic_id(type_, found.get("system", ""), found["value"])


def identifier_of(resource_id: str) -> Resource:
    """An identifier by which only the resource with this id is found.

    Not the id itself: in a Bundle ``urn:uuid:<id>`` is a placeholder, which servers replace wherever it is.
    """
    return identifier(f"urn:uuid:{deterministic_id('identifier', resource_id)}", URI)


def _refer(context: MappingContext, resource: Resource, display: str) -> Resource:
    """Contain the resource, or write it separately if the options say so and it has an identifier with a system."""
    type_ = resource["resourceType"]
    known = next((found for found in resource.get("identifier", []) if found.get("system")), None)
    if known and type_ in context.options.referenced:
        own = {"resourceType": type_, "id": own_id(type_, known), **resource}
        reference = context.add(Entry(own, Write.ENSURE, search_by(known)))
    else:
        if type_ in context.options.referenced:
            context.note("info", type_, "has no identifier with a known system; it stays contained in the ImagingStudy")
        reference = context.contain(resource)
    return {**reference, "display": display} if display else reference


def _identifier_of(code: Coding) -> Resource:
    return identifier(code.code, code.system)


# References found by search -----------------------------------------------------------------------------------------


def encounter(source: MappingSource) -> Resource | None:
    """A reference to the Encounter by (0038,0010) Admission ID: to the one on the server, else by identifier."""
    context = source.context
    value = source.text("AdmissionID")
    if not value:
        return None
    system, issuer = issuer_system(context.options.systems.admission_id, "", source.item("IssuerOfAdmissionIDSequence"))
    return sought(context, "encounter", "Encounter", identifier(value, system, "VN", issuer))


def sought(context: MappingContext, option: str, type_: str, own: Resource) -> Resource:
    """A reference by identifier; it becomes literal if the options say so and the server has exactly one match."""
    logical = {"type": type_, "identifier": own}
    if option not in context.options.linked:
        return logical
    resource = {"resourceType": type_, "id": own_id(type_, own), "identifier": [own]}
    return {**context.add(Entry(resource, Write.LINK, search_by(own))), **logical}


# People --------------------------------------------------------------------------------------------------------------


def practitioners(source: MappingSource, names_keyword: str, identifications_keyword: str) -> Iterator[Resource]:
    """The people of a PN attribute, each with the item at the same position in its identification sequence.

    Only those that are consumed from the iterator are contained or written.

    Either may be shorter than the other (PS3.3 table 10-1); a person with neither name nor code is left out.
    """
    names = source.texts(names_keyword)
    identifications = source.items(identifications_keyword)
    count = max(len(names), len(identifications))
    people = (
        _practitioner(
            source.context,
            names[i] if i < len(names) else "",
            identifications[i] if i < len(identifications) else {},
        )
        for i in range(count)
    )
    return (person for person in people if person)


def _practitioner(context: MappingContext, pn: str, identification: Attrs) -> Resource | None:
    codes = items_of(identification.get("PersonIdentificationCodeSequence"))
    identifiers = [_identifier_of(code) for item in codes if (code := coding(item, context.schemes))]
    names = human_names(pn)
    if not identifiers and not names:
        return None
    resource: Resource = {"resourceType": "Practitioner"}
    if names and "Practitioner" in context.options.referenced and not any(found.get("system") for found in identifiers):
        schemes = filter(None, (one(item.get("CodingSchemeDesignator")) for item in codes))
        identifiers.append(_spelling(names, [*identifiers, *schemes]))
    if identifiers:
        resource["identifier"] = identifiers
    if names:
        if len(names) > 1 and not context.dialect.holds_several("Practitioner.name"):
            context.lacks("Practitioner.name", "room for more than one name of a practitioner")
        context.dialect.put(resource, "Practitioner.name", names)
    return _refer(context, resource, names[0]["text"] if names else "")


def _spelling(names: list[Resource], codes: Sequence[object]) -> Resource:
    """The identifier of a name: the same for equal names, a different one for another spelling.

    It is also made from the codes and the designators of their private schemes, because two hospitals may use the same
    number. It is a hash, because identifiers are in the URLs of requests, which must not contain names.
    """
    return identifier(f"urn:uuid:{deterministic_id('Person Name', repr(names), repr(codes))}", URI)


# Devices, organizations, locations ----------------------------------------------------------------------------------

EQUIPMENT = (
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "DeviceUID",
    "SoftwareVersions",
    "StationName",
    "InstitutionName",
    "InstitutionCodeSequence",
)
"""What is known of the equipment and of the institution that has it (PS3.3 C.7.5.1)."""


def device_name(source: MappingSource, name: str) -> Resource | None:
    """A ``Device.deviceName``, or the element of the version that corresponds to it."""
    named: Resource = {}
    if name:
        source.context.dialect.put(named, "Device.name.value", name)
        source.context.dialect.put(named, "Device.name.type", _USER_FRIENDLY)
    return named or None


_USER_FRIENDLY = Concept((Coding("user-friendly-name", "http://hl7.org/fhir/device-nametype"),))


def _device_identifiers(source: MappingSource) -> list[Resource]:
    uid, serial = source.text("DeviceUID"), source.text("DeviceSerialNumber")
    found = [identifier(oid(uid), URI)] if uid else []
    if serial:
        # a serial number is unique among the devices of one model only
        model = " ".join(filter(None, (source.text("Manufacturer"), source.text("ManufacturerModelName"))))
        system, _ = issuer_system({}, model)
        found.append(identifier(serial, system, "SNO"))
    return found


DEVICE_RULES = (
    Rule(
        "Device.identifier",
        ("DeviceUID", "DeviceSerialNumber", "Manufacturer", "ManufacturerModelName"),
        _device_identifiers,
        "the UID as urn:oid:; the serial number as SNO, in a system of manufacturer and model",
    ),
    Rule("Device.manufacturer", ("Manufacturer",), text("Manufacturer"), "unchanged"),
    Rule("Device.serialNumber", ("DeviceSerialNumber",), text("DeviceSerialNumber"), "unchanged"),
    Rule(
        "Device.name",
        ("StationName",),
        lambda source: device_name(source, source.text("StationName")),
        "as user-friendly-name",
    ),
    Rule("Device.model", ("ManufacturerModelName",), text("ManufacturerModelName"), "unchanged"),
    Rule(
        "Device.version",
        ("SoftwareVersions",),
        lambda source: [{"value": version} for version in source.texts("SoftwareVersions") if version],
        "each of them",
    ),
)


def equipment(source: MappingSource) -> Resource | None:
    """The Device that made a series (General Equipment Module, PS3.3 C.7.5.1); None if only its software is known."""
    manufacturer, model, station = map(source.text, ("Manufacturer", "ManufacturerModelName", "StationName"))
    if not (manufacturer or model or station or source.text("DeviceSerialNumber") or source.text("DeviceUID")):
        return None
    resource: Resource = {"resourceType": "Device"}
    apply(DEVICE_RULES, source, resource)
    return _refer(source.context, resource, " ".join(part for part in (manufacturer, model or station) if part))


def institution(source: MappingSource) -> Resource | None:
    """The Organization of (0008,0080) Institution Name and (0008,0082) Institution Code Sequence.

    Its identifiers are the code and the configured one.
    """
    name = source.text("InstitutionName")
    item = source.item("InstitutionCodeSequence")
    code = coding(item, source.context.schemes) if item else None
    if not name and not code:
        return None
    resource: Resource = {"resourceType": "Organization"}
    identifiers = [_identifier_of(code)] if code else []
    if configured := source.context.options.systems.of_organization(name):
        system, _, value = configured.partition("|")
        identifiers += [own for own in [identifier(value, system)] if own not in identifiers]
    if identifiers:
        resource["identifier"] = identifiers
    if code:
        name = name or code.display or code.code
    resource["name"] = name
    return _refer(source.context, resource, name)


def location(source: MappingSource) -> Resource | None:
    """The Location: the room of (0040,0243) Performed Location, as part of the department; else the department."""
    room = source.text("PerformedLocation")
    department = _department(source)
    if not room:
        return department
    resource: Resource = {"resourceType": "Location", "identifier": [{"value": room}], "name": room}
    if department:
        resource["partOf"] = department
    return _refer(source.context, resource, room)


def _department(source: MappingSource) -> Resource | None:
    """The Location of (0008,1040) Institutional Department Name, with its type (0008,1041)."""
    name = source.text("InstitutionalDepartmentName")
    types = source.concepts("InstitutionalDepartmentTypeCodeSequence")
    if not (name or types):
        return None
    resource: Resource = {"resourceType": "Location"}
    if name:
        resource["name"] = name
    if types:
        resource["type"] = [codeable_concept(type_) for type_ in types]
    return _refer(source.context, resource, name)


def specimens(source: MappingSource) -> list[Resource]:
    """Logical references to the specimens of a series (PS3.3 C.7.6.22); no Specimen is written."""
    found = source.items("SpecimenDescriptionSequence")
    if not found and source.text("SpecimenIdentifier"):
        found = [source.attrs]
    references = {}
    for item in found:
        value, uid = one(item.get("SpecimenIdentifier")), one(item.get("SpecimenUID"))
        if value:
            issued_by = first_item(item, "IssuerOfTheSpecimenIdentifierSequence")
            system, issuer = issuer_system(source.context.options.systems.specimen, "", issued_by)
            own = identifier(value, system, issuer=issuer)
        elif uid:
            own = identifier(oid(uid), URI)
        else:
            continue
        reference: Resource = {"type": "Specimen", "identifier": own}
        if display := one(item.get("SpecimenShortDescription")):
            reference["display"] = display
        references[own.get("system"), own["value"]] = reference
    return list(references.values())
