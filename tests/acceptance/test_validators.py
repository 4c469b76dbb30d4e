"""Every checker that there is finds no error in anything that delivery writes, and each warning is explained."""

from __future__ import annotations

import pytest

from dicom2fhir.model import Resource
from testdata.make_cases import mapped
from tests import guides
from tests.conformance import PAGE, page, refuted
from tests.conformance_cases import Output, by_profile, claiming_share, generated, golden, profiled_outputs
from tests.conformance_check import Result, check, known_warnings
from tests.servers.validator.validator import Question, Validator

pytestmark = pytest.mark.timeout(900)
"""The first of these tests waits for all checks, two minutes on two cores that have nothing else to do."""


@pytest.fixture(scope="module")
def result(validator: Validator) -> Result:
    return check([*golden(), *generated()], by_profile(), validator)


def test_there_is_no_error(result: Result) -> None:
    assert [f"{output}: {error}" for output, errors in result.errors.items() for error in errors] == []


@pytest.mark.skipif(not guides.are_there(), reason=guides.NOT_FOUND)
def test_what_claims_a_profile_conforms_by_its_guides_own_definitions(result: Result) -> None:
    assert refuted(result) == []


def test_each_warning_is_explained(result: Result) -> None:
    assert result.unexplained == [], "remove the cause, or explain it in tests/data/known_warnings.toml"


def test_each_explained_warning_still_comes_up(result: Result) -> None:
    came_up = {(title, output) for output, titles in result.warnings.items() for title in titles}
    listed = {
        (known.title, Output(version, profile))
        for known in known_warnings()
        if not known.guides
        for version in known.versions
        for profile in known.profiles or ("",)
    }
    assert listed - came_up == set(), "take it out of tests/data/known_warnings.toml"


@pytest.mark.skipif(not guides.are_there(), reason=guides.NOT_FOUND)
def test_each_explained_warning_of_the_guides_still_comes_up(result: Result) -> None:
    assert {known.title for known in known_warnings() if known.guides} - result.guides_warnings == set()


_DICOM_SR = "http://hl7.org/fhir/uv/dicom-sr/StructureDefinition/"


def _of_dicom_sr(resource: Resource) -> str:
    """The profile of the guide for a resource of a measurement report; empty if the guide has none."""
    if resource["resourceType"] == "ImagingSelection":
        if "frameOfReferenceUid" in resource:
            return "image-region-3d"
        return "image-region-2d" if "imageRegion2D" in resource["instance"][0] else "referenced-segment"
    if "hasMember" in resource:
        return "imaging-measurement-group"
    return "imaging-qualitative-evaluation" if "valueCodeableConcept" in resource else "imaging-measurement"


def test_measurements_conform_to_the_guide(validator: Validator) -> None:
    """Its profiles are not claimed: it is of R5 only, and some of its rules are for resources that do not exist yet."""
    names = ("measurements", "measurements-regions", "measurements-replaced")
    resources = [one.entries[0].resource for name in names for one in mapped(name, "R5").secondary]
    profiles = [_of_dicom_sr(resource) for resource in resources]
    assert len(set(profiles)) == 6
    questions = [Question("R5", one, [_DICOM_SR + own]) for one, own in zip(resources, profiles, strict=True)]
    assert [found.errors for found in validator.check_all(questions)] == [()] * len(questions)
    without = [{name: value for name, value in one.items() if name not in ("device", "subject")} for one in resources]
    questions = [Question("R5", one, [_DICOM_SR + own]) for one, own in zip(without, profiles, strict=True)]
    assert all(found.errors for found in validator.check_all(questions)), "the definitions do judge"


def test_the_page_says_so(result: Result) -> None:
    assert PAGE.read_text("utf-8") == page(result), "run `make conformance`"


def test_four_of_five_golden_cases_of_common_modalities_claim_each_profile() -> None:
    shares = {str(output): claiming_share(output) for output in profiled_outputs()}
    assert {output for output, (claim, of) in shares.items() if claim < 0.8 * of} == set()
