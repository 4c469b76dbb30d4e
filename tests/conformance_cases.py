"""What the checkers of :mod:`tests.conformance` look at: all that the bridge writes of the studies that there are.

* the golden cases, as they stand in their files;
* each generated study in each FHIR version;
* each study - golden, generated, or of the files that come with pydicom - by each profile with the options that the
  documentation of the profiles asks the operator for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from pydicom.data.data_manager import DATA_ROOT

from dicom2fhir.errors import BridgeError, NotExpressible, NothingToWrite
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource, Study
from dicom2fhir.wiring import options
from testdata.make_cases import CASES as GOLDEN_CASES
from testdata.make_cases import CASES_DIRECTORY, mapped, studies_of, study_and_options, variants, version_of
from testdata.make_dicom import CASES, encoded
from tests.invariants import to_be_written

SAME_FILES = {"R4B": "R4"}
"""Dialect -> dialect whose golden files are its own too; ``tests/unit/test_golden.py`` holds that they are equal."""

_EVERY_TYPE = frozenset({"Practitioner", "Organization", "Location", "Device"})
POLICIES = (
    MappingOptions(dicomweb_url="https://pacs.example/dicom-web", key_objects="always"),
    MappingOptions(
        patient=Write.ENSURE,
        linked=frozenset({"order", "encounter"}),
        referenced=_EVERY_TYPE,
        dicomweb_url="https://pacs.example/dicom-web",
    ),
)
"""Everything contained, and everything that can be a resource of its own."""

PROFILE_OPTIONS = MappingOptions(
    patient=Write.ENSURE,
    dicomweb_url="https://pacs.example/dicom-web",
    systems=NamingSystems(
        patient_id={"": "https://hospital.example/patient"},
        accession_number={"": "https://hospital.example/order"},
        admission_id={"": "https://hospital.example/visit"},
        organization={"": "http://finess.sante.gouv.fr|330000001"},
        study_id="https://hospital.example/study-id",
    ),
    retrieve_location_uid="1.2.276.0.76.3.1.99",
    viewer_url="https://viewer.example/studies/{study_uid}",
)
"""What the documentation of the profiles asks the operator for."""

COMMON_MODALITIES = ("CT", "MR", "PT", "MG", "US", "DX")
"""Those whose golden cases are to claim each profile."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is checked together: a FHIR version, or a profile in one."""

    version: str
    profile: str = ""

    def __str__(self) -> str:
        return f"{self.version} {self.profile}".strip()

    @property
    def canonical(self) -> str:
        """What an ImagingStudy claims; empty without a profile."""
        profile = profile_of(self)
        return profile.versions[self.version] if profile else ""


@dataclass(frozen=True, slots=True)
class Case:
    """Resources of one study, and where they are from; none when the bridge refuses to write it so.

    Attributes
    ----------
    reasons
        What keeps the study from the profile, as the bridge says it.
    """

    output: Output
    where: str
    resources: tuple[Resource, ...]
    reasons: tuple[str, ...] = ()

    @property
    def claims(self) -> bool:
        """Whether the ImagingStudy claims the profile."""
        claimed = self.resources[0].get("meta", {}).get("profile", []) if self.resources else []
        return bool(self.output.canonical) and self.output.canonical in claimed


def outputs() -> list[Output]:
    """Every version, and every profile in each of its versions."""
    return [*(Output(name) for name in DIALECTS), *profiled_outputs()]


def profiled_outputs() -> list[Output]:
    """Every profile in each of its versions."""
    return [Output(version, name) for name in options.profile_names() for version in _profile(name).versions]


def profile_of(output: Output) -> Profile | None:
    """The profile of an output; None of a FHIR version alone."""
    return _profile(output.profile) if output.profile else None


@cache
def _profile(name: str) -> Profile:
    return options.profile(name)


# Golden cases --------------------------------------------------------------------------------------------------------


@cache
def golden() -> tuple[Case, ...]:
    """Every golden case, as it stands in its files."""
    cases = []
    for path in sorted(CASES_DIRECTORY.glob("*/expected.*.json")):
        written = json.loads(path.read_text("utf-8"))
        resources = as_written(written) if isinstance(written, list) else ()
        name, variant = path.parent.name, path.name.removeprefix("expected.").removesuffix(".json")
        for output in _outputs(variant):
            case = Case(output, f"golden {name}", resources)
            if output.profile and not case.claims:
                case = replace(case, reasons=_outcome(partial(mapped, name, variant))[1])
            cases.append(case)
    return tuple(cases)


