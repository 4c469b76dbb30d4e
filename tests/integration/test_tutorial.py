"""The commands of the tutorial, as they stand there, with other ports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid
from tests.doc_commands import blocks, free_ports, run_script, until


@pytest.mark.needs("Orthanc")
def test_the_tutorial_ends_with_a_study_on_the_server(hapi_r4: str, tmp_path: Path) -> None:
    study = make_uid("tutorial", str(tmp_path))
    made = instance("CT", "tutorial")
    made.StudyInstanceUID = study
    made.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    dicom, web = free_ports(2)
    *steps, stop = blocks("tutorial.md")
    for old, new in (("http://127.0.0.1:8080/fhir", hapi_r4), ("8042", web), ("11112", dicom)):
        steps = [step.replace(old, new) for step in steps]
    steps[0] = steps[0].replace("serve ", f"serve --port {dicom} ")
    search = f"{hapi_r4}/ImagingStudy?identifier=urn:dicom:uid%7Curn:oid:{study}"
    delivered = until(f"curl --fail --silent '{search}' | grep -q '\"entry\"'")
    said = run_script(tmp_path, *steps[:3], delivered, *steps[3:], stop, "wait")
    assert re.search(r'"resourceType": ?"ImagingStudy"', said)
