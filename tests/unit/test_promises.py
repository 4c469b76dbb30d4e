"""The checker of the bars finds each way in which a promise is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.promises import Instance, Ledger, breaches, check

ALL = [Instance("1", "1.1", f"1.1.{number}") for number in range(3)]


def study(*instances: Instance, **changed: Any) -> dict[str, Any]:
    """An ImagingStudy of one series."""
    series = {
        "uid": "1.1",
        "numberOfInstances": len(instances),
        "instance": [{"uid": instance.uid} for instance in instances],
    }
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1"}, {"system": "urn:oid:1.2.3", "value": "ACC"}],
        "numberOfSeries": 1,
        "numberOfInstances": len(instances),
        "series": [series],
        **changed,
    }


@pytest.mark.parametrize(
    "kept",
    [
        {"delivered": [study(*ALL)]},
        {"stored": ALL},
        {"refused": ALL},
        {"delivered": [study(ALL[0])], "stored": [ALL[1]], "refused": [ALL[2]]},
        {"delivered": [study(*ALL)], "stored": ALL},
    ],
)
def test_what_is_kept_somewhere_is_no_breach(kept: Any) -> None:
    check(sent=ALL, acknowledged=ALL, **kept)


def test_what_was_sent_and_not_acknowledged_may_be_there_or_not() -> None:
    check(sent=ALL, acknowledged=ALL[:1], stored=ALL[:1])
    check(sent=ALL, acknowledged=ALL[:1], stored=ALL)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"stored": ALL[:2]}, "acknowledged and lost: 1, such as"),
        ({}, "acknowledged and lost: 3"),
        ({"stored": [*ALL, Instance("1", "1.1", "9")]}, "never sent: 1"),
        ({"delivered": [study(*ALL, Instance("1", "1.1", "9"))]}, "never sent: 1"),
        ({"stored": [*ALL, ALL[0]]}, "stored twice: 1"),
        ({"delivered": [study(*ALL), study(*ALL)]}, "several ImagingStudy resources for the study: 1"),
        ({"delivered": [study(*ALL, ALL[0])]}, "listed twice: 1"),
        ({"delivered": [study(*ALL, numberOfSeries=2)]}, "numberOfSeries of 1 is 2 and should be 1"),
        ({"delivered": [study(*ALL, numberOfInstances=2)]}, "numberOfInstances of 1 is 2 and should be 3"),
        ({"delivered": [study(*ALL, identifier=[])]}, "never sent: 3"),
        (
            {"delivered": [study(*ALL, series=[{**study(*ALL)["series"][0], "numberOfInstances": 4}])]},
            "numberOfInstances of the series 1.1 is 4",
        ),
        (
            {"stored": ALL, "delivered": [study(series=[{"uid": "1.1", "numberOfInstances": 0}] * 2)]},
            "the series 1.1 stands twice in 1",
        ),
    ],
)
def test_each_breach_is_found(kept: Any, message: str) -> None:
    found = breaches(sent=ALL, acknowledged=ALL, **kept)
    assert any(breach.startswith(message) for breach in found), found
    with pytest.raises(AssertionError, match=message):
        check(sent=ALL, acknowledged=ALL, **kept)


def test_an_instance_in_another_series_is_lost_and_invented() -> None:
    moved = [ALL[0]._replace(series="1.2")]
    found = breaches(sent=ALL, acknowledged=ALL[:1], stored=moved)
    assert [breach.partition(":")[0] for breach in found] == ["acknowledged and lost", "never sent"]


def test_a_ledger_writes_down_what_happened_in_its_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.send(ALL[0])
    ledger.acknowledge(ALL[0])
    ledger.send(ALL[1])
    assert (ledger.sent, ledger.acknowledged) == (set(ALL[:2]), frozenset({ALL[0]}))
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ['["sent"', '["acknowledged"', '["sent"']


def test_what_is_acknowledged_later_is_not_lost_before(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.send(ALL[0])
    ledger.acknowledge(ALL[0])

    def stored() -> list[Instance]:
        ledger.send(ALL[1])
        ledger.acknowledge(ALL[1])
        return [ALL[0]]

    check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored())
