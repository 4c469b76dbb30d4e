"""Studies whose FHIR stands in files: ``testdata/cases/*/expected.*.json``.

When a change of the output is meant, ``make golden`` writes the files again and shows the difference.
"""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.version.validate import check
from dicom2fhir.fhir.version.xml import dump_xml
from dicom2fhir.model import Resource
from dicom2fhir.wiring.options import profile, profile_names
from testdata.make_cases import CASES, expected_file, mapped, outcome, variants, version_of
from tests.fhir_xml import check_order, values_of_json, values_of_xml
from tests.invariants import to_be_written, violations

ALL = [(case, variant) for case in CASES for variant in variants(case)]


def expected(case: str, variant: str) -> str:
    return expected_file(case, "R4" if variant == "R4B" else variant).read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_output_is_the_expected_one_and_good_fhir(case: str) -> None:
    """One test for each case: its variants have resources in common, and each is checked once in a version."""
    checked: set[tuple[str, str]] = set()
    for variant in (*variants(case), "R4B"):
        text = outcome(case, variant)
        assert text == expected(case, variant), f"{variant}: if meant, run: make golden"
        if text.startswith("{"):
            continue
        result, version = mapped(case, variant), version_of(variant)
        assert violations(result, version) == [], variant
        for resource in to_be_written(entry.resource for entry in result.everything):
            if (key := (version, json.dumps(resource))) not in checked:
                checked.add(key)
                assert check(resource, version) == [], variant
                says_the_same_in_xml(resource, version, indent=True)
        says_the_same_in_xml(standalone(result), version, indent=False)


def says_the_same_in_xml(resource: Resource, version: str, *, indent: bool) -> None:
    document = dump_xml(resource, version, indent=indent)
    assert (b"\n" in document) is indent
    root = ElementTree.fromstring(document)
    assert values_of_xml(root) == values_of_json(resource)
    check_order(root, resource["resourceType"], version)


@pytest.mark.parametrize("case", CASES)
def test_r4b_is_r4_word_for_word(case: str) -> None:
    assert mapped(case, "R4B").everything == mapped(case, "R4").everything


def test_every_profile_has_twelve_cases_in_each_of_its_versions() -> None:
    for name in profile_names():
        for version in profile(name).versions:
            found = [
                case for case, variant in ALL if variant.partition(".")[0] == name and version_of(variant) == version
            ]
            assert len(found) >= 12, (name, version)


def test_there_is_no_expected_output_without_a_case() -> None:
    assert len(CASES) >= 25
    folders = {expected_file(case, "R4").parent for case in CASES}
    assert folders == {path for path in expected_file(CASES[0], "R4").parents[1].iterdir() if path.is_dir()}
