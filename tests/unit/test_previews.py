"""What a destination gets of a study, for people to look at."""

from __future__ import annotations

import pytest

from dicom2fhir.config import Settings
from dicom2fhir.model import Study
from dicom2fhir.wiring.previews import Previews


@pytest.mark.parametrize(
    ("version", "search"),
    [
        ("DSTU2", "study=urn%3Aoid%3A1.2.3"),
        ("STU3", "study=urn%3Aoid%3A1.2.3"),
        ("R4", "identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A1.2.3"),
    ],
)
def test_the_link_is_the_search_that_finds_the_study(version: str, search: str) -> None:
    url = "http://127.0.0.1:1/fhir"
    settings = Settings.model_validate({"destinations": {"main": {"url": f"{url}/", "version": version}}})
    preview = Previews(lambda: settings).of(Study("1.2.3", 1, {}, {}, ()), "main", "", b"")
    assert preview.error == ""
    assert preview.link.startswith(f"{url}/ImagingStudy?{search}")
