"""The Python API: the same result as the commands, from paths and from data sets, and every example of its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

import dicom2fhir
from dicom2fhir.demo.synthetic import instance
from dicom2fhir.errors import CannotUnderstand, ConfigError, Permanent
from tests.command_line import run_here

PAGE = (Path(__file__).parents[2] / "docs" / "python-api.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two studies in a folder, with a file that is no DICOM."""
    folder = tmp_path / "studies"
    folder.mkdir()
    instance("CT", "first").save_as(folder / "1.dcm", enforce_file_format=True)
    instance("MR", "second").save_as(folder / "2.dcm", enforce_file_format=True)
    (folder / "note.txt").write_text("no DICOM")
    return folder


@pytest.mark.parametrize(("fhir", "profile"), [("R4", None), ("R5", "eu-imaging"), ("auto", "osiris"), ("3.0.2", None)])
def test_a_bundle_is_what_the_command_writes(files: Path, fhir: str, profile: str | None) -> None:
    flags = ["--profile", profile] if profile else []
    flags += [] if fhir == "auto" else ["--fhir", fhir]
    written = run_here("convert", files, *flags).stdout.splitlines()
    assert [json.loads(line) for line in written] == list(dicom2fhir.convert(files, fhir, profile))


def test_an_explanation_is_what_the_command_writes(files: Path) -> None:
    for file in sorted(files.glob("*.dcm")):
        written = json.loads(run_here("explain", file, "--json", "--profile", "osiris").stdout)
        assert json.loads(json.dumps(dicom2fhir.explain(file, profile="osiris"))) == written


def test_sources_may_be_mixed(files: Path, tmp_path: Path) -> None:
    archive = tmp_path / "studies.zip"
    with zipfile.ZipFile(archive, "w") as into:
        into.write(files / "1.dcm", "1.dcm")
    mixed: list[str | pydicom.Dataset] = [str(archive), pydicom.dcmread(files / "2.dcm")]
    assert list(dicom2fhir.convert(mixed)) == list(dicom2fhir.convert([files / "1.dcm", files / "2.dcm"]))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_data_set_is_read_as_its_file_in_every_encoding(syntax: pydicom.uid.UID | None, tmp_path: Path) -> None:
    file = tmp_path / "1.dcm"
    made = instance("CT", "encodings")
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    made.PatientName = "Yamada^Tarou=山田^太郎"
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(file, enforce_file_format=True)
    expected = list(dicom2fhir.convert(file))
    assert "山田" in json.dumps(expected, ensure_ascii=False)
    read = pydicom.dcmread(file)
    assert list(dicom2fhir.convert(read)) == expected
    decoded = pydicom.dcmread(file)
    decoded.decode()
    assert list(dicom2fhir.convert([decoded])) == expected
    assert json.dumps(dicom2fhir.explain(read)) == json.dumps(dicom2fhir.explain(file))


def test_a_data_set_without_file_meta_information_is_not_changed() -> None:
    made = instance("CT", "bare")
    expected = list(dicom2fhir.convert(made))
    del made.file_meta
    before = str(made)
    assert list(dicom2fhir.convert(made)) == expected
    assert str(made) == before
    assert not hasattr(made, "file_meta")


def test_pixel_data_is_not_copied() -> None:
    made = instance("CT", "large")
    expected = list(dicom2fhir.convert(made))
    made.PixelData = b"\0\0" * 3  # neither its size nor that of the frame matters
    made["PixelData"]._value = object()  # cannot be written
    assert list(dicom2fhir.convert(made)) == expected


def test_options_come_from_the_file_and_from_nowhere_else(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[fhir]\npatient = "link"\n')
    plain, linked = (next(dicom2fhir.convert(files, config=file)) for file in (None, config))
    assert len(plain["entry"]) == len(linked["entry"]) + 1
    monkeypatch.setenv("DICOM2FHIR_FHIR__PATIENT", "link")
    assert next(dicom2fhir.convert(files)) == plain


def test_the_first_problem_is_raised_with_its_name(files: Path) -> None:
    with pytest.raises(CannotUnderstand, match=r"missing\.dcm: No such file"):
        next(dicom2fhir.convert([files, "missing.dcm"]))
    with pytest.raises(CannotUnderstand, match=r"note\.txt: "):
        next(dicom2fhir.convert(files / "note.txt"))
    nameless = instance("CT", "nameless")
    del nameless.StudyInstanceUID
    with pytest.raises(CannotUnderstand, match=r"data set: .*StudyInstanceUID"):
        next(dicom2fhir.convert(nameless))


def test_problems_may_be_collected(files: Path) -> None:
    problems = []
    other = instance("CT", "first")  # of the study of 1.dcm, and of another patient
    other.PatientID, other.PatientName, other.PatientBirthDate = "OTHER", "Other^Patient", "19010101"
    other.SOPInstanceUID = "2.25.1"
    sources: list[str | Path | pydicom.Dataset] = [files, "missing.dcm", other]
    bundles = list(dicom2fhir.convert(sources, on_error=lambda name, reason: problems.append(name)))
    assert problems == ["missing.dcm", instance("CT", "first").StudyInstanceUID]
    assert len(bundles) == 1


def test_options_that_are_wrong_are_an_error_of_the_call(files: Path) -> None:
    with pytest.raises(ConfigError, match="R9"):
        dicom2fhir.convert(files, fhir="R9")
    with pytest.raises(ConfigError, match="nowhere"):
        dicom2fhir.convert(files, profile="nowhere")


def test_explain_raises_what_is_wrong_with_the_file(files: Path) -> None:
    with pytest.raises(Permanent, match="DICOM"):
        dicom2fhir.explain(files / "note.txt")
    with pytest.raises(FileNotFoundError):
        dicom2fhir.explain("missing.dcm")


def test_the_package_loads_nothing_before_a_function_is_used() -> None:
    script = (
        "import sys, dicom2fhir; first = set(sys.modules); dicom2fhir.convert;"
        "print([name for name in sorted(first) if name.startswith(('dicom2fhir.', 'pydicom', 'pydantic'))],"
        "'pydicom' in sys.modules, 'structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.split("\n")[0] == "[] False False"


def test_other_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        dicom2fhir.nothing  # noqa: B018


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_each_example_of_the_page_runs(
    example: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files.parent)
    exec(example, {"__name__": "example"})
    assert capsys.readouterr().out


def test_the_page_has_examples_of_both_functions() -> None:
    assert len(EXAMPLES) == 4
    assert {name for name in ("convert", "explain") if f"dicom2fhir.{name}(" in "".join(EXAMPLES)} == {
        "convert",
        "explain",
    }
