"""Studies whose FHIR stands in files: ``testdata/cases/*/expected.*.json``.

When a change of the output is meant, ``python -m testdata.make_cases`` writes the files again and shows the difference.
"""

from __future__ import annotations

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapping.engine import MAPPING_REVISION
from dicom2fhir.fhir.version.validate import check
from dicom2fhir.wiring.options import profile, profile_names
from testdata.make_cases import CASES, expected_file, mapped, outcome, variants, version_of
from tests.data import make_mapping
from tests.data.snapshots import Snapshot
from tests.invariants import to_be_written, violations

ALL = [(case, variant) for case in CASES for variant in variants(case)]


@pytest.mark.parametrize(("case", "variant"), ALL)
def test_the_output_is_the_expected_one(case: str, variant: str) -> None:
    expected = expected_file(case, variant).read_text()
    assert outcome(case, variant) == expected, "if meant, run: python -m testdata.make_cases"


def test_a_mapping_with_other_output_has_another_revision() -> None:
    kept, now = Snapshot.read(make_mapping.SNAPSHOT), make_mapping.observe()
    if kept.fingerprint == str(MAPPING_REVISION):
        changed = kept.differences(now)
        assert changed == [], (
            "raise MAPPING_REVISION (dicom2fhir/fhir/mapping/engine.py): status tells older deliveries by it"
        )
    assert kept == now, "the golden files are others: python -m tests.data.make_mapping takes their snapshot anew"


@pytest.mark.parametrize("case", CASES)
def test_r4b_is_r4_word_for_word(case: str) -> None:
    assert mapped(case, "R4B").entries == mapped(case, "R4").entries


@pytest.mark.parametrize(("case", "variant"), [*ALL, *((case, "R4B") for case in CASES)])
def test_the_rules_of_fhir_hold(case: str, variant: str) -> None:
    version = version_of(variant)
    if expected_file(case, "R4" if variant == "R4B" else variant).read_text().startswith("{"):
        with pytest.raises(NotExpressible):
            mapped(case, variant)
        return
    result = mapped(case, variant)
    assert violations(result, version) == []
    resources = to_be_written(entry.resource for entry in result.entries)
    assert [note for resource in resources for note in check(resource, version)] == []


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
