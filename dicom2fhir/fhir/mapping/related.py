"""The resources around an ImagingStudy: who was examined, who and what took part, where it lies.

Each function makes one resource from a scope's attributes and answers with the reference to it. Whether it is
contained or a resource of its own is settled here once, in :func:`_refer`: a resource of its own needs an identifier.
People who have none get one made of their name as written (:func:`_spelling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from dicom2fhir.fhir.mapping.context import Context, Scope
from dicom2fhir.fhir.version.datatypes import (
    CONNECTION_TYPE,
    DCM,
    URI,
    Coding,
    Concept,
    coding,
    concept,
    deterministic_id,
    fhir_date,
    first_item,
    gender,
    human_names,
    identifier,
    issuer_system,
    oid,
    one,
)
from dicom2fhir.fhir.version.dialect import codeable_concept
from dicom2fhir.model import Attrs, Entry, Resource, Write, items_of


def search_by(*identifiers: Resource) -> str:
    """The query that finds a resource by any of some identifiers (token search), percent-encoded.

    An identifier without system is searched as ``|value``: a value alone would match those of any system.
    """

    def escaped(text: str) -> str:
        for special in ("\\", "$", ",", "|"):
            text = text.replace(special, "\\" + special)
        return quote(text, safe="")

    return "identifier=" + ",".join(f"{escaped(i.get('system', ''))}%7C{escaped(i['value'])}" for i in identifiers)


def _own_id(type_: str, found: Resource) -> str:
    return deterministic_id(type_, found.get("system", ""), found["value"])


def _refer(context: Context, resource: Resource, display: str) -> Resource:
    """Contain the resource, or write it beside the study where the policy says so and it can be told from others."""
    type_ = resource["resourceType"]
    known = next((found for found in resource.get("identifier", []) if found.get("system")), None)
    if known and type_ in context.policy.referenced:
        own = {"resourceType": type_, "id": _own_id(type_, known), **resource}
        reference = context.add(Entry(own, Write.ENSURE, search_by(known)))
    else:
        if type_ in context.policy.referenced:
            context.note("info", type_, "has no identifier of a known system: it stays inside the ImagingStudy")
        reference = context.contain(resource)
    return {**reference, "display": display} if display else reference


def _identifier_of(code: Coding) -> Resource:
    return identifier(code.code, code.system)


# Patient -------------------------------------------------------------------------------------------------------------


def subject(scope: Scope) -> Resource:
    """The Patient (PS3.3 C.7.1.1), or the Device that a quality control image shows."""
    patient = scope.context.study.patient
    context = scope.context
    if one(patient.get("QualityControlSubject")).upper() == "YES":
        if "Device" in context.dialect.elements["subject"].types:
            return _phantom(context, patient)
        context.lacks(
            "ImagingStudy.subject", "subject of type Device: the quality control subject is written as a Patient"
        )
    resource = _patient(context, patient)
    identifiers = resource.get("identifier", [])
    if identifiers:
        resource["id"] = _own_id("Patient", identifiers[0])
        # where a Reference cannot hold an identifier, a patient that the server does not have is contained
        inside = "" if "identifier" in context.dialect.reference_parts else "patient"
        entry = Entry(resource, context.policy.patient, search_by(identifiers[0]), inside)
        return {**context.add(entry), "identifier": identifiers[0]}
    context.note("warning", "PatientID", "is missing: the patient cannot be told from others")
    if len(resource) == 1:
        return {"type": "Patient", "display": "Unknown"}
    if context.policy.patient is Write.LINK:
        return context.contain(resource)
    resource["id"] = deterministic_id("Patient of study", context.study.uid)
    return context.add(Entry(resource, context.policy.patient, inside="patient"))


def _patient(context: Context, patient: Attrs) -> Resource:
    resource: Resource = {"resourceType": "Patient"}
    identifiers: dict[tuple[str | None, str], Resource] = {}
    for own in _patient_identifiers(context, patient):
        identifiers.setdefault((own.get("system"), own["value"]), own)
    if identifiers:
        resource["identifier"] = list(identifiers.values())
    if names := human_names(one(patient.get("PatientName"))):
        resource["name"] = names
    if sex := one(patient.get("PatientSex")):
        found = gender(sex)
        if found:
            resource["gender"] = found
        elif sex.upper() != "U":
            context.note("warning", "PatientSex", "is none of M, F, O; left out")
    if birth := one(patient.get("PatientBirthDate")):
        day = fhir_date(birth)
        if day:
            resource["birthDate"] = day
        else:
            context.note("warning", "PatientBirthDate", "is not a date; left out")
    if species := _species(context, patient):
        extension = {"url": "species", "valueCodeableConcept": codeable_concept(species)}
        context.dialect.put(resource, "Patient.extension", {"url": _ANIMAL, "extension": [extension]})
        context.dialect.put(resource, "Patient.animal", {"species": codeable_concept(species)})
    return resource


_ANIMAL = "http://hl7.org/fhir/StructureDefinition/patient-animal"


_CARRIERS = frozenset({"RFID", "BARCODE"})
"""Of (0010,0022) Type of Patient ID: what the identifier was read from. HL7 has no code for it; TEXT says nothing."""


def _patient_identifiers(context: Context, patient: Attrs) -> Iterator[Resource]:
    """Patient ID, a medical record number unless its type is given, and Other Patient IDs, whose kind nobody knows."""
    if one(patient.get("PatientID")):
        yield _patient_identifier(context, patient, "MR")
    for other in items_of(patient.get("OtherPatientIDsSequence")):
        if one(other.get("PatientID")):
            carrier = one(other.get("TypeOfPatientID")).upper()
            yield _patient_identifier(context, other, carrier if carrier in _CARRIERS else "")


def _patient_identifier(context: Context, attrs: Attrs, otherwise: str) -> Resource:
    """An identifier of the type that its issuer's qualifiers give, else of another one."""
    qualifiers = first_item(attrs, "IssuerOfPatientIDQualifiersSequence")
    local = one(attrs.get("IssuerOfPatientID"))
    system, issuer = issuer_system(context.policy.systems.patient_id, local, qualifiers)
    type_code = " ".join(one((qualifiers or {}).get("IdentifierTypeCode")).split()) or otherwise
    return identifier(one(attrs["PatientID"]), system, type_code, issuer)


