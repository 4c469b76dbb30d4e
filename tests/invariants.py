"""What must hold of every study in every FHIR version; each function gives what is wrong, and nothing when all is well.

The rules ist-1 to ist-6, and that no series starts before its study (FHIR-53726), are those of ImagingStudy in FHIR R6
(``source/imagingstudy/invariant-tests``), which the bridge keeps in every version; ist-7 holds from R5 on, before that
the study lists acquisition modalities only. dom-2 and dom-3 are those of DomainResource.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from dicom2fhir.fhir.send import bundle
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Resource

ELEMENTS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("data").joinpath("elements.json").read_text())
"""FHIR version -> element path -> cardinality and types, by HL7's own StructureDefinitions."""


SECONDARY = frozenset(
    {
        "ImagingSelection",
        "ImagingManifest",
        "ImagingObjectSelection",
        "Basic",
        "DocumentReference",
        "Observation",
        "DiagnosticReport",
        "Procedure",
    }
)
_SOUGHT = frozenset({"ServiceRequest", "ProcedureRequest", "Encounter"})


def context_group(cid: int) -> set[str]:
    """The codes of DCM in a context group of PS3.16, as pydicom has it."""
    tables: Any = (cid_concepts, concepts)
    groups, codes = tables
    return {code for name in groups[cid]["DCM"] for code in codes["DCM"][name]}


ACQUISITION = context_group(29)
DCM = ("http://dicom.nema.org/resources/ontology/DCM", "http://nema.org/dicom/dicm")
"""The system of its codes from STU3 on, and before."""


def violations(mapped: Mapped, version: str) -> list[str]:
    """Everything that is wrong with a study's resources."""
    # what no server has by then stands inside the study, and refers to what else is inside it
    every = mapped.everything
    inside = {e.placeholder: bundle.unlinked(e) for e in every if e.write is Write.LINK and e.inside}
    resources = [bundle.refer(entry.resource, inside, every) for entry in every if entry.placeholder not in inside]
    study = resources[0]
    return [
        *imaging_study_violations(study),
        *modality_violations(study, all_of_them=version in ("R5", "R6")),
        *reference_violations(resources),
        *(wrong for resource in to_be_written(resources) for wrong in element_violations(resource, version)),
    ]


def to_be_written(resources: Iterable[Resource]) -> list[Resource]:
    """The resources without those that are only looked for, which say no more than by what they are found."""
    return [resource for resource in resources if not is_sought(resource)]


def is_sought(resource: Resource) -> bool:
    """Whether a resource says no more than by what it is found; so an ImagingStudy of another study."""
    return resource["resourceType"] in _SOUGHT or (
        resource["resourceType"] == "ImagingStudy" and "numberOfSeries" not in resource
    )


def imaging_study_violations(study: Resource) -> Iterator[str]:
    """ist-1 to ist-6, and no series before its study."""
    series = study.get("series", [])
    uids = [i for i in study.get("identifier", []) if i.get("system") == "urn:dicom:uid"]
    uids += [study["uid"]] if "uid" in study else []  # up to 3.2.0
    if series and not uids:
        yield "ist-1: series but no Study Instance UID"
    if len(uids) > 1:
        yield "ist-2: several Study Instance UIDs"
    if "numberOfSeries" in study and study["numberOfSeries"] != len(series):
        yield "ist-3: numberOfSeries is not the number of series"
    if sum(s["numberOfInstances"] for s in series) != study["numberOfInstances"]:
        yield "ist-4: numberOfInstances is not the sum of the series"
    # an operator may leave the lists out (fhir.max_instances); the counts stay
    if any("instance" in s and len(s["instance"]) != s["numberOfInstances"] for s in series):
        yield "ist-5: a series' numberOfInstances is not the number of its instances"
    if series and not ("numberOfSeries" in study and all("numberOfInstances" in s for s in series)):
        yield "ist-6: a count is missing"
    if any(_is_before(s["started"], study["started"]) for s in series if "started" in s and "started" in study):
        yield "FHIR-53726: a series starts before its study"


_PLACEHOLDER = "1000-01-01"
"""Of OSIRIS for a date that nobody knows."""


