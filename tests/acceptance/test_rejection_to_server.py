"""Rejection notes over C-STORE, by a daemon, to a FHIR server: what a client finds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.store.statuses import State
from testdata.make_dicom import MOTION_BLUR, POSITIONING, key_objects, rejection_note
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.expectation import Server
from tests.command_line import run_here
from tests.daemon_process import DaemonProcess, wait_until, with_receiver
from tests.memory_server import Manner, MemoryServer
from tests.notice_sender import AE_TITLE

pytestmark = pytest.mark.timeout(300)

MAY_REJECT = with_receiver('rejection_notes_from = ["ARCHIVE"]')
OFFERS = ("ImagingStudy", "Patient", "ImagingSelection", "Practitioner")
STATUSES = {"113001": "cancelled", "113037": "entered-in-error", "113038": "entered-in-error", "113039": "registered"}


@pytest.fixture
def name() -> str:
    """Of a test's own study: all tests share the servers."""
    return f"rejected {uuid4().hex[:8]}"


@pytest.fixture
def made(name: str) -> list[Dataset]:
    """Two series of one slice."""
    return [instance("CT", name, series) for series in (1, 2)]


@pytest.fixture
def memory() -> Iterator[MemoryServer]:
    server = MemoryServer(Manner(none_match=412, checks_versions=True))
    yield server
    server.close()


def store(daemon: DaemonProcess, *instances: Dataset, calling: str = "ARCHIVE") -> set[int]:
    """Send instances; the statuses."""
    classes = sorted({str(one.SOPClassUID) for one in instances})
    over = AE(calling).associate(*daemon.address, [build_context(UID(one)) for one in classes], ae_title=AE_TITLE)
    assert over.is_established
    statuses = {int(over.send_c_store(one).Status) for one in instances}
    over.release()
    return statuses


def serve(daemon: StartDaemon, url: str, more: str = "") -> DaemonProcess:
    """A daemon that lets ARCHIVE reject."""
    plan = f'[destinations.main]\nurl = "{url}"\n{more}'
    started = daemon(settings=plan)
    assert started.reload(plan, MAY_REJECT)["event"] == "config.reloaded"
    return started


@pytest.mark.needs("hapi")
@pytest.mark.parametrize("version", ["r4", "r5"])
@pytest.mark.parametrize("code", STATUSES)
def test_a_study_is_rejected_in_part_and_as_a_whole(
    hapi: Callable[[str], str], version: str, code: str, daemon: StartDaemon, made: list[Dataset], name: str
) -> None:
    server = Server(hapi(version))
    started = serve(daemon, server.base_url)
    study_uid = made[0].StudyInstanceUID
    assert store(started, *made) == {0x0000}
    started.settled()
    assert len(server.study(study_uid)["series"]) == 2

    part = rejection_note(name, code, made[1:])
    assert store(started, part) == {0x0000}
    started.settled()
    study = server.study(study_uid)
    left = {part.SeriesInstanceUID} if code == "113001" else set()  # the note stays beside what is left
    assert study["status"] == "available"
    assert {series["uid"] for series in study["series"]} == {made[0].SeriesInstanceUID, *left}

    whole = rejection_note(name, code, made[:1])
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = UID(make_uid(name, "second note"))
    assert store(started, whole) == {0x0000}
    started.settled()
    study = server.study(study_uid)
    assert (study["status"], study.get("series", [])) == (STATUSES[code], [])
    assert study["numberOfInstances"] == study["numberOfSeries"] == 0
    reasons = [one for one in study["extension"] if one["url"].endswith("workflow-statusReason")]
    assert len(reasons) == (version == "r5")
    assert started.status(study_uid)["rejected"] == 2

    writes = server.writes(study)
    again = () if code == "113039" else made
    assert store(started, part, whole, *again) == {0x0000}
    started.settled()
    assert server.writes(server.study(study_uid)) == writes, "what is sent twice makes no new version"


@pytest.mark.needs("hapi")
@pytest.mark.parametrize(("version", "kind"), [("r4", "Basic"), ("r5", "ImagingSelection")])
def test_key_objects_reach_the_server_and_are_marked_when_rejected(
    hapi: Callable[[str], str], version: str, kind: str, daemon: StartDaemon, made: list[Dataset], name: str
) -> None:
    url = hapi(version)
    started = serve(daemon, url, '[destinations.main.resources]\nkey_objects = "always"\n')
    selection = key_objects(f"{name} selected", made)

    def on_server() -> list[str]:
        """The resources of the selection, as texts."""
        asked = requests.get(f"{url}/{kind}", {"identifier": f"urn:oid:{selection.SOPInstanceUID}"}, timeout=60)
        found = asked.json()
        return [str(entry["resource"]) for entry in found.get("entry", [])]

    assert store(started, selection, *made) == {0x0000}
    started.settled()
    resources = on_server()
    assert len(resources) == 2, "one for each series"
    assert all(any(one.SOPInstanceUID in text for text in resources) for one in made)
    assert not any("entered-in-error" in text for text in resources)

    assert store(started, rejection_note(f"{name} rejected", "113037", made[1:])) == {0x0000}
    started.settled()
    marked = ["entered-in-error" in text for text in on_server()]
    assert sorted(marked) == [False, True]


