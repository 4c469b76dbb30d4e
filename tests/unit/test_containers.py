"""``Dockerfile`` and ``compose.yaml`` fit the program and each other. ``make image`` builds and runs the image."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom2fhir.config import load
from dicom2fhir.config.locations import SERVICE_STATE, SYSTEM_CONFIG

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "containers.md").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, each on one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def last(instruction: str) -> str:
    return [argument for name, argument in instructions() if name == instruction][-1]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [shlex.split(argument) for name, argument in instructions() if name == "COPY"]
    sources = {source for words in copied if not words[0].startswith("--from") for source in words[:-1]}
    assert sources == kept
    assert all((ROOT / source).exists() for source in sources)


def test_what_is_copied_is_enough_to_build_the_program(tmp_path: Path) -> None:
    for source in (words for name, argument in instructions() if name == "COPY" for words in [shlex.split(argument)]):
        for name in source[:-1] if not source[0].startswith("--from") else ():
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "out")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert list((tmp_path / "out").glob("*.whl"))


def test_base_images_are_pinned_and_the_stages_have_the_same_python() -> None:
    bases = [argument.split()[0] for name, argument in instructions() if name == "FROM"]
    # distroless has the version in the name, and no tags of versions
    assert bases == ["debian:12-slim", "gcr.io/distroless/python3-debian12"], (
        "a virtual environment is moved between them"
    )
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image)] == []


def test_rules_for_images() -> None:
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    assert last("USER") not in ("root", "0")
    assert names.index("USER") > max(number for number, name in enumerate(names) if name == "RUN")
    for name in ("ENTRYPOINT", "CMD", "VOLUME"):
        assert isinstance(json.loads(last(name)), list), f"{name} in its exec form"
    pips = re.findall(r"pip install[^&]*", " ".join(argument for name, argument in instructions() if name == "RUN"))
    assert pips and all("--no-cache-dir" in pip for pip in pips)
    assert all("--require-hashes" in pip or "--no-deps" in pip for pip in pips)
    assert "requirements-extras.lock" in pips[0], "users need OAuth 2.0"


def test_the_command_is_that_of_the_unit() -> None:
    unit = RawConfigParser(strict=False, comment_prefixes=("#",), interpolation=None)
    unit.read(ROOT / "systemd" / "dicom2fhir.service")
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert json.loads(last("ENTRYPOINT")) == [Path(program).name]
    assert json.loads(last("CMD")) == arguments
    assert f"venv {Path(program).parents[1]}" in " ".join(argument for _, argument in instructions())
    assert json.loads(last("VOLUME")) == [str(SERVICE_STATE)]


def test_the_ports_are_those_of_the_program() -> None:
    settings = load(None, environ={})
    assert last("EXPOSE").split() == [str(settings.receiver.port), str(settings.web.port)]
    assert f"http://127.0.0.1:{settings.web.port}/readyz" in last("HEALTHCHECK")
    assert [port.split(":")[1:] for port in SERVICES["bridge"]["ports"]] == [
        [port, port] for port in last("EXPOSE").split()
    ]


def test_every_file_that_a_service_mounts_exists() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", ())]
    files = [source for source, *_ in mounted if source.startswith(".")]
    assert [source for source in files if not (ROOT / source).is_file()] == []
    assert [words for words in mounted if words[0].startswith(".") and words[-1] != "ro"] == []
    assert {source for source, *_ in mounted} - set(files) == COMPOSE["volumes"].keys()
    used = {str(path.relative_to(ROOT)) for path in (ROOT / "containers").iterdir()}
    assert used <= {source.removeprefix("./") for source in files}, "a file that no service mounts"


def test_the_bridge_has_no_rights_and_all_ports_are_local() -> None:
    bridge = SERVICES["bridge"]
    assert bridge["read_only"] is True
    assert bridge["cap_drop"] == ["ALL"]
    assert bridge["security_opt"] == ["no-new-privileges:true"]
    assert [
        port for service in SERVICES.values() for port in service["ports"] if not port.startswith("127.0.0.1:")
    ] == []
    unit = re.search(r"TimeoutStopSec=(\d+)", (ROOT / "systemd" / "dicom2fhir.service").read_text())
    assert unit and bridge["stop_grace_period"] == f"{unit[1]}s"


def test_the_configuration_of_the_bridge_is_valid_and_its_names_are_services() -> None:
    (source,) = (volume.split(":")[0] for volume in SERVICES["bridge"]["volumes"] if str(SYSTEM_CONFIG) in volume)
    settings = load(ROOT / source, environ={})
    orthanc = json.loads((ROOT / "containers" / "orthanc.json").read_text())
    assert settings.receiver.calling_ae_titles == (orthanc["DicomAet"],)
    assert orthanc["DicomModalities"] == {"bridge": [settings.receiver.ae_title, "bridge", settings.receiver.port]}
    (destination,) = settings.destinations.values()
    assert destination.type == "fhir" and re.fullmatch(r"http://(\w+):8080/fhir", destination.url)[1] in SERVICES  # type: ignore[index]
    assert settings.store.directory == SERVICE_STATE
    assert str(settings.web.token_file) == f"/run/secrets/{SERVICES['bridge']['secrets'][0]}"
    prometheus = yaml.safe_load((ROOT / "containers" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    ours = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert (job["job_name"], job["scrape_interval"]) == (ours["job_name"], ours["scrape_interval"])
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"{settings.web.server_names[0]}:{settings.web.port}" and settings.web.server_names[0] in SERVICES
    assert job["authorization"]["credentials_file"] == str(settings.web.token_file)


@pytest.mark.parametrize("line", re.findall(r"^    (.*docker compose.*)$", PAGE, re.MULTILINE))
def test_the_page_names_services_and_variables_that_exist(line: str) -> None:
    assert f"# {line}" in (ROOT / "compose.yaml").read_text()
    variables = {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert {word.partition("=")[0] for word in line.split() if "=" in word} == variables


def test_the_page_lists_every_service() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(SERVICES)
    assert "`compose.yaml` was not run" in PAGE
