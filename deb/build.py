"""Build the Debian package of this version: ``python -m deb.build WHEEL`` writes it to ``dist/``.

The program and its pinned dependencies are in ``/opt/dicom2fhir``, where the unit starts them. They run with Debian's
Python.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from deb.maintainer_scripts import POSTINST, POSTRM, PRERM
from deb.man_pages import man_page
from dicom2fhir import __version__
from dicom2fhir.cli import cli

ROOT = Path(__file__).parents[1]
_PYTHON = "/usr/bin/python3"
_PROGRAM = Path("opt/dicom2fhir")
_COMPLETIONS: dict[str, type[ShellComplete]] = {
    "usr/share/bash-completion/completions/dicom2fhir": BashComplete,
    "usr/share/zsh/vendor-completions/_dicom2fhir": ZshComplete,
    "usr/share/fish/vendor_completions.d/dicom2fhir.fish": FishComplete,
}
SYSUSERS = 'u dicom2fhir - "DICOM to FHIR bridge" /var/lib/dicom2fhir\n'
CONFFILE = "etc/dicom2fhir/config.toml"


def documents() -> dict[str, bytes]:
    """Every file of the package but the program: its path -> its content."""
    commands = {
        "dicom2fhir": cli,
        **{f"dicom2fhir-{name}": cli.get_command(click.Context(cli), name) for name in _names()},
    }
    pages = {
        f"usr/share/man/man1/{name}.1.gz": man_page(name, command) for name, command in commands.items() if command
    }
    return {
        "usr/lib/systemd/system/dicom2fhir.service": (ROOT / "systemd" / "dicom2fhir.service").read_bytes(),
        "usr/lib/sysusers.d/dicom2fhir.conf": SYSUSERS.encode(),
        CONFFILE: (ROOT / "config.example.toml").read_bytes(),
        "usr/share/doc/dicom2fhir/copyright": (ROOT / "LICENSE").read_bytes(),
        "usr/share/doc/dicom2fhir/changelog.gz": _compressed((ROOT / "CHANGELOG.md").read_text("utf-8")),
        **{path: _compressed(text) for path, text in pages.items()},
        **{path: _completion(shell).encode() for path, shell in _COMPLETIONS.items()},
    }


def _names() -> list[str]:
    return cli.list_commands(click.Context(cli))


def _compressed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def _completion(shell: type[ShellComplete]) -> str:
    return shell(cli, {}, "dicom2fhir", "_DICOM2FHIR_COMPLETE").source()


def control(architecture: str, python: str, kilobytes: int) -> str:
    """The control file; compiled dependencies fit one minor version of Python (``3.11``)."""
    major, minor = map(int, python.split("."))
    return (
        f"Package: dicom2fhir\nVersion: {__version__}\nArchitecture: {architecture}\n"
        "Section: science\nPriority: optional\n"
        f"Maintainer: dicom2fhir contributors <dicom2fhir@localhost>\nInstalled-Size: {kilobytes}\n"
        f"Depends: python3 (>= {python}~), python3 (<< {major}.{minor + 1}~), systemd\n"
        "Description: bridge from DICOM to FHIR\n"
        " A daemon that receives DICOM by C-STORE and from folders, and writes ImagingStudy to FHIR servers.\n"
    )


def _install_program(root: Path, wheel: Path) -> None:
    """A virtual environment as it will be in ``/opt``, with the pinned dependencies."""
    place = root / _PROGRAM
    subprocess.run([_PYTHON, "-m", "venv", "--without-pip", place], check=True)
    python = str(place / "bin" / "python")
    uv = shutil.which("uv")
    pip = (
        [uv, "pip", "install", "--python", python]
        if uv
        else [sys.executable, "-m", "pip", "--python", python, "install"]
    )
    subprocess.run([*pip, "--quiet", "--require-hashes", "-r", str(ROOT / "requirements-extras.lock")], check=True)
    subprocess.run([*pip, "--quiet", "--no-deps", str(wheel)], check=True)
    for folder in place.rglob("__pycache__"):
        shutil.rmtree(folder)
    for file in (place / "bin").iterdir():
        if not file.name.startswith("python") and file.name != "dicom2fhir":
            file.unlink()
    for file in (place / "bin" / "dicom2fhir", place / "pyvenv.cfg"):
        file.write_text(file.read_text().replace(str(place), f"/{_PROGRAM}"))


def build(wheel: Path, into: Path) -> Path:
    """Build the package; its path."""
    root = ROOT / "build" / "deb"
    shutil.rmtree(root, ignore_errors=True)
    for path, content in documents().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    _install_program(root, wheel)
    (root / "usr" / "bin").mkdir()
    (root / "usr" / "bin" / "dicom2fhir").symlink_to(f"/{_PROGRAM}/bin/dicom2fhir")
    kilobytes = sum(file.lstat().st_size for file in root.rglob("*") if file.is_file()) // 1024
    architecture = _output("dpkg", "--print-architecture")
    python = _output(_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(control(architecture, python, kilobytes))
    (root / "DEBIAN" / "conffiles").write_text(f"/{CONFFILE}\n")
    for name, script in {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}.items():
        (root / "DEBIAN" / name).write_text(script)
        (root / "DEBIAN" / name).chmod(0o755)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", root], check=True)
    made = into / f"dicom2fhir_{__version__}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, made], check=True, stdout=subprocess.DEVNULL)
    return made


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    made = build(parser.parse_args().wheel, ROOT / "dist")
    print(f"wrote {made.relative_to(ROOT)} ({made.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