def _is_before(series: str, study: str) -> bool:
    """Whether the dateTime of a series comes before that of its study, as far as both are known."""
    if "T" in series and "T" in study:
        return datetime.fromisoformat(series) < datetime.fromisoformat(study)
    precise = min(len(series), len(study), len(_PLACEHOLDER))
    return series != _PLACEHOLDER and series[:precise] < study[:precise]


def modality_violations(study: Resource, all_of_them: bool) -> Iterator[str]:
    """ist-7, or what the definition of the element says up to R4B; a code of a profile's own may stand for either."""
    modalities = [_text(modality) for modality in study.get("modality") or study.get("modalityList") or []]
    of_series = [series["modality"] for series in study.get("series", [])]
    wanted = {_text(modality) for modality in of_series if all_of_them or modality.get("code") in ACQUISITION}
    # codes of a profile, and OT for a modality that its value set does not have
    own = {_text(one) for one in of_series if one.get("system", DCM[0]) not in DCM or one.get("code") == "OT"}
    if len(set(modalities)) != len(modalities) or not wanted <= set(modalities) <= wanted | own:
        yield "ist-7: the study's modalities are not those of its series, each once"


def reference_violations(resources: list[Resource]) -> Iterator[str]:
    """Each contained resource is referred to (dom-3) and contains none (dom-2), and each reference leads somewhere."""
    for resource in resources:
        contained = {f"#{c['id']}" for c in resource.get("contained", [])}
        references = set(_references(resource))
        if {r for r in references if r.startswith("#")} != contained:
            yield "dom-3: contained resources and references to them differ"
        if any("contained" in c for c in resource.get("contained", [])):
            yield "dom-2: a contained resource contains another"
        if not {r for r in references if not r.startswith("#")} <= {f"urn:uuid:{r['id']}" for r in resources}:
            yield "a reference leads nowhere"
    referred = {reference for resource in resources for reference in _references(resource)}
    others = [one for one in resources[1:] if one["resourceType"] not in SECONDARY]
    if any(f"urn:uuid:{resource['id']}" not in referred for resource in others):
        yield "a resource that nothing refers to"


def element_violations(resource: Resource, version: str) -> Iterator[str]:
    """Every element exists in the version, repeats only where it may, and is there where it must be."""
    yield from _elements(resource, resource["resourceType"], version)
    for contained in resource.get("contained", []):
        yield from element_violations(contained, version)


def _elements(node: Resource, path: str, version: str) -> Iterator[str]:
    table, required = ELEMENTS[version], _required(version)
    for name, value in node.items():
        if name == "resourceType" or (name == "extension" and "." in path):  # every element may have one
            continue
        own = f"{path}.{name.removeprefix('_')}"  # what is said of a primitive stands beside it
        known = table.get(own) or _choice(own, table)
        if known is None:
            yield f"{path}.{name} is no element"
            continue
        cardinality, types = known.split(" ")
        if isinstance(value, list) is not cardinality.endswith("*"):
            yield f"{path}.{name} is {'a list' if isinstance(value, list) else 'no list'}"
        if value in ("", [], {}) or value is None:
            yield f"{path}.{name} is empty"
        if types == "BackboneElement":
            for item in value if isinstance(value, list) else [value]:
                yield from _elements(item, f"{path}.{name}", version)
    keys = [key.removeprefix("_") for key in node]
    for name in required.get(path, ()):
        there = any(key.startswith(name[:-3]) for key in keys) if name.endswith("[x]") else name in keys
        if not there:
            yield f"{path}.{name} is missing"


@cache
def _required(version: str) -> dict[str, list[str]]:
    """Path -> its children that must be there."""
    found: dict[str, list[str]] = {}
    for child, cardinality in ELEMENTS[version].items():
        parent, _, name = child.rpartition(".")
        if cardinality.startswith("1"):
            found.setdefault(parent, []).append(name)
    return found


def _choice(path: str, table: dict[str, str]) -> str | None:
    """The entry of ``Observation.effective[x]`` for ``Observation.effectiveDateTime``."""
    ends = (end for end in range(len(path) - 1, path.rindex("."), -1) if path[end].isupper())
    return next((table[f"{path[:end]}[x]"] for end in ends if f"{path[:end]}[x]" in table), None)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
