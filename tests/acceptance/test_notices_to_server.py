"""IAN and MPPS from a modality and an archive, by a daemon, to a FHIR server: what a client finds there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.model import Resource
from dicom2fhir.store.statuses import State
from testdata.make_notices import BASE, LOCATION_UID, Notice, at, begun, ended, notification
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.expectation import Server, without_meta
from tests.daemon_process import DaemonProcess, to_files, wait_until, with_receiver
from tests.memory_server import Manner, MemoryServer
from tests.notice_sender import AE_TITLE, send

pytestmark = pytest.mark.timeout(300)

WITH_MPPS = with_receiver("mpps = true")
LONG_S = 3600
WITHIN_S = 60.0
AVAILABILITY = "http://hl7.org/fhir/3.0/StructureDefinition/extension-ImagingStudy.availability"


@pytest.fixture
def name() -> str:
    """Of a test's own study: all tests share the servers."""
    return f"notices {uuid4().hex[:8]}"


@pytest.fixture
def made(name: str) -> list[Dataset]:
    """Two series of two slices."""
    return [instance("CT", name, series, number) for series in (1, 2) for number in (1, 2)]


@pytest.fixture
def memory() -> Iterator[MemoryServer]:
    server = MemoryServer(Manner(none_match=412, checks_versions=True))
    yield server
    server.close()


def store(daemon: DaemonProcess, instances: list[Dataset]) -> None:
    ae = AE("CT1")
    over = ae.associate(*daemon.address, [build_context(UID(instances[0].SOPClassUID))], ae_title=AE_TITLE)
    assert over.is_established
    assert {over.send_c_store(one).Status for one in instances} == {0x0000}
    over.release()


def serve(daemon: StartDaemon, url: str, *flags: str, settings: str = "") -> DaemonProcess:
    """A daemon that accepts MPPS, too.

    Parameters
    ----------
    settings
        More options of the destination, and more destinations.
    """
    plan = f'[destinations.main]\nurl = "{url}"\n{settings}'
    started = daemon(*flags, settings=plan)
    assert started.reload(plan, WITH_MPPS)["event"] == "config.reloaded"
    return started


