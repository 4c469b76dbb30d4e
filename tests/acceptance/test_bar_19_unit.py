"""Bar 19: the systemd unit exposes little. The audit and the bill of materials are `make audit` and `make sbom`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.bar(19)

UNIT = Path(__file__).parents[2] / "systemd" / "dicom2fhir.service"


@pytest.mark.needs("systemd-analyze")
def test_the_unit_exposes_little() -> None:
    """systemd's own score of exposure is at most 1.5 of 10, and it knows every line of the unit."""
    tenths = 15
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown" not in done.stderr
