from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
