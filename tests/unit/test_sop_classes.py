"""The table of SOP classes: each is the standard's, and no other module has its UID."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

import dicom2fhir
from dicom2fhir import sop_classes

ROOT = Path(dicom2fhir.__file__).parent
TABLE = {name: value for name, value in vars(sop_classes).items() if name.isupper() and isinstance(value, str)}
NAMES_OF_THE_STANDARD = {
    "STORAGE_COMMITMENT_PULL": "Storage Commitment Pull Model SOP Class",
    "MEDIA_STORAGE_DIRECTORY": "Media Storage Directory Storage",
    "INSTANCE_AVAILABILITY_NOTIFICATION": "Instance Availability Notification SOP Class",
    "KEY_OBJECT_SELECTION": "Key Object Selection Document Storage",
    "MODALITY_PERFORMED_PROCEDURE_STEP": "Modality Performed Procedure Step SOP Class",
    "VERIFICATION": "Verification SOP Class",
}
"""Of classes whose names here are shorter than the standard's without "Storage"."""


def literals(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("name", TABLE)
def test_a_sop_class_is_the_one_that_the_standard_names_so(name: str) -> None:
    named = NAMES_OF_THE_STANDARD.get(name, f"{name.replace('_', ' ')} Storage")
    found = UID(TABLE[name]).name.replace("-", " ")
    assert found.casefold() == named.casefold()


def test_the_uid_of_a_sop_class_stands_in_the_table_alone() -> None:
    elsewhere = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in ROOT.rglob("*.py")
        for text in (literals(path) if path != Path(sop_classes.__file__) else ())
        if UID_dictionary.get(text, ("", ""))[1] == "SOP Class"
    }
    assert not elsewhere
