"""Which scopes a token lacks, in whatever words the authorization server answers."""

from __future__ import annotations

import pytest

from dicom2fhir.fhir.send.scopes import missing_scopes


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("system/*.cruds", "system/*.cruds"),
        ("system/ImagingStudy.cruds", "system/ImagingStudy.c system/ImagingStudy.rs system/ImagingStudy.ud"),
        ("system/ImagingStudy.cruds", "system/*.*"),
        ("system/ImagingStudy.write", "system/ImagingStudy.cud"),
        ("system/*.cruds", "system/ImagingStudy.cruds system/Patient.cruds"),
        ("openid system/*.rs", "system/*.read openid"),
        ("system/Patient.rs", "system/Patient.rs?_security=N"),
    ],
)
def test_the_same_in_other_words_lacks_nothing(asked: str, granted: str) -> None:
    assert missing_scopes(asked, granted) == []


@pytest.mark.parametrize(
    ("asked", "granted", "missing"),
    [
        ("system/ImagingStudy.cruds", "system/ImagingStudy.rs", ["system/ImagingStudy.cruds"]),
        ("system/ImagingStudy.cruds", "system/Patient.cruds", ["system/ImagingStudy.cruds"]),
        ("system/ImagingStudy.cruds", "user/ImagingStudy.cruds", ["system/ImagingStudy.cruds"]),
        ("system/*.cruds", "system/ImagingStudy.cru system/Patient.s", ["system/*.cruds"]),
        ("imaging openid", "openid", ["imaging"]),
        ("system/ImagingStudy.", "system/*.*", ["system/ImagingStudy."]),
        ("system/*.rs", "", ["system/*.rs"]),
    ],
)
def test_what_is_lacking_is_named(asked: str, granted: str, missing: list[str]) -> None:
    assert missing_scopes(asked, granted) == missing
