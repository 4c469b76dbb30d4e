"""Those who send: DCMTK's programs, and pynetdicom for the few files that DCMTK cannot send."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context

from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.errors import BridgeError
from tests.acceptance.expectation import record_of

Address = tuple[str, int]
AE_TITLE = "DICOM2FHIR"
_ENDS_WITHIN_S = 150
_COMMAND = ("-aec", AE_TITLE, "-nh", "+f")
"""Send on after a failure, and read files without file meta information too."""

_SENT = re.compile(r"^I: (?:Sending file: (?P<file>.+)|Received Store Response \((?P<status>.+)\))$", re.MULTILINE)
_REPORTED = re.compile(r"^Filename +: (?P<file>.+)$|^DIMSE Status +: 0x(?P<status>[0-9a-f]{4}) ", re.MULTILINE)


@dataclass(frozen=True)
class Sent:
    """What a run of a DCMTK program came to."""

    returncode: int
    answers: dict[Path, str]
    """File -> what the bridge answered: a status in hexadecimal (dcmsend), or its meaning (storescu)."""


def _answers(pattern: re.Pattern[str], text: str) -> dict[Path, str]:
    """Pair each file with the answer that follows it; a file without one was not sent."""
    answers: dict[Path, str] = {}
    file = ""
    for match in pattern.finditer(text):
        if match["file"]:
            file = match["file"]
        else:
            answers[Path(file)] = match["status"]
    return answers


def dcmsend(address: Address, files: Iterable[Path], folder: Path) -> Sent:
    """Send files as they are: DCMTK proposes what they need, and neither decompresses nor checks UIDs."""
    report = folder / "dcmsend.txt"
    report.unlink(missing_ok=True)
    done = _run(["dcmsend", *_COMMAND, "-dn", "-nuc", "+crf", report, address[0], str(address[1]), *files])
    return Sent(done.returncode, _answers(_REPORTED, report.read_text(errors="replace")) if report.exists() else {})


def storescu(address: Address, files: Sequence[Path], folder: Path) -> Sent:
    """Send files by a profile that names their SOP classes and transfer syntaxes; each goes as it is."""
    with start_storescu(address, files, folder) as process:
        output, _ = process.communicate(timeout=_ENDS_WITHIN_S)
    return Sent(process.returncode, _answers(_SENT, output.decode(errors="replace")))


@contextmanager
def start_storescu(address: Address, files: Sequence[Path], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have files sent while the test does something else."""
    profile = folder / "storescu.cfg"
    profile.write_text(_profile(files))
    command = ["storescu", "-v", *_COMMAND, "-xf", profile, "All", address[0], str(address[1]), *files]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(output: bytes) -> list[Path]:
    """The files that storescu was told Success of, by its output so far."""
    answers = _answers(_SENT, output.decode(errors="replace"))
    return [file for file, answer in answers.items() if answer == "Success"]


def _profile(files: Iterable[Path]) -> str:
    """Configuration of storescu: one presentation context for each kind of file, 128 at most (PS3.8 9.3.2.2)."""
    kinds = sorted({kind for file in files if (kind := _kind(file)) is not None})
    syntaxes = sorted({syntax for _, syntax in kinds})
    assert len(kinds) <= 128
    names = {syntax: f"Syntax{number}" for number, syntax in enumerate(syntaxes)}
    lines = ["[[TransferSyntaxes]]"]
    for syntax, name in names.items():
        lines += [f"[{name}]", f"TransferSyntax1 = {syntax}"]
    lines += ["[[PresentationContexts]]", "[Storage]"]
    lines += [f"PresentationContext{n} = {cls}\\{names[syntax]}" for n, (cls, syntax) in enumerate(kinds, 1)]
    lines += ["[[Profiles]]", "[All]", "PresentationContexts = Storage"]
    return "\n".join(lines) + "\n"


def _kind(file: Path) -> tuple[str, str] | None:
    try:
        with file.open("rb") as opened:
            syntax = read_file(opened, {}).transfer_syntax
    except BridgeError:
        return None
    record = record_of(file)
    return (str(record.instance["SOPClassUID"]), syntax) if record else None


def pynetdicom_send(address: Address, files: Iterable[Path], monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Send the bytes of files as they are, each over an association of its own; the statuses."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # else it decodes and encodes them again
    return {file: _pynetdicom_send(address, file) for file in files}


def _pynetdicom_send(address: Address, file: Path) -> int:
    kind = _kind(file)
    assert kind is not None
    ae = AE("PYNETDICOM")
    association = ae.associate(*address, [build_context(UID(kind[0]), UID(kind[1]))], ae_title=AE_TITLE)
    assert association.is_established
    try:
        return int(association.send_c_store(file).Status)
    finally:
        association.release()


def _run(command: Sequence[object]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, timeout=_ENDS_WITHIN_S, check=False
    )
