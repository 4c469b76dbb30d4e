"""Whatever a study holds, each version and profile gives resources that pass the version's checks, or a refusal."""

# ruff: noqa: RUF001 (letters and digits of other scripts are meant)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import BridgeError
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile.apply import conform
from dicom2fhir.fhir.version import validate
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.jobs.conversion import as_resources
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import Study
from dicom2fhir.wiring import options
from testdata.make_cases import record_of
from tests import element_checker
from tests.any_data_set import SCRIPTS, any_file
from tests.conformance_cases import POLICIES
from tests.conformance_check import MODELS
from tests.examples import examples
from tests.invariants import to_be_written

ODD = (
    "x" * 70_000, "0", "-0", "-1", "+3", "3.0", "1e400", "-1e-400", "NaN", "inf", "9" * 30, "２０２４", "²", "٣",
    "a  b", "a\tb\r\nc", "<b>&\"'", "\u202ecba", "🩻", "\ufeff", "\ufffd", "|,$\\", "=", "==x", "^", "^^^^", "00000000",
    "99999999", "20240230", "20240229", "2024", "240000", "235960", "120000.123456789", "+0530", "-2500", "#x", "urn:x",
    "http://x y", "1.2.03", "1.2.840.10008.5.1.4.1.1.2", "M", "CT", "ct\u00a0x", "Ω", "99PRIVATE", "DCM", "SRT", "ISO",
)  # fmt: skip
"""What may stand in any attribute: values reach the mapping stripped and without control characters, but otherwise as
they came."""
UIDS = ("1.2.3", "1.2.03", "3.4", "0", "2.25." + "9" * 39, "1." + "9" * 62, "A-b", "1..2", "-", ".")
"""What FHIR's ``id`` can hold; anything else has been refused at the door."""
OIDS = {f"ImagingStudy.{name}" for name in ("uid", "series.uid", "series.instance.uid", "series.instance.sopClass")}
"""fhir.resources demands of STU3's ``oid`` what only R4 demands: a root from 0 to 2, and more than a root."""
PROFILES = [options.profile(name) for name in options.profile_names()]
FEW, MANY = 3, 300


def spoilt(value: Any, random: Random) -> Any:
    """A value in which some strings have become odd ones."""
    match value:
        case str():
            return random.choice(ODD) if random.random() < 0.3 else value
        case dict():
            return {keyword: _of(keyword, inner, random) for keyword, inner in value.items()}
        case list():
            return [spoilt(inner, random) for inner in value]
    return value


def _of(keyword: str, value: Any, random: Random) -> Any:
    if keyword == "SOPClassUID":
        return random.choice(UIDS) if random.random() < 0.1 else value
    return spoilt(value, random)


def any_study(charset: str, seed: int) -> Study:
    """A study of one to three series of one to three instances, seldom of very many; of any content."""
    random = Random(seed)
    records = []
    for series in range(random.randint(1, FEW)):
        series_uid = random.choice(UIDS) if random.random() < 0.2 else f"1.2.{series}"
        for number in range(random.randint(1, FEW)):
            record = record_of(any_file(charset, random.randint(0, 2**32)))
            levels = {
                name: spoilt(getattr(record, name), random) for name in ("patient", "study", "series", "instance")
            }
            made = replace(record, series_uid=series_uid, sop_uid=f"1.2.{series}.{number}", **levels)
            records.append(made)
    if random.random() < 0.02:
        records += [replace(records[-1], sop_uid=f"1.2.9.{number}") for number in range(MANY)]
    if random.random() < 0.2:
        records[-1] = replace(records[-1], sop_uid=random.choice(UIDS))
    return assemble(random.choice(UIDS) if random.random() < 0.2 else "1.2.1", 1, records)


def written(study: Study) -> Iterator[tuple[str, Mapped]]:
    """The study in each version and profile that does not refuse it."""
    link = MappingOptions(patient=Write.LINK)
    for version, dialect in DIALECTS.items():
        for policy in (link, *POLICIES):
            try:
                mapped = map_study(study, dialect, policy)
            except BridgeError as error:
                assert str(error)
                continue
            yield version, mapped
            for profile in PROFILES:
                if version in profile.versions:
                    try:
                        yield version, conform(profile, mapped, study, dialect, policy)
                    except BridgeError as error:
                        assert str(error)


@examples(100)
@given(charset=st.sampled_from(sorted(SCRIPTS)), seed=st.integers(0, 2**32))
def test_it_passes_the_checks_or_is_refused(charset: str, seed: int) -> None:
    for version, mapped in written(any_study(charset, seed)):
        for resource in as_resources(mapped):
            assert element_checker.check(resource, version) == []


@examples(20)
@given(charset=st.sampled_from(sorted(SCRIPTS)), seed=st.integers(0, 2**32))
def test_fhir_resources_accepts_it(charset: str, seed: int) -> None:
    for version, mapped in written(any_study(charset, seed)):
        if version in MODELS:
            resources = to_be_written(entry.resource for entry in mapped.entries)
            notes = [note for resource in resources for note in validate.check(resource, version)]
            assert [note for note in notes if not (version == "STU3" and note.where in OIDS)] == []
