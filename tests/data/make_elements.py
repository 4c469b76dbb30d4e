"""Write ``elements.json`` and ``references.json``: ``python -m tests.data.make_elements``.

They say what HL7's StructureDefinitions say of the resources that the bridge writes, and of the datatypes in them:
element -> cardinality and types, and what a reference may point at. The definitions of DSTU2 to R5 are read from the
packages that the validator of the tests brings along. FHIR 3.2.0 and R6 (6.0.0-ballot3) are in none of them: their
ImagingStudy and the Device and ImagingSelection of R6 stand below, everything else is that of STU3 and R5. What the
bridge writes of Patient, Practitioner, Organization and Endpoint is the same in 6.0.0-ballot3; its Location was not
seen.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
_RUN = HERE.parent / "servers" / "validator" / "run.sh"
_FHIR = "{http://hl7.org/fhir}"
_PACKAGES = {
    "DSTU2": ("dstu2", "org/hl7/fhir/instance/model/profile/"),
    "1.4.0": ("dstu2.1", "org/hl7/fhir/dstu2016may/model/profile/"),
    "STU3": ("dstu3", "org/hl7/fhir/dstu3/model/profile/"),
    "R4": ("r4", "org/hl7/fhir/r4/model/profile/"),
    "R4B": ("r4b", "org/hl7/fhir/r4b/model/profile/"),
    "R5": ("r5", "org/hl7/fhir/r5/packages/hl7.fhir.r5.core-5.0.0.tgz"),
}
_VERSIONS = ("DSTU2", "1.4.0", "STU3", "3.2.0", "R4", "R4B", "R5", "R6")
_RESOURCES = (
    "ImagingStudy", "Patient", "Practitioner", "Organization", "Location", "Device", "Endpoint",
    "Observation", "Medication", "MedicationAdministration", "DiagnosticOrder", "PractitionerRole",
    "ImagingSelection", "ImagingManifest", "ImagingObjectSelection", "Basic", "DocumentReference", "DiagnosticReport",
    "BodyStructure", "Procedure",
)  # fmt: skip
_VALUES = ("Coding", "CodeableConcept", "Quantity", "Reference", "Identifier", "Period", "Range", "Ratio")
"""Datatypes that the bridge puts into extensions; ``Extension.value[x]`` alone would ask for all that there are."""

_3_2_0 = """
uid 1..1 oid
accession 0..1 Identifier
identifier 0..* Identifier
availability 0..1 code
modalityList 0..* Coding
subject 1..1 Reference Patient|Device|Group
context 0..1 Reference Encounter|EpisodeOfCare
started 0..1 dateTime
basedOn 0..* Reference CarePlan|ServiceRequest
referrer 0..1 Reference Practitioner
interpreter 0..* Reference Practitioner
endpoint 0..* Reference Endpoint
numberOfSeries 0..1 unsignedInt
numberOfInstances 0..1 unsignedInt
procedureReference 0..* Reference Procedure
procedureCode 0..* CodeableConcept
reason 0..1 CodeableConcept
description 0..1 string
series 0..* BackboneElement
series.uid 1..1 oid
series.number 0..1 unsignedInt
series.modality 1..1 Coding
series.description 0..1 string
series.numberOfInstances 0..1 unsignedInt
series.availability 0..1 code
series.endpoint 0..* Reference Endpoint
series.bodySite 0..1 Coding
series.laterality 0..1 Coding
series.specimen 0..* Reference Specimen
series.started 0..1 dateTime
series.performer 0..* Reference Practitioner|PractitionerRole|Patient|Organization|RelatedPerson
series.instance 0..* BackboneElement
series.instance.uid 1..1 oid
series.instance.number 0..1 unsignedInt
series.instance.sopClass 1..1 oid
series.instance.title 0..1 string
"""
"""ImagingStudy by the FHIR Schema of hl7.fhir.core 3.2.0."""

_R6 = """
identifier 0..* Identifier
status 1..1 code
modality 0..* CodeableConcept
subject 1..1 Reference Patient|Device|Group
encounter 0..1 Reference Encounter
started 0..1 dateTime
basedOn 0..* Reference CarePlan|ServiceRequest|Appointment|Task
partOf 0..* Reference Procedure
referrer 0..1 Reference Practitioner|PractitionerRole
endpoint 0..* Reference Endpoint
procedure 0..* CodeableReference PlanDefinition|ActivityDefinition
location 0..1 Reference Location
reason 0..* CodeableReference Condition|Observation|DiagnosticReport|DocumentReference
note 0..* Annotation
description 0..1 string
numberOfSeries 0..1 unsignedInt
numberOfInstances 0..1 unsignedInt
series 0..* BackboneElement
series.uid 1..1 id
series.number 0..1 unsignedInt
series.modality 1..1 CodeableConcept
series.description 0..1 string
series.numberOfInstances 0..1 unsignedInt
series.endpoint 0..* Reference Endpoint
series.bodySite 0..1 CodeableReference BodyStructure
series.laterality 0..1 CodeableConcept
series.specimen 0..* Reference Specimen
series.started 0..1 dateTime
series.performer 0..* BackboneElement
series.performer.function 0..1 CodeableConcept
series.performer.actor 1..1 Reference Practitioner|PractitionerRole|Organization|CareTeam|Patient|Device|RelatedPerson|HealthcareService
series.instance 0..* BackboneElement
series.instance.uid 1..1 id
series.instance.sopClass 1..1 oid
series.instance.number 0..1 unsignedInt
series.instance.title 0..1 string
"""  # noqa: E501
"""ImagingStudy by HL7/fhir@011fb9ff ``source/imagingstudy/structuredefinition-ImagingStudy.xml``; the element list is
that of 6.0.0-ballot3."""

_R6_SELECTION = """
identifier 0..* Identifier
status 1..1 code
category 0..* CodeableConcept
code 1..1 CodeableConcept
subject 0..1 Reference Patient|Group|Device|Procedure|Practitioner|Medication|Substance|Specimen
issued 0..1 instant
performer 0..* BackboneElement
performer.function 0..1 CodeableConcept
performer.actor 0..1 Reference Practitioner|PractitionerRole|Device|Organization|CareTeam|Patient|RelatedPerson|HealthcareService
basedOn 0..* Reference CarePlan|ServiceRequest|Appointment|Task
derivedFrom 0..1 Reference ImagingStudy|DocumentReference
studyUid 0..1 id
seriesUid 0..1 id
seriesNumber 0..1 unsignedInt
frameOfReferenceUid 0..1 id
bodySite 0..* CodeableReference BodyStructure
focus 0..* Reference ImagingSelection
endpoint 0..* Reference Endpoint
instance 0..* BackboneElement
instance.uid 1..1 id
instance.number 0..1 unsignedInt
instance.sopClass 0..1 oid
instance.subset 0..* string
instance.imageRegion2D 0..* BackboneElement
instance.imageRegion2D.regionType 1..1 code
instance.imageRegion2D.coordinate 1..* decimal
imageRegion3D 0..* BackboneElement
imageRegion3D.regionType 1..1 code
imageRegion3D.coordinate 1..* decimal
"""  # noqa: E501
"""ImagingSelection by HL7/fhir@011fb9ff ``source/imagingselection/structuredefinition-ImagingSelection.xml``."""

_R6_DEVICE = """
identifier 0..* Identifier
definition 0..1 Reference DeviceDefinition
udiCarrier 0..* BackboneElement
udiCarrier.deviceIdentifier 1..1 string
udiCarrier.deviceIdentifierSystem 0..1 uri
udiCarrier.issuer 1..1 uri
udiCarrier.jurisdiction 0..1 uri
udiCarrier.carrierAIDC 0..1 base64Binary
udiCarrier.carrierHRF 0..1 string
udiCarrier.entryType 0..1 code
status 0..1 code
availabilityStatus 0..1 CodeableConcept
biologicalSourceEvent 0..1 Identifier
manufacturer 0..1 string
manufactureDate 0..1 dateTime
expirationDate 0..1 dateTime
lotNumber 0..1 string
serialNumber 0..1 string
name 0..* BackboneElement
name.value 1..1 string
name.type 1..1 CodeableConcept
name.display 0..1 boolean
modelNumber 0..1 string
partNumber 0..1 string
category 0..* CodeableConcept
type 0..* CodeableConcept
deviceVersion 0..* BackboneElement
deviceVersion.type 0..1 CodeableConcept
deviceVersion.component 0..1 Identifier
deviceVersion.installDate 0..1 dateTime
deviceVersion.value 1..1 string
conformsTo 0..* BackboneElement
conformsTo.category 0..1 CodeableConcept
conformsTo.specification 1..1 CodeableConcept
conformsTo.version 0..1 string
property 0..* BackboneElement
property.type 1..1 CodeableConcept
property.value[x] 1..1 Quantity|CodeableConcept|string|boolean|integer|Range|Attachment
additive 0..* BackboneElement
additive.type 1..1 CodeableReference
additive.quantity 0..1 Quantity
additive.performer 0..1 Reference
additive.performed 0..1 dateTime
contact 0..* ContactPoint
location 0..1 Reference Location
note 0..* Annotation
safety 0..* CodeableConcept
parent 0..1 Reference Device
"""
"""Device of 6.0.0-ballot3, as public code has it that was generated from the package of that ballot."""


class Definition(NamedTuple):
    """One element."""

    path: str
    cardinality: str
    types: tuple[str, ...]
    targets: tuple[str, ...]
    same_as: str = ""
    """Name or path of the element whose content it has."""
    is_attribute: bool = False
    """In XML."""


def _jars() -> list[Path]:
    said = subprocess.run([_RUN, "classpath"], capture_output=True, text=True, check=True).stdout
    return [Path(jar) for jar in said.strip().split(":")]


def _definitions(version: str, jars: Iterable[Path]) -> dict[str, list[Definition]]:
    """Type -> its elements, of every resource and datatype."""
    artifact, inside = _PACKAGES[version]
    (jar,) = (path for path in jars if path.name.startswith(f"hapi-fhir-validation-resources-{artifact}-"))
    found: dict[str, list[Definition]] = {}
    with zipfile.ZipFile(jar) as archive:
        if inside.endswith(".tgz"):
            found.update(_of_package(archive.read(inside)))
            return found
        for name in archive.namelist():
            if name.startswith(inside) and re.search(r"(/profiles-(resources|types)|\.profile)\.xml$", name):
                for structure in ElementTree.fromstring(archive.read(name)).iter(f"{_FHIR}StructureDefinition"):
                    if _value(structure, "derivation") == "constraint" or _value(structure, "constrainedType"):
                        continue
                    elements = [_of_xml(e) for e in structure.findall(f"{_FHIR}snapshot/{_FHIR}element")]
                    if elements and elements[0].path == _value(structure, "name"):
                        found[elements[0].path] = elements
    return found


def _of_package(content: bytes) -> Iterator[tuple[str, list[Definition]]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        for member in package:
            if re.fullmatch(r"package/StructureDefinition-\w+\.json", member.name):
                file = package.extractfile(member)
                assert file is not None
                structure = json.load(file)
                if structure.get("derivation") != "constraint":
                    yield structure["name"], [_of_json(e) for e in structure["snapshot"]["element"]]


def _value(node: ElementTree.Element, name: str) -> str:
    child = node.find(_FHIR + name)
    return "" if child is None else child.get("value", "")


def _of_xml(element: ElementTree.Element) -> Definition:
    types, targets = [], []
    for type_ in element.findall(f"{_FHIR}type"):
        types.append(_value(type_, "code"))
        targets += [
            child.get("value", "") for name in ("targetProfile", "profile") for child in type_.findall(_FHIR + name)
        ]
    found = _definition(_value(element, "path"), _value(element, "min"), _value(element, "max"), types, targets)
    return found._replace(
        same_as=_value(element, "nameReference") or _value(element, "contentReference").removeprefix("#"),
        is_attribute=_value(element, "representation") == "xmlAttr",
    )


def _of_json(element: dict[str, Any]) -> Definition:
    types = element.get("type", [])
    targets = [target for type_ in types for target in type_.get("targetProfile", [])]
    found = _definition(
        element["path"], str(element["min"]), element["max"], [type_["code"] for type_ in types], targets
    )
    return found._replace(
        same_as=element.get("contentReference", "").rpartition("#")[2],
        is_attribute="xmlAttr" in element.get("representation", ()),
    )


def _definition(path: str, low: str, high: str, types: list[str], targets: list[str]) -> Definition:
    if any(type_.startswith("http://hl7.org/fhirpath/") for type_ in types) or types == [""]:
        # "a primitive, as in the schema": of the elements that we meet, only these
        types = ["uri" if path == "Extension.url" else "id" if path.split(".")[0] in _RESOURCES else "string"]
    names = [target.rsplit("/", 1)[1] for target in targets]
    return Definition(path, f"{low}..{high}", tuple(dict.fromkeys(types)), tuple(dict.fromkeys(names)))


def _of_text(name: str, text: str) -> Iterator[Definition]:
    for line in text.strip().splitlines():
        path, cardinality, types, *targets = line.split(" ")
        of = tuple(targets[0].split("|")) if targets else ()
        yield Definition(f"{name}.{path}", cardinality, tuple(types.split("|")), of)


def _resource(name: str, text: str, base: dict[str, list[Definition]]) -> list[Definition]:
    """A resource of a ballot: what every resource has, then its own elements."""
    inherited = re.compile(rf"{name}(\.(id|meta|implicitRules|language|text|contained|extension|modifierExtension))?")
    return [d for d in base[name] if inherited.fullmatch(d.path)] + list(_of_text(name, text))


def _needed(definitions: dict[str, list[Definition]]) -> list[Definition]:
    """The elements of our resources and of the datatypes in them, those that every element has left out."""
    wanted, chosen = [*(name for name in _RESOURCES if name in definitions), "Extension", *_VALUES], []
    for name in wanted:  # grows on the way
        for definition in definitions.get(name, [])[1:]:
            parts = definition.path.split(".")
            nested = len(parts) > 2 or name not in _RESOURCES
            if nested and parts[-1] in ("id", "extension", "modifierExtension"):
                continue
            chosen.append(definition)
            if definition.path != "Extension.value[x]":
                wanted += [t for t in definition.types if t[0].isupper() and t not in (*wanted, "Resource", *_ABSTRACT)]
    return chosen


_ABSTRACT = ("BackboneElement", "Element", "BackboneType")


def all_definitions() -> dict[str, dict[str, list[Definition]]]:
    """Version -> type -> its elements, the types of the ballots with those that they took over."""
    jars = _jars()
    definitions = {version: _definitions(version, jars) for version in _PACKAGES}
    for version, older, resources in (
        ("3.2.0", "STU3", {"ImagingStudy": _3_2_0}),
        ("R6", "R5", {"ImagingStudy": _R6, "ImagingSelection": _R6_SELECTION, "Device": _R6_DEVICE}),
    ):
        base = definitions[older]
        definitions[version] = base | {name: _resource(name, text, base) for name, text in resources.items()}
    return {version: definitions[version] for version in _VERSIONS}


def main() -> None:
    """Run the command."""
    elements: dict[str, Any] = {"_source": "tests/data/make_elements.py says where this is from"}
    references: dict[str, Any] = dict(elements)
    for version, definitions in all_definitions().items():
        needed = _needed(definitions)
        elements[version] = {d.path: f"{d.cardinality} {'|'.join(d.types)}" for d in needed}
        references[version] = {
            d.path: "|".join(d.targets) for d in needed if d.targets and d.path.split(".")[0] != "Extension"
        }
    for name, content in (("elements", elements), ("references", references)):
        (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
