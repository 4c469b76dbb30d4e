"""Each kind of object beyond images over C-STORE, N-CREATE and N-SET, by a daemon: what a client finds at a server.

The tests of one kind each are beside this one; here are all kinds together, as a hospital sends them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.model import Resource
from dicom2fhir.store.statuses import State
from testdata.make_dicom import datasets, rejection_note
from testdata.make_notices import BASE, Notice, at, begun, ended, notification
from tests.acceptance.conftest import StartDaemon
from tests.acceptance.expectation import Server
from tests.acceptance.test_rejection_to_server import store
from tests.daemon_process import DaemonProcess, run_command, with_receiver
from tests.memory_server import Failed, Manner, MemoryServer
from tests.notice_sender import send

pytestmark = pytest.mark.timeout(600)

HEAD = with_receiver('mpps = true\nrejection_notes_from = ["ARCHIVE"]')
WANTED = """
[destinations.main.resources]
key_objects = "always"
diagnostic_reports = "auto"
measurements = "auto"
procedures = "auto"
"""
DICOMWEB = '[pacs]\ndicomweb_url = "https://pacs.example/dicom-web"\n'
CASES = (
    *("sr-dose", "sr-dose-mammography", "sr-dose-biplane", "sr-dose-nm"),
    *("sr-tid1500", "sr-tid1500-regions", "ko-studies", "documents"),
)
DOSE_REPORTS, MEASURED, REGIONS, SELECTIONS = 4, 2 + 10, 4, 3
EXPECTED: Mapping[str, Mapping[str, int]] = {
    "r4": {
        "Observation": DOSE_REPORTS + MEASURED,
        "Basic": SELECTIONS,
        "DocumentReference": 6,
        "DiagnosticReport": 1,
        "Procedure": 1,
    },
    "r5": {
        "Observation": DOSE_REPORTS + MEASURED,
        "ImagingSelection": SELECTIONS + REGIONS,
        "DocumentReference": 6,
        "DiagnosticReport": 1,
        "Procedure": 1,
    },
}
"""Type -> number of resources beside the ImagingStudies, without what an earlier version has no resource for."""


@pytest.fixture
def name() -> str:
    """Of a test's own studies: all tests share the servers."""
    return f"each object {uuid4().hex[:8]}"


@pytest.fixture
def sent(name: str) -> list[Dataset]:
    """The files of all cases, and a study that a procedure step made."""
    cases = [file for case in CASES for file in datasets(case)]
    return [*of_their_own(cases, name), *(instance("CT", name, number=number) for number in (1, 2))]


def of_their_own(files: Sequence[Dataset], name: str) -> list[Dataset]:
    """The files with UIDs, patients and orders of a test's own."""
    for file in files:
        for element in file.iterall():
            if element.VR == "UI" and element.value and not isinstance(element.value, MultiValue):
                if not element.value.startswith("1.2.840.10008."):
                    element.value = make_uid(name, element.value)
            elif element.keyword in ("PatientID", "AccessionNumber") and element.value:
                element.value = f"SYN-{element.keyword[0]}{make_uid(name, element.value)[-8:]}"
        file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    return list(files)


def notices(name: str, sent: Sequence[Dataset]) -> list[Notice]:
    """Of the study that a procedure step made: its begin and end, and where an archive has it."""
    own = sent[-2:]
    return [begun(name, own[0]), ended(name, "COMPLETED", own), notification(name, own, at("PACS", base=BASE))]


def serve(daemon: StartDaemon, url: str, wanted: str = WANTED) -> DaemonProcess:
    plan = f'{DICOMWEB}[destinations.main]\nurl = "{url}"\n{wanted}'
    started = daemon(settings=plan)
    assert started.reload(plan, HEAD)["event"] == "config.reloaded"
    return started


def send_all(daemon: DaemonProcess, sent: Sequence[Dataset], about: Sequence[Notice]) -> None:
    """Send files, then notices."""
    store(daemon, *sent)
    begin, *others = about
    assert send(daemon.address, begin)[0] in (0x0000, 0x0111), "success, or duplicate SOP instance"
    assert set(send(daemon.address, *others)) == {0x0000}
    daemon.settled()


Found = Mapping[tuple[str, str], Resource]
"""Type and id -> resource."""


def found_of(server: Server, types: Sequence[str], uids: Sequence[str]) -> Found:
    """What a client finds by the UIDs of the documents and the procedure step."""
    found: dict[tuple[str, str], Resource] = {}
    for kind in types:
        for begin in range(0, len(uids), 20):
            identifiers = ",".join(f"urn:dicom:uid|urn:oid:{uid}" for uid in uids[begin : begin + 20])
            bundle = server._get(kind, identifier=identifiers, _count="100")
            found |= {(kind, entry["resource"]["id"]): entry["resource"] for entry in bundle.get("entry", [])}
    return found


