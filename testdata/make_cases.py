#!/usr/bin/env python3
"""Write the expected FHIR of every golden case again and show what changed, each change once: ``make golden``, or
``python -m testdata.make_cases [NAME...]``.

A case is a folder of ``cases/``. Its ``case.toml`` names the DICOM files (``generated``, a case of ``make_dicom.py``,
or ``pydicom``, a file that pydicom brings along), what archives and modalities state of the study (``notices``, of
``make_notices.py``) and the operator's decisions (``policy``); beside it stand the resources that must come of it in
each FHIR version, those of one study in the order of its transaction, and in each of the ``profiles`` that it names
(``osiris``; ``eu-imaging.R5`` for a version that is not the profile's first), with what is done about missing values
(``profile_missing``), and whether there is an ``archive`` to refer to.

Read the difference before you commit it: a change of the output is at least a minor release.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydicom.data import get_testdata_file

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.study import assemble
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import NotExpressible, NothingToWrite
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.jobs.conversion import ReadInstances
from dicom2fhir.mapped_resources import Mapped, Write
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.wiring.options import profile
from testdata.make_dicom import encoded
from testdata.make_notices import notices, stated_by

CASES_DIRECTORY = Path(__file__).with_name("cases")
CASES = sorted(path.parent.name for path in CASES_DIRECTORY.glob("*/case.toml"))
VERSIONS = tuple(version for version in DIALECTS if version != "R4B")
"""R4B is R4 word for word (tests hold that), so no case has a file of its own for it."""
_ARCHIVE: dict[str, Any] = {
    "dicomweb_url": "https://pacs.example/dicom-web",
    "retrieve_location_uid": "1.2.276.0.76.3.1.99",
}
_ORGANIZATION = "https://hospital.example/organization|main"
"""What most profiles ask for, so their cases have it."""
_ORGANIZATIONS = {"osiris": "http://finess.sante.gouv.fr|750000001"}
"""Profile -> the same, where it asks for a certain system."""


def record_of(data: bytes, cache: HeaderCache | None = None, document_bytes: int = 0) -> InstanceRecord:
    """What the bridge keeps of a DICOM file, with the content of a document that is not longer than so many bytes."""
    header = read_file(BytesIO(data), WANTED, replace(DEFAULT_BUDGETS, document_bytes=document_bytes), cache)
    return decode_instance(header.received(Origin("file")))


def studies_of(files: Iterable[bytes], document_bytes: int = 0) -> list[Study]:
    """The studies that DICOM files make up, in the order of their first files; see :func:`record_of`."""
    reading = ReadInstances()
    for data in files:
        reading.add(record_of(data, document_bytes=document_bytes), may_reject=True)
    return [reading.study(uid) for uid in reading.studies]


def _study(case: dict[str, Any]) -> Study:
    files = _files(case)
    if "notices" not in case:
        (study,) = studies_of(files, case.get("policy", {}).get("embed_documents", 0))
        return study
    stated, steps = stated_by(notices(case["notices"]))
    records = [record_of(data) for data in files]
    study_uid = records[0].study_uid if records else steps[0].study_uid
    return assemble(study_uid, 1, records, stated=stated, steps=steps)


def _files(case: dict[str, Any]) -> Sequence[bytes]:
    if case.keys().isdisjoint(("generated", "pydicom")):
        return []
    if "pydicom" in case:
        return [Path(str(get_testdata_file(case["pydicom"]))).read_bytes()]
    files = encoded(case["generated"])
    at_most = case.get("instances_per_series")
    if at_most is None:
        return files
    seen: Counter[str] = Counter()
    kept = []
    for data in files:
        series = record_of(data).series_uid
        seen[series] += 1
        if seen[series] <= at_most:
            kept.append(data)
    return kept


def _options(settings: dict[str, Any]) -> MappingOptions:
    values = dict(settings)
    if "time_zone" in values:
        values["time_zone"] = ZoneInfo(values["time_zone"])
    if "patient" in values:
        values["patient"] = Write(values["patient"])
    if "referenced" in values:
        values["referenced"] = frozenset(values["referenced"])
    if "linked" in values:
        values["linked"] = frozenset(values["linked"])
    if "systems" in values:
        values["systems"] = NamingSystems(**values["systems"])
    return MappingOptions(**values)


@cache
def case_of(name: str) -> dict[str, Any]:
    """What a case's ``case.toml`` says."""
    return tomllib.loads((CASES_DIRECTORY / name / "case.toml").read_text())


