"""What the README says to type: the commands exist, and the steps of "In production" fit the unit and the program."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest

from dicom2fhir.cli import cli
from dicom2fhir.config import load
from dicom2fhir.config.locations import SERVICE_STATE, SYSTEM_CONFIG
from tests.readme import README, steps

ROOT = Path(__file__).parents[2]
SHELL = " ".join(line for step in steps().values() for line in step if not line.startswith(("[", "#")))


def unit() -> dict[str, str]:
    """The last value of each setting of the unit's [Service]."""
    found = RawConfigParser(strict=False, comment_prefixes=("#",), interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    found.read(ROOT / "systemd" / "dicom2fhir.service")
    return dict(found["Service"])


def commands() -> Iterator[list[str]]:
    """Every line of the README that runs the program."""
    for line in README.splitlines():
        if re.match(r"\s{4,}(sudo )?dicom2fhir ", line):
            words = shlex.split(line, comments=True)
            yield words[words.index("dicom2fhir") + 1 :]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_each_command_of_the_readme_can_be_typed(words: list[str]) -> None:
    name, *arguments = words[: words.index(">")] if ">" in words else words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    options = {option for parameter in command.params for option in parameter.opts}
    if not isinstance(command, click.Group):
        assert {word for word in arguments if word.startswith("-") and word != "-"} <= options


def test_the_readme_has_commands() -> None:
    assert len(list(commands())) > 12


def test_the_program_is_where_the_unit_starts_it() -> None:
    program, *arguments = unit()["ExecStart"].split()
    venv = str(Path(program).parents[1])
    assert f"python3 -m venv {venv}" in SHELL
    assert f"{venv}/bin/pip install ." in SHELL
    assert f"ln -s {program} " in SHELL
    assert arguments == ["serve", "--config", str(SYSTEM_CONFIG)]


def test_the_user_and_the_folders_are_those_of_the_unit() -> None:
    user = unit()["User"]
    assert re.search(rf"useradd --system .*--home-dir {SERVICE_STATE} .* {user}\b", SHELL)
    assert f"install -m 640 -g {user} /dev/stdin" in SHELL
    assert f"install -d {SYSTEM_CONFIG.parent}" in SHELL
    assert Path("/var/lib") / unit()["StateDirectory"] == SERVICE_STATE
    assert Path("/etc") / unit()["ConfigurationDirectory"] == SYSTEM_CONFIG.parent


def test_the_configuration_of_the_readme_is_sound(tmp_path: Path) -> None:
    text = "\n".join(line for line in steps()[2] if not line.startswith("install "))
    file = tmp_path / "config.toml"
    file.write_text(text)
    settings = load(file, environ={})
    assert settings.receiver.calling_ae_titles == ("PACS",)
    token = tomllib.loads(text)["destinations"]["main"]["token_file"]
    assert f"/dev/stdin {token}" in SHELL
