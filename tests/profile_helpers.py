"""Studies and profiles for tests of profiles, and what the one becomes by the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest

from dicom2fhir.errors import ConfigError
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.profile.apply import conform
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.fhir.version.validate import check
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Instance, Resource, Series, Study
from dicom2fhir.wiring import options
from tests.invariants import violations

Attrs = dict[str, Any]
DCM = "http://dicom.nema.org/resources/ontology/DCM"
HEAD = 'title = "Test"\ndoc = "A test."\n[versions]\nR4 = "https://profiles.example/test"\n'
DESCRIPTION = '[[element]]\npath = "description"\n'
SENTINELS = '[sentinels]\nstring = "?"\ninteger = -1\ndateTime = "1000"\n'


def study(series: Attrs | None = None, *images: Attrs, **attrs: Any) -> Study:
    """A study of one CT series, with an instance for each of ``images``, or one."""
    instances = tuple(
        Instance(f"1.2.3.{n}", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", **image})
        for n, image in enumerate(images or ({},), start=1)
    )
    described = {"Modality": "CT", **(series or {})}
    return Study("1.2.1", 1, {"PatientID": "P1"}, attrs, (Series("1.2.2", described, instances),))


def profile(tmp_path: Path, text: str, head: str = HEAD) -> Profile:
    file = tmp_path / "own.toml"
    file.write_text(head + text, "utf-8")
    return options.profile(str(file))


def refusal(tmp_path: Path, text: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigError) as caught:
        profile(tmp_path, text, head)
    return str(caught.value)


def conformed(
    chosen: Profile,
    made: Study,
    missing: Literal["omit", "sentinel", "refuse"] | None = None,
    version: str = "R4",
    **policy: Any,
) -> Mapped:
    """The study by the profile, valid in its version."""
    own = MappingOptions(time_zone=ZoneInfo("Europe/Paris"), **policy)
    dialect = DIALECTS[version]
    result = conform(chosen, map_study(made, dialect, own), made, dialect, own, missing)
    assert violations(result, version) == []
    assert [note for entry in result.entries for note in check(entry.resource, version)] == []
    return result


def imaging_study(chosen: Profile, made: Study, *args: Any, **policy: Any) -> Resource:
    return conformed(chosen, made, *args, **policy).entries[0].resource


def claims(resource: Resource) -> bool:
    return bool(resource.get("meta", {}).get("profile"))


def contained(resource: Resource, type_: str) -> list[Resource]:
    return [one for one in resource.get("contained", []) if one["resourceType"] == type_]
