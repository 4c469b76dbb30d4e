"""Write the StructureDefinitions of ``profiles.toml``: ``python -m tests.data.make_definitions``.

The validator of the tests reads them from ``definitions/VERSION/PROFILE/``. Those of OSIRIS 1.1.0 lie there too; they
were made in the same way from a table of its guide (https://ig-osiris.cancer.fr/ig/osiris, CC0-1.0), and stay as they
are.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

HERE = Path(__file__).parent
DEFINITIONS = HERE / "definitions"
_HL7 = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_VERSIONS = {"R4": "4.0.1", "R4B": "4.3.0", "R5": "5.0.0"}


def definitions() -> dict[Path, str]:
    """Every file with its text."""
    written = {}
    for name, profile in tomllib.loads((HERE / "profiles.toml").read_text("utf-8")).items():
        for version in profile["versions"]:
            made = (*_profile(profile, version), *_related(profile, version), *_extensions(profile, version))
            for resource in made:
                path = DEFINITIONS / version / name / f"StructureDefinition-{resource['id']}.json"
                written[path] = json.dumps(resource, indent=1, ensure_ascii=False) + "\n"
    return written


def _definition(url: str, version: str, type_: str, origin: str, elements: list[dict[str, Any]]) -> dict[str, Any]:
    id_ = url.rsplit("/", 1)[1]
    return {
        "resourceType": "StructureDefinition",
        "id": id_,
        "url": url,
        "name": id_.replace("-", "_"),
        "status": "draft",
        "description": f"Written for tests from what is known of {origin}",
        "fhirVersion": _FHIR_VERSIONS[version],
        "kind": "complex-type" if type_ == "Extension" else "resource",
        "abstract": False,
        "type": type_,
        "baseDefinition": _HL7 + type_,
        "derivation": "constraint",
        "differential": {"element": elements},
    }


def _profile(profile: dict[str, Any], version: str) -> Iterator[dict[str, Any]]:
    if "url" not in profile:
        return
    type_ = profile.get("type", "ImagingStudy")
    url = profile["url"].format(version=version.lower())
    yield _definition(url, version, type_, profile["origin"], _elements(type_, profile, url))


def _related(profile: dict[str, Any], version: str) -> Iterator[dict[str, Any]]:
    for name, facts in profile.get("related", {}).items():
        url = urljoin(profile["url"].format(version=version.lower()), name)
        yield _definition(url, version, facts["type"], profile["origin"], _elements(facts["type"], facts, url))


def _elements(type_: str, profile: dict[str, Any], url: str) -> list[dict[str, Any]]:
    root: dict[str, Any] = {"id": type_, "path": type_}
    if constraints := profile.get("constraints"):
        root["constraint"] = [
            {"key": key, "severity": "error", "human": key, "expression": expression}
            for key, expression in constraints.items()
        ]
    elements = [root]
    for below, facts in profile.get("elements", {}).items():
        path = f"{type_}.{below}"
        element = {"id": path, "path": path, **{key: facts[key] for key in ("min", "max") if key in facts}}
        if targets := facts.get("targets"):
            profiles = [_HL7 + target if target.isalpha() else urljoin(url, target) for target in targets]
            element["type"] = [{"code": "Reference", "targetProfile": profiles}]
        if value_set := facts.get("binding"):
            element["binding"] = {"strength": "required", "valueSet": value_set}
        elements.append(element)
    return elements


def _extensions(profile: dict[str, Any], version: str) -> Iterator[dict[str, Any]]:
    for name, facts in profile.get("extensions", {}).items():
        url = urljoin(profile["extensions_base"], name)
        root: dict[str, Any] = {"id": "Extension", "path": "Extension"}
        if facts.get("modifier"):
            root |= {"isModifier": True, "isModifierReason": "as the element that it stands for"}
        fixed = {"id": "Extension.url", "path": "Extension.url", "fixedUri": url}
        elements = [root, *_content(facts, fixed, profile.get("units", {}))]
        yield {
            **_definition(url, version, "Extension", profile["origin"], elements),
            "context": [{"type": "element", "expression": facts["context"]}],
        }


def _content(facts: dict[str, Any], url: dict[str, Any], units: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The elements of an extension: its parts or its value, and its URL."""
    below, value = "Extension.extension", "Extension.value[x]"
    if parts := facts.get("parts"):
        slicing = {"discriminator": [{"type": "value", "path": "url"}], "rules": "closed"}
        yield {"id": below, "path": below, "min": 1, "slicing": slicing}
        for part, spec in parts.items():
            yield from _part(part, spec, units)
        yield url
        yield {"id": value, "path": value, "max": "0"}
    elif "value" in facts:
        yield {"id": below, "path": below, "max": "0"}
        yield url
        yield _value(value, value, facts["value"], facts.get("unit"), units)
    else:
        yield url


def _part(name: str, spec: dict[str, Any], units: dict[str, str]) -> Iterator[dict[str, Any]]:
    id_, path = f"Extension.extension:{name}", "Extension.extension"
    yield {"id": id_, "path": path, "sliceName": name, "min": spec.get("min", 0), "max": spec["max"]}
    yield {"id": f"{id_}.extension", "path": f"{path}.extension", "max": "0"}
    yield {"id": f"{id_}.url", "path": f"{path}.url", "fixedUri": name}
    yield _value(f"{id_}.value[x]", f"{path}.value[x]", spec["type"], spec.get("unit"), units)
    if system := spec.get("system"):
        coding = {"id": f"{id_}.value[x].coding", "path": f"{path}.value[x].coding"}
        yield coding | {"min": 1}
        yield {key: f"{value}.system" for key, value in coding.items()} | {"min": 1, "fixedUri": system}


def _value(id_: str, path: str, type_: str, unit: str | None, units: dict[str, str]) -> dict[str, Any]:
    element = {"id": id_, "path": path, "min": 1, "type": [{"code": type_}]}
    if unit:
        text = {"unit": units[unit]} if unit in units else {}
        element["patternQuantity"] = {**text, "system": "http://unitsofmeasure.org", "code": unit}
    return element


def main() -> None:
    """Run the command."""
    for path, text in definitions().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
