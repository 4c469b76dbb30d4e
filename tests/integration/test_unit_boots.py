"""The unit under a real systemd, booted in a container whose root is this machine's ``/usr`` and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.left_out import CONTAINER

ROOT = Path(__file__).parents[2]
_ENDS_WITHIN_S = 240
_LAUNCHER = """#!/bin/sh
export PYTHONPATH=/opt/dicom2fhir/source:/opt/dicom2fhir/packages LD_LIBRARY_PATH={libraries} PYTHONDONTWRITEBYTECODE=1
exec {python} -m dicom2fhir "$@"
"""
"""In the place of the program that pip installs. ``exec``: the process that systemd started must notify it itself."""


def container(folder: Path) -> list[str]:
    """The options of systemd-nspawn that put the unit, the program and its Python where the unit expects them."""
    python, libraries = Path(sys.base_prefix), ""
    binds = {
        folder: "/trial",
        folder / "dicom2fhir": "/opt/dicom2fhir/bin/dicom2fhir",
        ROOT / "dicom2fhir": "/opt/dicom2fhir/source/dicom2fhir",
        Path(sysconfig.get_path("purelib")): "/opt/dicom2fhir/packages",
        ROOT / "systemd" / "dicom2fhir.service": "/etc/systemd/system/dicom2fhir.service",
    }
    if python != Path("/usr"):  # a Python below /root is one that the service may not run
        binds[python] = "/opt/python"
        python, libraries = Path("/opt/python"), "/opt/python/lib"
    program = python / "bin" / f"python{sysconfig.get_python_version()}"
    (folder / "dicom2fhir").write_text(_LAUNCHER.format(python=program, libraries=libraries))
    (folder / "dicom2fhir").chmod(0o755)
    return [f"--bind={source}:{target}" for source, target in binds.items()]


@pytest.mark.needs("systemd")
@pytest.mark.timeout(_ENDS_WITHIN_S + 60)
def test_the_unit_starts_reloads_restarts_and_stops(tmp_path: Path) -> None:
    """Start, reload, ``kill -9``, watchdog, stop and an invalid configuration, by ``tests/unit_under_systemd.sh``."""
    said = tmp_path / "said.txt"
    (tmp_path / "trial.sh").write_text((ROOT / "tests" / "unit_under_systemd.sh").read_text())
    (tmp_path / "run.sh").write_text(
        "#!/bin/bash\nexec >/trial/said.txt 2>&1\nexport PATH=/opt/dicom2fhir/bin:$PATH\n"
        "mkdir -p /etc/dicom2fhir\nexec bash /trial/trial.sh\n"
    )
    (tmp_path / "run.sh").chmod(0o755)
    command = ["systemd-nspawn", *CONTAINER, f"--machine=dicom2fhir-{os.getpid()}", *container(tmp_path)]
    booted = subprocess.Popen(
        # nothing is connected to the network of the container: the unit would wait for it
        [
            *command,
            "--private-network",
            "--console=pipe",
            "--boot",
            "systemd.run=/trial/run.sh",
            "systemd.mask=systemd-networkd-wait-online.service",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        status = booted.wait(_ENDS_WITHIN_S)
    finally:
        booted.kill()
        booted.wait()
    assert said.read_text().endswith("everything was tried\n"), said.read_text()
    assert status == 0