@pytest.mark.parametrize("code", STATUSES)
def test_what_is_stored_again_stays_rejected_unless_its_retention_had_expired(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str, code: str
) -> None:
    started = serve(daemon, memory.url)
    store(started, *made, rejection_note(name, code, made))
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert (study["status"], study.get("series", [])) == (STATUSES[code], [])
    store(started, *made, calling="CT1")
    started.settled()
    (study,) = memory.all("ImagingStudy")
    is_back = code == "113039"
    assert (study["status"] == "available", len(study.get("series", []))) == (is_back, 2 if is_back else 0)


def test_only_a_sender_that_may_reject_rejects(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url)
    note = rejection_note(name, "113037", made)
    assert store(started, *made, note, calling="CT1") == {0x0000}
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert (study["status"], len(study["series"])) == ("available", 3)
    seen = started.status(made[0].StudyInstanceUID)
    assert (seen["rejected"], seen["asked_to_reject"]) == (0, 1)

    assert store(started, note) == {0x0000}
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert study["status"] == "entered-in-error"
    seen = started.status(made[0].StudyInstanceUID)
    assert (seen["rejected"], seen["asked_to_reject"]) == (2, 0)


def test_status_says_why_instances_are_rejected(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url)
    note = rejection_note(name, "113001", made[1:], [POSITIONING, MOTION_BLUR])
    assert store(started, *made, note) == {0x0000}
    started.settled()
    study_uid = made[0].StudyInstanceUID
    why = {"code": "113001", "modifiers": ["Positioning", "Motion blur"], "instances": 1}
    assert started.status(study_uid)["rejections"] == [why]
    text = run_here("status", "--state-dir", started.state_dir, study_uid).stdout.decode()
    assert "1 instance rejected by rejection notes: 113001 (Positioning) (Motion blur)" in " ".join(text.split())


def test_a_note_of_another_study_comes_first(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url)
    store(started, rejection_note(f"{name} notes", "113038", made))
    started.settled()
    (delivery,) = started.status(made[0].StudyInstanceUID)["deliveries"]
    assert delivery["state"] == State.EXCLUDED, "nothing is known of the study yet"
    store(started, *made)
    started.settled()
    (study,) = [one for one in memory.all("ImagingStudy") if made[0].StudyInstanceUID in str(one["identifier"])]
    assert (study["status"], study.get("series", [])) == ("entered-in-error", [])


@pytest.mark.parametrize("order", [*permutations(["slices", "selection", "note"])], ids="-".join)
def test_key_objects_of_another_study_leave_out_what_is_rejected(
    daemon: StartDaemon, name: str, order: tuple[str, ...]
) -> None:
    server = MemoryServer(Manner(none_match=412, checks_versions=True, offers=OFFERS))
    server.fhir_version = "5.0.0"
    try:
        started = serve(daemon, server.url)
        slices = [instance("CT", name, number=1), instance("CT", name, number=2), instance("CT", name, series=2)]
        sent = {
            "slices": slices,
            "selection": [key_objects(f"{name} selected", slices)],
            "note": [rejection_note(f"{name} rejected", "113037", slices[1:])],
        }
        for what in order:
            store(started, *sent[what])
            started.settled()
        left = {
            one["seriesUid"]: {each["uid"] for each in one["instance"]}
            for one in server.all("ImagingSelection")
            if one["status"] == "available"
        }
        assert left == {slices[0].SeriesInstanceUID: {slices[0].SOPInstanceUID}}
        marked = {one["seriesUid"] for one in server.all("ImagingSelection")} - left.keys()
        assert marked == ({slices[2].SeriesInstanceUID} if order.index("note") > order.index("selection") else set())
    finally:
        server.close()


def test_a_destination_may_not_apply_rejection_notes(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url, '[destinations.main.resources]\nrejection_notes = "never"\n')
    store(started, *made, rejection_note(name, "113037", made))
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert (study["status"], len(study["series"])) == ("available", 3)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "ignored"])
def test_notes_in_a_watched_folder_are_applied_unless_it_says_otherwise(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str, tmp_path: Path, applied: bool
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number, one in enumerate([*made, rejection_note(name, "113037", made)]):
        one.save_as(inbox / f"{number}.dcm", enforce_file_format=True)
    folder = f'[folders.inbox]\npath = "{inbox}"\nstable_s = 0.1\n'
    started = daemon(
        settings=folder
        + ("" if applied else "rejection_notes = false\n")
        + f'[destinations.main]\nurl = "{memory.url}"\n'
    )
    with started.store() as kept:
        wait_until(lambda: kept.stats().instances == 3, 60, "all files are in")
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert (study["status"], len(study.get("series", []))) == (("entered-in-error", 0) if applied else ("available", 3))


def test_a_note_that_names_too_many_instances_is_refused_as_a_whole(
    daemon: StartDaemon, memory: MemoryServer, made: list[Dataset], name: str
) -> None:
    started = serve(daemon, memory.url)
    note = rejection_note(name, "113037", made)
    series = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    one = series.ReferencedSOPSequence[0]
    series.ReferencedSOPSequence = [one] * 40_000
    assert store(started, *made) == {0x0000}
    (status,) = store(started, note)
    assert status not in (0x0000, 0xA700), "a sender must not try it again"
    started.settled()
    (study,) = memory.all("ImagingStudy")
    assert (study["status"], len(study["series"])) == ("available", 2)