def golden_in(version: str) -> Iterator[tuple[str, Mapped]]:
    """Every golden case of a FHIR version, and those of the profile that writes the most types of resources."""
    for case in GOLDEN_CASES:
        for variant in {version, "osiris"} & {version, *variants(case)}:
            if version_of(variant) == version:
                with suppress(NotExpressible, NothingToWrite):
                    yield f"{case}.{variant}", mapped(case, variant)


def as_written(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """The resources as they are written: a DiagnosticOrder stands inside the study, and what is only looked for and not
    found is referred to by identifier."""
    each = list(resources)
    written = to_be_written(each)
    orders = [Entry(one, Write.LINK, inside=one["id"]) for one in written if one["resourceType"] == "DiagnosticOrder"]
    targets: dict[str, str | None] = {f"urn:uuid:{one['id']}": None for one in each if one not in written}
    targets |= {order.placeholder: bundle.unlinked(order) for order in orders}
    return tuple(bundle.refer(one, targets, orders) for one in written if one["resourceType"] != "DiagnosticOrder")


def _outputs(variant: str) -> list[Output]:
    """What a golden file shows by its name: a dialect, a profile, or ``PROFILE.VERSION``."""
    if variant in DIALECTS:
        return [Output(variant), *(Output(other) for other, same in SAME_FILES.items() if same == variant)]
    name, _, version = variant.partition(".")
    return [Output(version or "R4", name)]


# Studies -------------------------------------------------------------------------------------------------------------


@cache
def generated_studies() -> tuple[tuple[str, Study], ...]:
    """Every study of ``testdata/make_dicom.py`` that is accepted."""
    return tuple(
        (f"generated {name}", study)
        for name, case in CASES.items()
        if case.outcome == "accepted"
        for study in studies_of(encoded(name))
    )


@cache
def pydicom_studies() -> tuple[tuple[str, Study], ...]:
    """Every study of the files that come with pydicom and can be read, by the name of its first file."""
    files: dict[str, dict[str, bytes]] = {}
    for path in sorted(path for path in Path(DATA_ROOT).rglob("*") if path.is_file()):
        data = path.read_bytes()
        try:
            (study,) = studies_of([data])
        except BridgeError:
            continue
        files.setdefault(study.uid, {})[path.name] = data
    return tuple((f"pydicom {next(iter(one))}", study) for one in files.values() for study in studies_of(one.values()))


def common_golden_cases() -> list[str]:
    """The golden cases with a series of :data:`COMMON_MODALITIES`."""
    return [
        name
        for name in GOLDEN_CASES
        if any(series.attrs.get("Modality") in COMMON_MODALITIES for series in study_and_options(name)[0].series)
    ]


def generated() -> Iterator[Case]:
    """Every generated study in every version, written in both ways."""
    for version, dialect in DIALECTS.items():
        for name, study in generated_studies():
            for policy in POLICIES:
                try:
                    made = map_study(study, dialect, policy)
                except NotExpressible:
                    continue
                yield Case(Output(version), name, as_written(entry.resource for entry in made.everything))


@cache
def by_profile() -> tuple[Case, ...]:
    """Each study by each profile."""
    studies = [*generated_studies(), *pydicom_studies()]
    return tuple(
        case
        for output in profiled_outputs()
        for case in (
            *(golden_with_options(output, name) for name in GOLDEN_CASES),
            *(_by_profile(output, name, study) for name, study in studies),
        )
    )


@cache
def golden_with_options(output: Output, name: str) -> Case:
    """A golden case by a profile."""
    return _by_profile(output, f"golden {name}, with options", study_and_options(name)[0])


def claiming_share(output: Output) -> tuple[int, int]:
    """How many golden cases of common modalities claim a profile, of how many."""
    names = common_golden_cases()
    return sum(golden_with_options(output, name).claims for name in names), len(names)


def _by_profile(output: Output, name: str, study: Study) -> Case:
    mapper = StudyMapper(PROFILE_OPTIONS, profile_of(output))
    return Case(output, name, *_outcome(partial(mapper.map, study, DIALECTS[output.version])))


def _outcome(make: Callable[[], Mapped]) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
    """The resources as they are written, and what keeps them from the profile."""
    try:
        made = make()
    except NotExpressible:
        return (), ("refused because values are missing",)
    resources = as_written(entry.resource for entry in made.everything)
    return resources, tuple(note.where for note in made.notes if "does not claim" in note.text)
