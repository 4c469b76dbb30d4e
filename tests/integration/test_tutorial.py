"""The commands of the tutorial and of the page about moving, as they stand there, with other ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance, make_uid

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def run_script(folder: Path, *steps: str) -> str:
    """Run commands in a shell with job control, as typed, with this program on the PATH; what they say."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DICOM2FHIR_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["DICOM2FHIR_WEB__ENABLED"] = "false"  # its port is that of the machine
    script, log = folder / "script.sh", folder / "log.txt"
    script.write_text("set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n" + "\n".join(steps))
    with log.open("wb") as said:
        running = subprocess.Popen(
            ["bash", "-m", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            status = running.wait(100)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGTERM)
            status = running.wait(30)
    assert status == 0, log.read_text()
    return log.read_text()


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@pytest.mark.needs("Orthanc")
def test_the_tutorial_ends_with_a_study_on_the_server(hapi_r4: str, tmp_path: Path) -> None:
    study = make_uid("tutorial", str(tmp_path))
    made = instance("CT", "tutorial")
    made.StudyInstanceUID = study
    made.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    dicom, web = free_ports(2)
    *steps, stop = commands("tutorial.md")
    for old, new in (("http://127.0.0.1:8080/fhir", hapi_r4), ("8042", web), ("11112", dicom)):
        steps = [step.replace(old, new) for step in steps]
    steps[0] = steps[0].replace("serve ", f"serve --port {dicom} ")
    search = f"{hapi_r4}/ImagingStudy?identifier=urn:dicom:uid%7Curn:oid:{study}"
    delivered = f"until curl --fail --silent '{search}' | grep -q '\"entry\"'; do sleep 0.5; done"
    said = run_script(tmp_path, *steps[:3], delivered, *steps[3:], stop, "wait")
    assert re.search(r'"resourceType": ?"ImagingStudy"', said)


def test_a_store_moves_with_the_commands_of_the_page(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (tmp_path / "inbox").mkdir()
    instance("CT", "moving").save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    backup, restore = commands("moving.md")
    option = "export DICOM2FHIR_STORE__DIRECTORY={}"
    said = run_script(
        tmp_path,
        f"dicom2fhir backfill inbox --state-dir {old} >/dev/null 2>&1",
        option.format(old),
        backup,
        option.format(new),
        restore,
    )
    assert (new / "store.db").exists()
    assert re.search(r"^Studies +1$", said, re.MULTILINE)
