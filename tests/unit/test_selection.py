"""What a destination takes, by what any instance states and by who sent it."""

from __future__ import annotations

from typing import Any

import pytest

from dicom2fhir.store.selection import Selection

STATED = {
    "modality": ("CT", "SR"),
    "institution": ("Hospital A",),
    "department": (),
    "calling_ae_title": ("CT1", "ROUTER"),
}


@pytest.mark.parametrize(
    ("only", "never", "reason"),
    [
        ({}, {}, ""),
        ({"modality": ("CT",)}, {}, ""),
        ({"modality": ("M?", "CT")}, {}, ""),
        ({"modality": ("MR",)}, {}, "only.modality matches no value of the study"),
        ({"institution": ("HOSPITAL*",)}, {}, ""),
        ({"institution": (" hospital a ",)}, {}, ""),
        ({"institution": ("HOSPITAL",)}, {}, "only.institution matches no value of the study"),
        (
            {"modality": ("CT",), "calling_ae_title": ("CT2",)},
            {},
            "only.calling_ae_title matches no value of the study",
        ),
        ({"department": ("*",)}, {}, "only.department matches no value of the study"),
        ({}, {"modality": ("SR",)}, 'except.modality matches "SR"'),
        (
            {"modality": ("CT",)},
            {"calling_ae_title": ("RESEARCH*", "rout*")},
            'except.calling_ae_title matches "rout*"',
        ),
        ({}, {"department": ("*",)}, ""),
        ({}, {"institution": ("Hospital [BC]",)}, ""),
    ],
)
def test_only_wants_each_key_and_except_wins_with_any(only: Any, never: Any, reason: str) -> None:
    assert Selection(only, never).refuses(STATED) == reason


def test_what_takes_the_same_is_written_the_same() -> None:
    assert str(Selection()) == ""
    one = Selection(only={"modality": ("CT",), "institution": ("A",)})
    assert str(one) == str(Selection(only={"institution": ("A",), "modality": ("CT",)})) != str(Selection())
    assert str(Selection(never=one.only)) != str(one)