def _species(context: Context, patient: Attrs) -> Concept | None:
    """What animal the patient is (PS3.3 C.7.1.1); None for people."""
    code = first_item(patient, "PatientSpeciesCodeSequence")
    found = concept(code, context.schemes) if code else None
    words = one(patient.get("PatientSpeciesDescription"))
    return found or (Concept(text=words) if words else None)


def _phantom(context: Context, patient: Attrs) -> Resource:
    """What (0010,0200) Quality Control Subject marks is a device and no patient."""
    resource: Resource = {"resourceType": "Device"}
    if one(patient.get("PatientID")):
        resource["identifier"] = [_patient_identifier(context, patient, "MR") | {"type": {"text": "Phantom"}}]
    name = " ".join(one(patient.get("PatientName")).replace("^", " ").split())
    if name:
        _put_device_name(context, resource, name)
    return context.contain(resource)


def order(scope: Scope, accession: Resource) -> Resource:
    """The order by its accession number: the server's, else a reference by identifier.

    Where a Reference cannot hold an identifier, an order in the study that says just this takes its place.
    """
    context = scope.context
    type_ = context.dialect.order_type
    if "identifier" in context.dialect.reference_parts:
        return _sought(context, "order", type_, accession)
    own_id = _own_id(type_, accession)
    resource: Resource = {
        "resourceType": type_,
        "id": own_id,
        "subject": context.dialect.reference(subject(scope)),
        "identifier": [accession],
    }
    search = search_by(accession) if "order" in context.policy.linked else ""
    return context.add(Entry(resource, Write.LINK, search, f"order-{own_id.replace('-', '')[:12]}"))


