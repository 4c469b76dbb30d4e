"""Studies whose FHIR stands in files: ``testdata/cases/*/expected.*.json``.

When a change of the output is meant, ``python -m testdata.make_cases`` writes the files again and shows the difference.
"""

from __future__ import annotations

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.dialects import DIALECTS
from dicom2fhir.fhir.validate import check
from testdata.make_cases import CASES, VERSIONS, expected_file, mapped, outcome
from tests.invariants import violations


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_output_is_the_expected_one(case: str, version: str) -> None:
    expected = expected_file(case, version).read_text()
    assert outcome(case, version) == expected, "if meant, run: python -m testdata.make_cases"


@pytest.mark.parametrize("case", CASES)
def test_r4b_is_r4_word_for_word(case: str) -> None:
    assert mapped(case, "R4B") == mapped(case, "R4")


@pytest.mark.parametrize("version", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_the_rules_of_fhir_hold(case: str, version: str) -> None:
    if expected_file(case, "R4" if version == "R4B" else version).read_text().startswith("{"):
        with pytest.raises(NotExpressible):
            mapped(case, version)
        return
    result = mapped(case, version)
    assert violations(result, version) == []
    assert [note for entry in result.entries for note in check(entry.resource, version)] == []


def test_there_is_no_expected_output_without_a_case() -> None:
    assert len(CASES) >= 25
    folders = {expected_file(case, "R4").parent for case in CASES}
    assert folders == {path for path in expected_file(CASES[0], "R4").parents[1].iterdir() if path.is_dir()}
