"""The differences between two states of a resource."""

from __future__ import annotations

from typing import Any

import pytest

from dicom2fhir.model import Resource
from dicom2fhir.ops.changes import ElementChange, changes
from dicom2fhir.ops.masking import MASK, Masking


def found(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    kind = {"resourceType": "X"}
    return [(one.path, one.before, one.now) for one in changes(kind | before, kind | now, lambda value: value)]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": 1}, {}, [("a", 1, None)]),
        ({}, {"a": {"b": 1}}, [("a", None, {"b": 1})]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("a.c", 2, 3)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a[1]", 2, 3)]),
        ({"a": [1, 2]}, {"a": [0, 1, 2]}, [("a[0]", None, 0)]),
        ({"a": [1, 2, 2]}, {"a": [2]}, [("a[0]", 1, None), ("a[2]", 2, None)]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("a[0].b", 1, 2)]),
        ({"a": [{"uid": "1", "b": 1}]}, {"a": [{"uid": "2"}, {"uid": "1", "b": 2}]}, [
            ("a[1].b", 1, 2),
            ("a[2]", None, {"uid": "2"}),
        ]),
        ({"a": [{"uid": "1"}, {"uid": "1"}]}, {"a": [{"uid": "1"}]}, [("a[1]", {"uid": "1"}, None)]),
        ({"a": [1]}, {"a": {"b": 1}}, [("a", [1], {"b": 1})]),
        ({"a": {"reference": "Patient/1"}}, {"a": {"reference": "urn:uuid:0"}}, []),
        ({"a": {"reference": "urn:uuid:1"}}, {"a": {"reference": "urn:uuid:0"}}, [
            ("a.reference", "urn:uuid:1", "urn:uuid:0"),
        ]),
    ],
)  # fmt: skip
def test_each_element_that_differs(before: Resource, now: Resource, expected: list[tuple[str, Any, Any]]) -> None:
    assert found(before, now) == expected


def test_a_resource_that_was_not_there() -> None:
    now: Resource = {"resourceType": "X", "a": 1}
    assert list(changes({}, now, lambda value: value)) == [ElementChange("X", "", None, now)]


def test_a_change_of_a_hidden_value_is_seen_but_not_the_value() -> None:
    before = {"resourceType": "Patient", "name": [{"family": "One"}], "identifier": [{"value": "P1"}], "active": True}
    now = {"resourceType": "Patient", "name": [{"family": "Two"}], "identifier": [{"value": "P2"}], "active": False}
    assert list(changes(before, now, Masking().resource)) == [
        ElementChange("Patient", "name", MASK, MASK),
        ElementChange("Patient", "identifier[0].value", MASK, MASK),
        ElementChange("Patient", "active", True, False),
    ]