def encounter(scope: Scope) -> Resource | None:
    """The Encounter by (0038,0010) Admission ID: the server's, else a reference by identifier."""
    context = scope.context
    value = scope.text("AdmissionID")
    if not value:
        return None
    system, issuer = issuer_system(context.policy.systems.admission_id, "", scope.item("IssuerOfAdmissionIDSequence"))
    return _sought(context, "encounter", "Encounter", identifier(value, system, "VN", issuer))


def _sought(context: Context, option: str, type_: str, own: Resource) -> Resource:
    """A reference by identifier, which becomes a literal one where the policy says so and the server has the one."""
    logical = {"type": type_, "identifier": own}
    if option not in context.policy.linked:
        return logical
    sought = {"resourceType": type_, "id": _own_id(type_, own), "identifier": [own]}
    return {**context.add(Entry(sought, Write.LINK, search_by(own))), **logical}


# People --------------------------------------------------------------------------------------------------------------


def practitioners(scope: Scope, names_keyword: str, identifications_keyword: str) -> Iterator[Resource]:
    """The people of a PN attribute, each with the item at the same place in its identification sequence.

    Whoever is taken from the iterator is contained or written; who is not, is not.

    Either may be shorter than the other (PS3.3 table 10-1); who has neither name nor code is left out.
    """
    names = scope.texts(names_keyword)
    identifications = scope.items(identifications_keyword)
    count = max(len(names), len(identifications))
    people = (
        _practitioner(
            scope.context,
            names[i] if i < len(names) else "",
            identifications[i] if i < len(identifications) else {},
        )
        for i in range(count)
    )
    return (person for person in people if person)


def _practitioner(context: Context, pn: str, identification: Attrs) -> Resource | None:
    codes = items_of(identification.get("PersonIdentificationCodeSequence"))
    identifiers = [_identifier_of(code) for item in codes if (code := coding(item, context.schemes))]
    names = human_names(pn)
    if not identifiers and not names:
        return None
    resource: Resource = {"resourceType": "Practitioner"}
    if names and "Practitioner" in context.policy.referenced and not any(found.get("system") for found in identifiers):
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
    """The identifier of all people who are written alike: searches by name find them, and no two spellings are one.

    Codes, where there are some, and the designators of their private schemes belong to it: two hospitals give the same
    number. It holds no name itself, because it stands in the addresses of requests.
    """
    return identifier(f"urn:uuid:{deterministic_id('Person Name', repr(names), repr(codes))}", URI)


# Things and places ---------------------------------------------------------------------------------------------------


def equipment(scope: Scope) -> Resource | None:
    """The Device that made a series (General Equipment Module, PS3.3 C.7.5.1)."""
    manufacturer, model = scope.text("Manufacturer"), scope.text("ManufacturerModelName")
    serial, uid, station = scope.text("DeviceSerialNumber"), scope.text("DeviceUID"), scope.text("StationName")
    if not (manufacturer or model or serial or uid or station):
        return None
    dialect = scope.context.dialect
    resource: Resource = {"resourceType": "Device"}
    identifiers = [identifier(oid(uid), URI)] if uid else []
    if serial:
        # a serial number is unique among the devices of one model only
        system, _ = issuer_system({}, " ".join(filter(None, (manufacturer, model))))
        identifiers.append(identifier(serial, system, "SNO"))
    if identifiers:
        resource["identifier"] = identifiers
    if manufacturer:
        resource["manufacturer"] = manufacturer
    if serial:
        dialect.put(resource, "Device.serialNumber", serial)
    if station:
        _put_device_name(scope.context, resource, station)
    if model:
        dialect.put(resource, "Device.model", model)
    versions = [{"value": version} for version in scope.texts("SoftwareVersions") if version]
    if versions:
        dialect.put(resource, "Device.version", versions)
    return _refer(scope.context, resource, " ".join(part for part in (manufacturer, model or station) if part))


