"""What is left out of a covering is in the cases that stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.covering import codes, covering, neighbours


@given(cases=st.lists(st.frozensets(st.integers(0, 9))))
def test_nothing_is_lost_and_no_case_stays_for_nothing(cases: list[frozenset[int]]) -> None:
    kept = covering(cases, lambda case: case)
    assert frozenset().union(*kept) == frozenset().union(*cases)
    assert all(case - frozenset().union(*kept[:number]) for number, case in enumerate(kept))


PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "1", "name": [{"family": "A"}]}
CODED: dict[str, Any] = {"resourceType": "Basic", "code": {"coding": [{"system": "urn:a", "code": "x"}]}}
EXTENDED: dict[str, Any] = {"resourceType": "Basic", "extension": [{"url": "urn:e", "valueCode": "x"}]}


@pytest.mark.parametrize(
    ("parts", "one", "other", "is_kept"),
    [
        (neighbours, PATIENT, {**PATIENT, "id": "2"}, False),
        (neighbours, PATIENT, {"resourceType": "Patient", "name": [{"family": "A"}], "id": "1"}, True),
        (neighbours, PATIENT, {**PATIENT, "name": [{"family": "A"}, {"family": "B"}]}, True),
        (neighbours, PATIENT, {**PATIENT, "id": 1}, True),
        (neighbours, PATIENT, {**PATIENT, "active": True}, True),
        (codes, CODED, {**CODED, "id": "2"}, True),
        (codes, CODED, {"resourceType": "Basic", "code": {"coding": [{"system": "urn:a", "code": "y"}]}}, True),
        (codes, CODED, {"resourceType": "Basic", "code": {"coding": [{"system": "urn:b", "code": "x"}]}}, True),
        (codes, EXTENDED, {"resourceType": "Basic", "extension": [{"url": "urn:e", "valueCode": "y"}]}, False),
        (codes, EXTENDED, {"resourceType": "Basic", "extension": [{"url": "urn:f", "valueCode": "x"}]}, True),
    ],
)
def test_what_makes_a_case_different(parts: Any, one: dict[str, Any], other: dict[str, Any], is_kept: bool) -> None:
    assert (covering([one, other], parts) == [one, other]) is is_kept
