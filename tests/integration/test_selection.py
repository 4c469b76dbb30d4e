"""Two destinations of one daemon, one of which takes no research."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage  # type: ignore[attr-defined]

from dicom2fhir.demo.synthetic import instance
from tests.command_line import run_here
from tests.daemon_process import DaemonProcess, wait_until
from tests.scripted_server import ScriptedServer, scripted_server

SETTINGS = """
[folders.inbox]
path = "{inbox}"
stable_s = 0.1
[destinations.own]
url = "{own}"
[destinations.national]
url = "{national}"
only = {{ modality = ["CT"], calling_ae_title = ["CT*", "RESEARCH*"] }}
except = {{ calling_ae_title = ["research*"] }}
"""


@pytest.fixture
def own() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def national() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def daemon(tmp_path: Path, own: ScriptedServer, national: ScriptedServer) -> Iterator[DaemonProcess]:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    settings = SETTINGS.format(inbox=inbox, own=own.url, national=national.url)
    made = DaemonProcess(tmp_path / "daemon", (), settings)
    made.start()
    yield made
    made.clean_up()


def send(daemon: DaemonProcess, calling_ae: str, study: str, modality: str = "CT", number: int = 1) -> str:
    made = instance(modality, study, number)
    ae = AE(calling_ae)
    for sop_class in (CTImageStorage, MRImageStorage):
        ae.add_requested_context(sop_class)
    association = ae.associate(*daemon.address, ae_title="DICOM2FHIR")
    assert association.is_established
    assert association.send_c_store(made).Status == 0
    association.release()
    return str(made.StudyInstanceUID)


def at(daemon: DaemonProcess, study: str) -> dict[str, Any]:
    (found,) = [one for one in daemon.status()["studies"] if one["study_uid"] == study]
    return {delivery["destination"]: delivery for delivery in found["deliveries"]}


def uids(server: ScriptedServer) -> set[str]:
    return {
        identifier["value"].removeprefix("urn:oid:")
        for study in server.studies
        for identifier in study["identifier"]
        if identifier.get("system") == "urn:dicom:uid"
    }


def test_tests_and_research_never_reach_the_national_platform(
    daemon: DaemonProcess, own: ScriptedServer, national: ScriptedServer, tmp_path: Path
) -> None:
    clinical = send(daemon, "CT1", "clinical")
    research = send(daemon, "RESEARCH1", "research")
    magnetic = send(daemon, "CT1", "magnetic", "MR")
    filed = instance("CT", "filed")
    filed.save_as(tmp_path / "inbox" / "1.dcm", enforce_file_format=True)
    everything = {clinical, research, magnetic, str(filed.StudyInstanceUID)}
    wait_until(lambda: uids(own) == everything, 60, "the hospital's own server has everything")
    wait_until(lambda: daemon.status()["stats"]["excluded"] == 3, 60, "the rest is left out")
    daemon.settled()
    assert uids(national) == {clinical}

    assert at(daemon, research)["national"]["why"] == 'except.calling_ae_title matches "research*"'
    assert at(daemon, magnetic)["national"]["why"] == "only.modality matches no value of the study"
    filed_at = at(daemon, str(filed.StudyInstanceUID))
    assert filed_at["national"]["why"] == "only.calling_ae_title matches no value of the study"
    assert filed_at["own"]["state"] == "delivered"
    shown = run_here("status", "--check", "--state", "excluded", "--state-dir", daemon.state_dir)
    assert shown.status == 0, "nothing calls for a person"
    assert b'except.calling_ae_title matches "research*"' in shown.stdout

    # a research series in a study that was sent: it is not removed, and nothing more of it is sent
    assert send(daemon, "RESEARCH1", "clinical", number=2) == clinical
    wait_until(lambda: at(daemon, clinical)["national"]["state"] == "excluded", 60, "it is left out now")
    assert "revision 1 was sent at" in at(daemon, clinical)["national"]["why"]
    assert len(national.studies) == 1


@pytest.mark.parametrize("way", ["reload", "restart"])
def test_another_selection_decides_anew(daemon: DaemonProcess, national: ScriptedServer, way: str) -> None:
    magnetic = send(daemon, "CT1", "magnetic", "MR")
    wait_until(lambda: at(daemon, magnetic)["national"]["state"] == "excluded", 60, "it is left out")
    text = daemon.config_path.read_text()
    daemon.config_path.write_text(text.replace('modality = ["CT"]', 'modality = ["CT", "MR"]'))
    if way == "reload":
        daemon.hang_up()
    else:
        assert daemon.terminate() == 0
        daemon.start()
    wait_until(lambda: uids(national) == {magnetic}, 60, "it was decided anew")
