"""The list of planted faults fits the sources; ``make planted`` tries them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.planted import ROOT, Fault, Verdict, all_faults, copied, run_tests, table

FAULTS = all_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_fits_the_sources_and_its_list_names_tests(fault: Fault) -> None:
    fault.planted()
    assert fault.files
    assert all((ROOT / file).is_file() for file in fault.files)
    assert fault.harm


def test_no_fault_uses_a_name_that_is_undefined(tmp_path: Path) -> None:
    """A NameError would be caught by any test, and by none for the fault's sake."""
    for fault in FAULTS:
        if fault.file.endswith(".py"):
            (tmp_path / f"{fault.name}.py").write_text(fault.planted(), "utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--select=F821,F823", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_name_of_a_test_is_no_markup() -> None:
    console = Console(width=100, file=StringIO())
    console.print(table([Verdict("web", "it", "", True, "test_page[/]")]))
    assert "test_page[/]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_names_are_unique() -> None:
    assert not [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("absent", "", "not 0 times"),
        ("a", "b", "not 2 times"),
        ("1", "1  # said", "nothing is changed"),
    ],
)
def test_a_fault_that_does_not_fit_is_told(tmp_path: Path, old: str, new: str, why: str) -> None:
    (tmp_path / "file.py").write_text("a = 1\nb = a\n")
    with pytest.raises(ValueError, match=why):
        Fault(group="bar 1", files=(), name="it", harm="", file="file.py", old=old, new=new).planted(tmp_path)


def test_a_tree_that_belongs_to_somebody_else_is_copied(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "file.py").touch()
    if os.geteuid() == 0:
        for path in (tmp_path, tmp_path / ".git"):
            os.chown(path, 1000, 1000)
    with copied(tmp_path) as copy:
        assert (copy / "file.py").exists()


def test_tests_in_a_copy_run_against_the_copy() -> None:
    """A process that a test starts, too: what is planted in the copy must be what runs."""
    check = """
import subprocess, sys
import pytest
import dicom2fhir
pytestmark = pytest.mark.bar(99)
def test_it():
    said = subprocess.run([sys.executable, "-c", "import dicom2fhir as d; print(d.planted)"], capture_output=True)
    assert dicom2fhir.planted == 5 and said.stdout == b"5\\n"
    assert not dicom2fhir.planted, "the last line"
"""
    with copied() as copy:
        package = copy / "dicom2fhir" / "__init__.py"
        package.write_text(f"{package.read_text()}planted = 5\n")
        path = copy / "tests" / "acceptance" / "test_bar_99_it.py"
        path.write_text(check)
        run = run_tests(copy, [str(path.relative_to(copy))])
    assert run.status == 1
    assert run.failed_test == "tests/acceptance/test_bar_99_it.py::test_it"
    assert "the last line" in run.message