@cache
def study_and_options(name: str) -> tuple[Study, MappingOptions]:
    """A case's study and the operator's decisions."""
    case = case_of(name)
    return _study(case), _options(case.get("policy", {}))


def variants(name: str) -> tuple[str, ...]:
    """The versions and profiles that a case has expected output for."""
    return (*VERSIONS, *case_of(name).get("profiles", ()))


@cache
def _profile(name: str) -> Profile:
    return profile(name)


def profile_of(variant: str) -> Profile | None:
    """The profile of a variant; None of a version alone."""
    return None if variant in DIALECTS else _profile(variant.partition(".")[0])


def organization_of(chosen: Profile) -> str:
    """The organization that the cases of a profile are from, unless they say otherwise."""
    return _ORGANIZATIONS.get(chosen.name, _ORGANIZATION)


def version_of(variant: str) -> str:
    """The FHIR version of a version or profile."""
    chosen = profile_of(variant)
    if chosen is None:
        return variant
    return variant.partition(".")[2] or next(iter(chosen.versions))


@cache
def mapped(name: str, variant: str) -> Mapped:
    """What the bridge makes of a case today, in a version or by a profile."""
    chosen = profile_of(variant)
    if chosen is not None:
        return mapped_by(chosen, name, variant)
    study, options = study_and_options(name)
    return StudyMapper(options).map(study, DIALECTS[variant])


def mapped_by(chosen: Profile, name: str, variant: str) -> Mapped:
    """The same by another profile than the variant's."""
    study, options = study_and_options(name)
    dialect = DIALECTS[version_of(variant)]
    if case_of(name).get("archive", True):
        systems = replace(options.systems, organization=options.systems.organization or {"": organization_of(chosen)})
        options = replace(options, systems=systems, **_ARCHIVE)
    return StudyMapper(options, chosen, case_of(name).get("profile_missing")).map(study, dialect)


def expected_file(name: str, variant: str) -> Path:
    """Where a case says what must come of it."""
    return CASES_DIRECTORY / name / f"expected.{variant}.json"


def as_text(result: Mapped) -> str:
    """Resources as they stand in the files of expected output."""
    return json.dumps([entry.resource for entry in result.everything], indent=2, ensure_ascii=False) + "\n"


def outcome(name: str, variant: str) -> str:
    """What the bridge makes of a case today, or why it makes nothing of it, as it stands in the files."""
    try:
        return as_text(mapped(name, variant))
    except (NotExpressible, NothingToWrite) as error:
        kind = "refused" if isinstance(error, NotExpressible) else "withheld"
        return json.dumps({kind: str(error)}, indent=2) + "\n"


def hunks(before: str, after: str) -> list[str]:
    """What differs between two texts, with three lines around, and without the numbers of the lines."""
    lines = list(difflib.unified_diff(before.splitlines(True), after.splitlines(True)))[2:]
    starts = [number for number, line in enumerate(lines) if line.startswith("@@")]
    return ["".join(lines[start + 1 : end]) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def show(changes: dict[str, list[Path]]) -> None:
    """Print each change once, whatever the number of files that it is in."""
    for change, paths in changes.items():
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        print(f"{paths[0].relative_to(CASES_DIRECTORY)}{others}\n{change}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write the expected FHIR of golden cases again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these cases; without any, all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when something would change")
    arguments = parser.parse_args()
    changes: dict[str, list[Path]] = {}
    changed = 0
    for name in arguments.names or CASES:
        for variant in variants(name):
            path = expected_file(name, variant)
            before = path.read_text() if path.exists() else ""
            after = outcome(name, variant)
            if before == after:
                continue
            changed += 1
            for hunk in hunks(before, after):
                changes.setdefault(hunk, []).append(path)
            if not arguments.check:
                path.write_text(after)
    show(changes)
    print(f"{changed} files {'would change' if arguments.check else 'changed'}, {len(changes)} different changes")
    sys.exit(bool(changed and arguments.check))


if __name__ == "__main__":
    main()