def availability(resource: Resource) -> list[str]:
    return [one["valueCode"] for one in resource.get("extension", []) if one["url"].endswith("availability")]


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("version", ["r4", "r5"])
@pytest.mark.parametrize("first", ["instances", "notifications"])
def test_what_an_archive_states_is_at_the_server(
    hapi: Callable[[str], str], version: str, first: str, daemon: StartDaemon, made: list[Dataset], name: str
) -> None:
    server = Server(hapi(version))
    started = daemon("--fhir-url", server.base_url)
    notices = [
        notification(f"{name} 1", made, at("PACS", base=f"{BASE}/{version}")),
        notification(f"{name} 2", made[2:], at("PACS", "OFFLINE", location_uid=LOCATION_UID)),
    ]
    study_uid = made[0].StudyInstanceUID

    def send_all() -> None:
        if first == "instances":
            store(started, made)
        assert send(started.address, *notices) == [0x0000, 0x0000]
        if first == "notifications":
            store(started, made)
        started.settled()

    send_all()
    study = server.study(study_uid)
    assert study["status"] == "available"
    assert availability(study) == ["OFFLINE"]
    assert [availability(series) for series in study["series"]] == [["ONLINE"], ["OFFLINE"]]
    (online,), (offline,) = (series["endpoint"] for series in study["series"])
    assert server._get(online["reference"])["address"] == f"{BASE}/{version}"
    assert online["display"] == offline["display"] == "PACS"
    assert offline["identifier"]["value"] == f"urn:oid:{LOCATION_UID}"
    writes = server.writes(study)
    send_all()
    assert server.writes(server.study(study_uid)) == writes

    assert send(started.address, notification(f"{name} 3", made, at("PACS", "UNAVAILABLE"))) == [0x0000]
    started.settled()
    gone = server.study(study_uid)
    assert (gone["status"], availability(gone)) == ("registered", ["UNAVAILABLE"])
    assert not any("endpoint" in series for series in gone["series"])
    (seen,) = started.status(study_uid)["deliveries"]
    assert (seen["state"], started.status(study_uid)["stated"]) == (State.DELIVERED, 4)


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("version", ["r4", "r5"])
def test_a_study_is_registered_before_its_first_image(
    hapi: Callable[[str], str], version: str, daemon: StartDaemon, made: list[Dataset], name: str
) -> None:
    server = Server(hapi(version))
    started = serve(daemon, server.base_url, settings='patient = "ensure"\n')
    study_uid = made[0].StudyInstanceUID
    assert send(started.address, begun(name, made[0])) == [0x0000]
    started.settled()
    study = server.study(study_uid)
    assert (study["status"], study["numberOfSeries"], study["numberOfInstances"]) == ("registered", 0, 0)
    assert "series" not in study
    assert server._get(study["subject"]["reference"])["birthDate"] == "1964-02-29"
    assert send(started.address, begun(name, made[0])) == [0x0000]
    started.settled()
    assert server.writes(server.study(study_uid)) == server.writes(study)

    store(started, made)
    assert send(started.address, ended(name, "COMPLETED", made)) == [0x0000]
    started.settled()
    available = server.study(study_uid)
    assert (available["id"], available["status"], available["numberOfInstances"]) == (study["id"], "available", 4)
    assert started.status(study_uid)["steps"][0]["status"] == "COMPLETED"


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("version", ["r4", "r5"])
def test_a_procedure_step_is_a_procedure_at_a_destination_that_wants_it(
    hapi: Callable[[str], str], version: str, daemon: StartDaemon, made: list[Dataset], name: str, tmp_path: Path
) -> None:
    server = Server(hapi(version))
    wanted = f'[destinations.main.resources]\nprocedures = "auto"\n{to_files(tmp_path / "out")}'
    started = serve(daemon, server.base_url, settings=wanted)
    begin, end = begun(name, made[0]), ended(name, "COMPLETED", made)
    identifier = f"urn:dicom:uid|urn:oid:{begin.uid}"

    def found() -> Resource:
        (entry,) = server._get("Procedure", identifier=identifier)["entry"]
        resource: Resource = entry["resource"]
        return resource

    assert send(started.address, begin) == [0x0000]
    started.settled()
    assert found()["status"] == "in-progress"
    store(started, made)
    started.settled()
    assert send(started.address, end) == [0x0000]
    started.settled()
    completed = found()
    assert (completed["status"], completed["code"]["text"]) == ("completed", "CT chest")
    study = server.study(made[0].StudyInstanceUID)
    linked = study["procedureReference"] if version == "r4" else study["partOf"][0]
    assert linked["identifier"] == completed["identifier"][0]
    if version == "r5":
        assert completed["supportingInfo"][0]["reference"] == f"ImagingStudy/{study['id']}"

    store(started, made)
    assert send(started.address, begin, end) == [0x0111, 0x0000]
    started.settled()
    assert (found(), server.study(made[0].StudyInstanceUID)) == (completed, study)
    assert "Procedure" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))


@pytest.mark.needs("hapi")
def test_a_discontinued_step_without_images_cancels_the_study(
    hapi_r4: str, daemon: StartDaemon, made: list[Dataset], name: str
) -> None:
    server = Server(hapi_r4)
    started = serve(daemon, server.base_url)
    assert send(started.address, begun(name, made[0]), ended(name, "DISCONTINUED")) == [0x0000, 0x0000]
    started.settled()
    cancelled = server.study(made[0].StudyInstanceUID)
    assert cancelled["status"] == "cancelled"
    store(started, made)
    started.settled()
    assert server.study(made[0].StudyInstanceUID)["status"] == "available"


@pytest.mark.parametrize("last", ["instance", "step"])
def test_a_complete_study_is_sent_without_waiting(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str, last: str, tmp_path: Path
) -> None:
    """Although the quiet period is an hour, and the association that sends it is open."""
    started = serve(daemon, memory.url, "--quiet-period", str(LONG_S), "--max-wait", str(2 * LONG_S))
    assert send(started.address, begun(name, made[0])) == [0x0000]

    def study() -> Resource:
        (found,) = memory.all("ImagingStudy") or [{}]
        return found

    wait_until(lambda: study().get("status") == "registered", WITHIN_S, "the study is registered")
    ae = AE("CT1")
    over = ae.associate(*started.address, [build_context(UID(made[0].SOPClassUID))], ae_title=AE_TITLE)
    first, rest = (made[:-1], made[-1:]) if last == "instance" else (made, [])
    assert {over.send_c_store(one).Status for one in first} == {0x0000}
    assert send(started.address, ended(name, "COMPLETED", made)) == [0x0000]
    for one in rest:
        (delivery,) = started.status(one.StudyInstanceUID)["deliveries"]
        assert delivery["state"] == State.WAITING
        assert over.send_c_store(one).Status == 0x0000
    wait_until(lambda: study().get("numberOfInstances") == 4, WITHIN_S, "the study is complete")
    assert study()["status"] == "available"
    over.release()


