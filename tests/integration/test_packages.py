"""Wheel and sdist: they have every file, and the program runs from the wheel alone (``make package`` installs it)."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dicom2fhir import __version__
from dicom2fhir.demo.synthetic import instance

ROOT = Path(__file__).parents[2]


def build(source: Path, into: Path, target: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(into)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def package_files(root: Path) -> set[str]:
    found = (path for path in (root / "dicom2fhir").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)) for path in found}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if ".dist-info/" not in name} == package_files(ROOT)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = build(source, tmp_path / "out", "wheel")
    assert again.read_bytes() == wheel.read_bytes()
    for name in (
        "Makefile",
        "requirements.lock",
        "systemd/dicom2fhir.service",
        "tests/test_layers.py",
        "CONTRIBUTING.md",
    ):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_program_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    instance("CT", "wheel").save_as(tmp_path / "1.dcm", enforce_file_format=True)

    def run(*arguments: str) -> str:
        # before the working copy, which is installed in place
        environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert run("-c", "import dicom2fhir; print(dicom2fhir.__file__)").strip() == str(place / "dicom2fhir/__init__.py")
    assert __version__ in run("-m", "dicom2fhir", "--version")
    assert "osiris" in run("-m", "dicom2fhir", "profiles", "list")
    assert "ImagingStudy" in run("-m", "dicom2fhir", "convert", "1.dcm", "--profile", "osiris")
    assert "delivered" in run("-m", "dicom2fhir", "demo").lower()