def _put_device_name(context: Context, resource: Resource, name: str) -> None:
    named: Resource = {}
    context.dialect.put(named, "Device.name.value", name)
    context.dialect.put(named, "Device.name.type", _USER_FRIENDLY)
    context.dialect.put(resource, "Device.name", named)


_USER_FRIENDLY = Concept((Coding("user-friendly-name", "http://hl7.org/fhir/device-nametype"),))


def institution(scope: Scope) -> Resource | None:
    """The Organization of (0008,0080) Institution Name and (0008,0082) Institution Code Sequence."""
    name = scope.text("InstitutionName")
    item = scope.item("InstitutionCodeSequence")
    code = coding(item, scope.context.schemes) if item else None
    if not name and not code:
        return None
    resource: Resource = {"resourceType": "Organization"}
    if code:
        resource["identifier"] = [_identifier_of(code)]
        name = name or code.display or code.code
    resource["name"] = name
    return _refer(scope.context, resource, name)


def location(scope: Scope) -> Resource | None:
    """The Location: the room of (0040,0243) Performed Location, which is part of the department; else that alone."""
    room = scope.text("PerformedLocation")
    department = _department(scope)
    if not room:
        return department
    resource: Resource = {"resourceType": "Location", "identifier": [{"value": room}], "name": room}
    if department:
        resource["partOf"] = department
    return _refer(scope.context, resource, room)


def _department(scope: Scope) -> Resource | None:
    """The Location of (0008,1040) Institutional Department Name and (0008,1041), its type."""
    name = scope.text("InstitutionalDepartmentName")
    types = scope.concepts("InstitutionalDepartmentTypeCodeSequence")
    if not (name or types):
        return None
    resource: Resource = {"resourceType": "Location"}
    if name:
        resource["name"] = name
    if types:
        resource["type"] = [codeable_concept(type_) for type_ in types]
    return _refer(scope.context, resource, name)


def endpoint(scope: Scope) -> Resource | None:
    """The Endpoint of the archive's DICOMweb service, one for all studies."""
    url = scope.context.policy.dicomweb_url
    if not url:
        return None
    dialect = scope.context.dialect
    own = identifier(url, URI)
    resource: Resource = {
        "resourceType": "Endpoint",
        "id": deterministic_id("Endpoint", url),
        "identifier": [own],
        "status": "active",
    }
    dialect.put(resource, "Endpoint.connectionType", Concept((Coding("dicom-wado-rs", CONNECTION_TYPE),)))
    resource["name"] = scope.context.policy.endpoint_name
    study = Concept((Coding("113014", DCM, "Study"),))
    dialect.put(resource, "Endpoint.payloadType", study)
    dialect.put(resource, "Endpoint.payloadMimeType", _MIME_TYPE)
    dialect.put(resource, "Endpoint.payload", {"type": [codeable_concept(study)], "mimeType": [_MIME_TYPE]})
    resource["address"] = url
    return scope.context.add(Entry(resource, Write.UPSERT, search_by(own)))


_MIME_TYPE = "application/dicom"


def specimens(scope: Scope) -> list[Resource]:
    """Logical references to the specimens of a series (PS3.3 C.7.6.22): the bridge has no Specimen of its own to
    offer."""
    found = scope.items("SpecimenDescriptionSequence")
    if not found and scope.text("SpecimenIdentifier"):
        found = [scope.attrs]
    references = {}
    for item in found:
        value, uid = one(item.get("SpecimenIdentifier")), one(item.get("SpecimenUID"))
        if value:
            issued_by = first_item(item, "IssuerOfTheSpecimenIdentifierSequence")
            system, issuer = issuer_system(scope.context.policy.systems.specimen, "", issued_by)
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