def test_a_destination_may_want_no_study_without_instances(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str, tmp_path: Path
) -> None:
    old = to_files(tmp_path / "out") + 'version = "STU3"\n'
    started = serve(daemon, memory.url, settings=f'[destinations.main.resources]\nregistered = "never"\n{old}')
    study_uid = made[0].StudyInstanceUID
    assert send(started.address, begun(name, made[0]), notification(name, made, at("PACS"))) == [0x0000, 0x0000]
    started.settled()
    seen = started.status(study_uid)
    assert {one["destination"]: (one["state"], one["why"]) for one in seen["deliveries"]} == {
        "main": (State.EXCLUDED, 'no instance has arrived yet, and resources.registered = "never"'),
        "files": (State.EXCLUDED, "No instance has arrived yet, and STU3 has no status for such a study."),
    }
    assert (seen["stated"], seen["steps"][0]["status"], seen["missing"]) == (4, "IN PROGRESS", 0)
    wanted = f'[destinations.main]\nurl = "{memory.url}"\n{old}'
    assert started.reload(wanted, WITH_MPPS)["event"] == "config.reloaded"
    wait_until(lambda: memory.all("ImagingStudy"), WITHIN_S, "the study is registered")
    store(started, made)
    started.settled()
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_an_archive_that_states_something_of_an_unknown_study(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url)
    assert send(started.address, notification(name, made, at("PACS", "NEARLINE"))) == [0x0000]
    started.settled()
    (delivery,) = started.status(made[0].StudyInstanceUID)["deliveries"]
    assert (delivery["state"], delivery["why"]) == (
        State.EXCLUDED,
        "No instance has arrived yet, and no procedure step (MPPS) names the patient.",
    )
    assert memory.all("ImagingStudy") == []
    store(started, made)
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert availability(study) == ["NEARLINE"]


def test_every_order_ends_in_the_same_resource(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str, seed: int
) -> None:
    """Each order in a study of its own; what a client finds at the end differs in nothing but UIDs."""
    started = serve(daemon, memory.url)
    orders = [order for order in permutations(range(5)) if order.index(2) < order.index(3)]
    found = set()
    for number, order in enumerate(random.Random(seed).sample(orders, 12)):
        own = [instance("CT", f"{name} {number}", series, at_) for series in (1, 2) for at_ in (1, 2)]
        for one in own:  # the same in each study but for the UIDs
            one.AccessionNumber, one.PatientID, one.StudyID, one.StudyDescription = "A1", "P1", "S1", "CT"
            del one.RequestAttributesSequence
        for step in order:
            play(started, step, own, f"{name} {number}")
        started.settled()
        (study,) = [one for one in memory.all("ImagingStudy") if own[0].StudyInstanceUID in str(one["identifier"])]
        found.add(without_uids(without_meta(study), own))
    assert len(found) == 1


def play(daemon: DaemonProcess, step: int, own: list[Dataset], name: str) -> None:
    """One of the things that happen."""
    if step < 2:
        store(daemon, own[2 * step : 2 * step + 2])
        return
    notices: dict[int, Notice] = {
        2: begun(name, own[0]),
        3: ended(name, "COMPLETED", own),
        4: notification(name, own[1:3], at("PACS", "OFFLINE", base=BASE)),
    }
    assert send(daemon.address, notices[step]) == [0x0000]


def without_uids(study: Resource, own: list[Dataset]) -> str:
    """The resource as text, with the UIDs and ids that differ from study to study replaced."""
    text = str({key: value for key, value in study.items() if key not in ("id", "subject")})
    for number, one in enumerate(own):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            text = text.replace(str(one[keyword].value), f"{keyword} {number}")
    return text
