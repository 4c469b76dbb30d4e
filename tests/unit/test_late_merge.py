"""What comes of a study that the store has forgotten is added to what the server has, in each FHIR version."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import orjson
import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.dicom.study import assemble
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.send.late_merge import merge_late
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.model import InstanceRecord, Json, Resource
from testdata.make_cases import record_of
from testdata.make_dicom import encode

OPTIONS = MappingOptions(dicomweb_url="https://pacs.example/dicom-web")
EVERY_DIALECT = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def record(modality: str, series: int, number: int, **attributes: object) -> InstanceRecord:
    return record_of(encode(instance(modality, "late", series, number, **attributes)))


def study(records: Iterable[InstanceRecord], dialect: Dialect, options: MappingOptions = OPTIONS) -> Resource:
    """What the bridge makes of these instances, as it stands on the server."""
    found = list(records)
    entry = map_study(assemble(found[0].study_uid, 1, found), dialect, options).entries[0]
    return orjson.loads(orjson.dumps(entry.resource))  # type: ignore[no-any-return]


def in_any_order(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: in_any_order(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(in_any_order, value), key=lambda one: orjson.dumps(one, option=orjson.OPT_SORT_KEYS))
    return value


def late_on(theirs: Resource, ours: Resource, dialect: Dialect) -> Resource:
    kept = deepcopy((theirs, ours))
    merged = merge_late(ours, theirs, acquisition_only=dialect.acquisition_only)
    assert (theirs, ours) == kept
    return merged


FIRST = [record("CT", series, number) for series in (1, 2, 3) for number in (1, 2)]
LATE = [record("CT", 2, 3), record("MR", 4, 1)]


@EVERY_DIALECT
def test_the_study_is_the_same_as_if_nothing_had_been_forgotten(dialect: Dialect) -> None:
    """A slice of a series that is there, and one of another."""
    merged = late_on(study(FIRST, dialect), study(LATE, dialect), dialect)
    whole = study([*FIRST, *LATE], dialect)
    assert (whole["numberOfSeries"], whole["numberOfInstances"]) == (4, 8)
    assert in_any_order(merged) == in_any_order(whole)
    assert late_on(merged, study(LATE, dialect), dialect) == merged


@EVERY_DIALECT
def test_what_comes_again_changes_nothing(dialect: Dialect) -> None:
    there = study(FIRST, dialect)
    assert late_on(there, study(FIRST[:1], dialect), dialect) == there
    assert late_on(there, study(FIRST, dialect), dialect) == there


@EVERY_DIALECT
def test_an_instance_that_comes_again_with_other_values_is_corrected(dialect: Dialect) -> None:
    corrected = record("CT", 1, 1, InstanceNumber="77")
    merged = late_on(study(FIRST, dialect), study([corrected], dialect), dialect)
    assert in_any_order(merged) == in_any_order(study([corrected, *FIRST[1:]], dialect))


@EVERY_DIALECT
def test_the_values_of_the_whole_study_stay(dialect: Dialect) -> None:
    """One late instance does not outvote what is on the server, which many have stated."""
    there = study(FIRST, dialect)
    late = study([record("CT", 1, 3, StudyDescription="late", SeriesDescription="late", StudyDate="20300101")], dialect)
    merged = late_on(there, late, dialect)
    assert merged["description"] == there["description"] != late["description"]
    assert merged["started"] == there["started"] != late["started"]
    (known,) = (one for one in there["series"] if one["uid"] == late["series"][0]["uid"])
    (series,) = (one for one in merged["series"] if one["uid"] == known["uid"])
    assert series["description"] == known["description"]
    assert series["numberOfInstances"] == 3


@EVERY_DIALECT
def test_what_the_server_lacks_is_filled_in(dialect: Dialect) -> None:
    there = study([record("CT", 1, 1, StudyDescription=None)], dialect)
    assert "description" not in there
    assert late_on(there, study(LATE, dialect), dialect)["description"]


@pytest.mark.parametrize("dialect", [one for one in DIALECTS.values() if "accession" in one.elements])
def test_another_accession_number_does_not_replace_the_published_one(dialect: Dialect) -> None:
    there = study(FIRST, dialect)
    merged = late_on(there, study([record("CT", 1, 3, AccessionNumber="LATE")], dialect), dialect)
    assert merged["accession"] == there["accession"]
    assert "LATE" in [one["value"] for one in merged["identifier"]]


@EVERY_DIALECT
def test_a_series_without_a_list_keeps_its_count(dialect: Dialect) -> None:
    there = study(FIRST, dialect, MappingOptions(max_instances=0))
    merged = late_on(there, study(LATE, dialect), dialect)
    assert [one.get("numberOfInstances") for one in merged["series"]][:3] == [2, 2, 2]
    assert merged["numberOfInstances"] == 7


def test_what_others_added_stays() -> None:
    dialect = DIALECTS["R4"]
    there: dict[str, Any] = {**study(FIRST, dialect), "id": "theirs", "note": [{"text": "seen"}]}
    there["series"] = [*there["series"], {"uid": "1.2.3", "modality": {"code": "OT"}, "numberOfInstances": 5}]
    there["numberOfSeries"], there["numberOfInstances"] = 4, 11
    merged = late_on(there, study(LATE, dialect), dialect)
    assert (merged["id"], merged["note"]) == ("theirs", [{"text": "seen"}])
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (5, 13)


def test_a_part_claims_no_profile_for_the_whole() -> None:
    dialect = DIALECTS["R4"]
    late = {**study(LATE, dialect), "meta": {"profile": ["p"], "tag": [{"code": "t"}]}}
    assert late_on(study(FIRST, dialect), late, dialect)["meta"] == {"tag": [{"code": "t"}]}
    assert "meta" not in late_on(study(FIRST, dialect), {**late, "meta": {"profile": ["p"]}}, dialect)


def test_instances_come_to_a_study_that_has_none() -> None:
    dialect = DIALECTS["R4"]
    there = {name: value for name, value in study(FIRST, dialect).items() if name != "series"}
    merged = late_on({**there, "numberOfSeries": 0, "numberOfInstances": 0}, study(LATE, dialect), dialect)
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (2, 2)
