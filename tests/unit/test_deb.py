"""What the Debian package holds besides the program; ``make deb`` builds, installs, uses and purges it."""

from __future__ import annotations

import gzip
import re
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest

from deb.build import CONFFILE, SYSUSERS, control, documents
from deb.maintainer_scripts import POSTINST, POSTRM, PRERM
from deb.man_pages import man_page
from dicom2fhir.cli import cli
from dicom2fhir.config.locations import SERVICE_STATE, SYSTEM_CONFIG

ROOT = Path(__file__).parents[2]
FILES = documents()
PAGES = {path: gzip.decompress(content).decode() for path, content in FILES.items() if path.endswith(".1.gz")}


def test_every_command_has_a_page_with_its_options() -> None:
    for name in cli.list_commands(click.Context(cli)):
        page = PAGES[f"usr/share/man/man1/dicom2fhir-{name}.1.gz"]
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for parameter in command.params:
            assert all(option.replace("-", "\\-") in page for option in parameter.opts if option.startswith("-")), name
    assert len(PAGES) == len(cli.list_commands(click.Context(cli))) + 1


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_each_line_of_a_page_is_text_or_a_known_request(page: str) -> None:
    requests = [line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))]
    assert set(requests) <= {".TH", ".SH", ".TP", ".PP"}
    assert page.startswith(".TH ") and ".SH SYNOPSIS" in page


def test_text_of_a_page_is_never_a_request() -> None:
    page = man_page("dicom2fhir-x", click.Command("x", help=".SH \\fB not a heading"))
    assert "\\&.SH \\efB not a heading" in page.splitlines()


@pytest.mark.parametrize("script", [POSTINST, PRERM, POSTRM], ids=["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_shell(script: str) -> None:
    assert script.startswith("#!/bin/sh\nset -e\n")
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_the_package_has_the_unit_and_what_the_unit_names() -> None:
    unit = RawConfigParser(strict=False, comment_prefixes=("#",), interpolation=None)
    unit.read_string(FILES["usr/lib/systemd/system/dicom2fhir.service"].decode())
    assert unit["Service"]["ExecStart"].startswith("/opt/dicom2fhir/bin/dicom2fhir ")
    assert f"/{CONFFILE}" == str(SYSTEM_CONFIG)
    assert re.match(rf"u {unit['Service']['User']} - \".*\" {SERVICE_STATE}\n", SYSUSERS)
    assert str(SERVICE_STATE) in POSTRM and str(SYSTEM_CONFIG.parent) in POSTRM


def test_completions_know_the_program() -> None:
    completions = {path: text.decode() for path, text in FILES.items() if "completions" in path}
    assert len(completions) == 3
    assert all("_DICOM2FHIR_COMPLETE" in text for text in completions.values())


def test_the_control_file_asks_for_the_python_that_it_was_built_with() -> None:
    lines = control("amd64", "3.11", 100).splitlines()
    fields = dict(line.split(": ", 1) for line in lines if not line.startswith(" "))
    assert fields["Depends"] == "python3 (>= 3.11~), python3 (<< 3.12~), systemd"
    assert fields["Package"] == "dicom2fhir" and fields["Installed-Size"] == "100"