@pytest.mark.needs("hapi")
@pytest.mark.parametrize(("version", "step"), [("r4", 1), ("r4", -1), ("r5", 1)], ids=["r4", "r4-backwards", "r5"])
def test_a_server_takes_each_kind_and_nothing_is_written_twice(
    hapi: Callable[[str], str], version: str, step: int, daemon: StartDaemon, sent: list[Dataset], name: str
) -> None:
    """Then all is rejected: what was made of it is marked, and nothing is deleted."""
    server = Server(hapi(version))
    started = serve(daemon, server.base_url)
    about, files = notices(name, sent), sent[::step]
    study_uids = sorted({str(one.StudyInstanceUID) for one in sent})
    uids = [*(str(one.SOPInstanceUID) for one in sent), about[0].uid]

    def at_the_server() -> Found:
        return found_of(server, [*EXPECTED[version]], uids)

    send_all(started, files, about)
    deliveries = [each for uid in study_uids for each in started.status(uid)["deliveries"]]
    assert {(each["state"], each["refused"]) for each in deliveries} == {(State.DELIVERED, "")}
    there = at_the_server()
    assert Counter(kind for kind, _ in there) == EXPECTED[version]
    studies = server.each_of(study_uids)
    assert {one["status"] for one in studies.values()} == {"available"}

    send_all(started, files, about)
    assert run_command("retry", "--all", "--remap", "--state-dir", started.state_dir).returncode == 0
    started.settled()
    assert (at_the_server(), server.each_of(study_uids)) == (there, studies), "sent twice, no new version"

    for uid in study_uids:
        listed = [one for one in sent if one.StudyInstanceUID == uid]
        store(started, rejection_note(f"{name} {uid} rejected", "113037", listed))
    started.settled()
    rejected = at_the_server()
    assert rejected.keys() == there.keys()
    marked = {kind for (kind, _), resource in rejected.items() if "entered-in-error" in str(resource)}
    left = {kind for (kind, _), resource in rejected.items() if "entered-in-error" not in str(resource)}
    assert (marked, left) == (EXPECTED[version].keys() - {"Procedure"}, {"Procedure"}), "the step was performed"
    assert {one["status"] for one in server.each_of(study_uids).values()} == {"entered-in-error"}


class Refusing(MemoryServer):
    """Accepts no resource of some types."""

    def __init__(self, fhir_version: str, refused: Collection[str]) -> None:
        self.refused = refused
        types = {kind for expected in EXPECTED.values() for kind in expected}
        super().__init__(Manner(none_match=412, checks_versions=True, offers=("ImagingStudy", "Patient", *types)))
        self.fhir_version = fhir_version

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        if entry["resource"]["resourceType"] in self.refused:
            raise Failed(422)
        return super()._write(entry, ids)


@pytest.mark.parametrize(
    ("version", "fhir_version", "refused"),
    [("r4", "4.0.1", {"Observation"}), ("r4", "4.0.1", EXPECTED["r4"]), ("r5", "5.0.0", EXPECTED["r5"])],
    ids=["observations", "r4", "r5"],
)
def test_what_is_refused_holds_back_nothing_and_is_named(
    daemon: StartDaemon, sent: list[Dataset], name: str, version: str, fhir_version: str, refused: Collection[str]
) -> None:
    """It is sent again once the server accepts it."""
    server = Refusing(fhir_version, refused)
    try:
        started = serve(daemon, server.url)
        send_all(started, sent, notices(name, sent))
        study_uids = sorted({str(one.StudyInstanceUID) for one in sent})

        def counts() -> dict[str, int]:
            return {kind: len(server.all(kind)) for kind in EXPECTED[version]}

        assert len(server.all("ImagingStudy")) == len(study_uids)
        assert counts() == {**EXPECTED[version], **dict.fromkeys(refused, 0)}
        deliveries = [each for uid in study_uids for each in started.status(uid)["deliveries"]]
        assert {each["state"] for each in deliveries} == {State.DELIVERED}
        named = [line for each in deliveries for line in each["refused"].splitlines()]
        assert {line.partition(":")[0] for line in named} == {*refused}
        assert all("422" in line for line in named)

        server.refused = ()
        assert run_command("retry", "--all", "--state-dir", started.state_dir).returncode == 0
        started.settled()
        assert counts() == EXPECTED[version]
        deliveries = [each for uid in study_uids for each in started.status(uid)["deliveries"]]
        assert {each["refused"] for each in deliveries} == {""}
    finally:
        server.close()
