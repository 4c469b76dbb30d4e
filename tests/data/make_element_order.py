"""Write ``dicom2fhir/fhir/version/data/element_order.json``: ``python -m tests.data.make_element_order``.

What XML needs to know and JSON does not: the order of the elements, and the type of each; and which of them are lists.
From the same sources as ``elements.json``, see :mod:`tests.data.make_elements`. In the table are the resources that the
bridge writes, those that an ImagingStudy may refer to (somebody may have put one inside it), and every datatype in
them.

``version -> type -> element -> datatype``, the elements in the order of the schema. A type is a resource, a datatype or
the path of an element that has elements of its own; a name that ends in ``[x]`` has several datatypes; ``@`` marks what
is an attribute in XML, ``*`` what is a list.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.data.make_elements import Definition, all_definitions

TABLE = Path(__file__).parents[2] / "dicom2fhir" / "fhir" / "version" / "data" / "element_order.json"

_WRITTEN = (
    "Bundle", "ImagingStudy", "Patient", "Practitioner", "Organization", "Location", "Device", "Endpoint",
    "Observation", "Medication", "MedicationAdministration", "ImagingSelection", "ImagingManifest",
    "ImagingObjectSelection", "Basic", "DocumentReference", "DiagnosticReport", "Procedure",
)  # fmt: skip
_BACKBONE = {"id": "@string", "extension": "Extension*", "modifierExtension": "Extension*"}
_ABSTRACT = {"BackboneElement", "BackboneType", "Element", "Resource"}
_Type = dict[str, str]


def _types_of(definitions: dict[str, list[Definition]]) -> dict[str, _Type]:
    referred = {target for definition in definitions["ImagingStudy"] for target in definition.targets}
    wanted = [name for name in (*_WRITTEN, "Element", *sorted(referred - {*_WRITTEN})) if name in definitions]
    table: dict[str, _Type] = {}
    for name in wanted:  # grows on the way
        types = _elements_of(name, definitions)
        table.update(types)
        for element_types in (types_ for type_ in types.values() for types_ in type_.values()):
            for datatype in element_types.strip("@*").split("|"):
                if datatype[0].isupper() and "." not in datatype and datatype not in {*wanted, *_ABSTRACT}:
                    wanted.append(datatype)
    return table


def _elements_of(name: str, definitions: dict[str, list[Definition]]) -> dict[str, _Type]:
    """The type and, by their paths, those of its elements that have elements."""
    table: dict[str, _Type] = {name: {}}
    lists = {definition.path for definition in definitions[name] if definition.cardinality.endswith("*")}
    for definition in definitions[name][1:]:
        parent, _, element = definition.path.rpartition(".")
        types = "|".join(definition.types)
        table.setdefault(parent, {})[element] = f"@{types}" if definition.is_attribute else types
    for path, elements in table.items():
        if "." in path and "extension" not in elements:  # the lists of the ballots leave out what it begins with
            table[path] = {**_BACKBONE, **elements}
        for element in elements:
            if f"{path}.{element}" in table:
                table[path][element] = f"{path}.{element}"
    for definition in definitions[name]:
        if same_as := definition.same_as:
            parent, _, element = definition.path.rpartition(".")
            table[parent][element] = same_as if "." in same_as else f"{name}.{same_as}"  # so before STU3
            assert table[parent][element] in table, definition
    for path in lists - {name}:
        parent, _, element = path.rpartition(".")
        table[parent][element] += "*"
    return table


def main() -> None:
    """Run the command."""
    table = {version: _types_of(definitions) for version, definitions in all_definitions().items()}
    lines = [
        f' "{version}": {{\n'
        + ",\n".join(f'  "{name}": {json.dumps(elements)}' for name, elements in types.items())
        + "\n }"
        for version, types in table.items()
    ]
    source = json.dumps("tests/data/make_element_order.py says where this is from and what it means")
    TABLE.write_text(f'{{\n "_source": {source},\n' + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
