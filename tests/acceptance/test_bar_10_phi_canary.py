"""Patient data anywhere in what comes in, on every road: none of it in a log, in the state file or in an answer.

The bridge runs at DEBUG with mistakes planted in it (:mod:`tests.faulty`), whose exceptions quote the patient's name.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage as COMPREHENSIVE_SR

from dicom2fhir.demo.synthetic import dataset
from dicom2fhir.ops import daemon_state
from dicom2fhir.sop_classes import (
    ENCAPSULATED_DOCUMENTS,
    INSTANCE_AVAILABILITY_NOTIFICATION,
    KEY_OBJECT_SELECTION,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    X_RAY_RADIATION_DOSE_SR,
)
from testdata.make_notices import Notice
from tests.acceptance.canaries import (
    Canaries,
    HostileServer,
    as_file,
    association_rq,
    c_store,
    content_items,
    data_set,
    encoded,
)
from tests.daemon_process import DaemonProcess, run_command, wait_until
from tests.notice_sender import CONTEXTS, message
from tests.scripted_peer import CT, EXPLICIT_LE, RELEASE_RQ, Peer, context, p_data, pdu, pdv

pytestmark = [pytest.mark.bar(10), pytest.mark.needs("openssl"), pytest.mark.timeout(240)]

MANNERS = (
    *("good", "refusing", "failing", "silent", "nonsense", "garbage", "entries", "several", "odd", "version"),
    *("200", "302", "401", "403", "404", "407", "429", "500", "503"),
)
"""How destinations answer; numbers are HTTP statuses of every answer, that of ``/metadata`` too."""
POSTED = {(manner, "POST") for manner in ("good", "refusing", "failing", "silent", "garbage", "entries")}
AFFECTED_SOP_INSTANCE_UID = 0x1000
"""Of a command set: the sender's own."""
ACCEPTED = 2
"""A-ASSOCIATE-AC."""
NAMES = ("file name", "folder name")
STUDIES = 5
"""That can be delivered."""
WITHIN_S = 60.0
ROOT = "1.2.826.0.1.3680043.9.10"
EVENTS = {
    *("daemon.started", "daemon.stopped", "scp.listening", "scp.stopped", "config.reloaded", "config.refused"),
    *("association.accepted", "association.ended", "association.rejected", "association.aborted"),
    *("instance.taken", "instance.rejected", "instance.refused", "notice.taken"),
    *("folder.watched", "folder.processed", "folder.absent", "file.processed"),
    *(
        "server.recognised",
        "resource.not_linked",
        "destination.down",
        "delivery.completed",
        "delivery.refused",
        "delivery.excluded",
    ),
    *("delivery.postponed", "store.created", "store.damaged", "store.set_aside"),
}
"""What has to be logged, or the roads were not gone."""
AT_THE_END = {"daemon.stopped", "scp.stopped", "store.damaged", "store.set_aside"}


class Hospital:
    """All that speaks to a bridge, and what the bridge says.

    Attributes
    ----------
    said
        Place -> what must hold no patient data.
    """

    def __init__(self, folder: Path, daemon: DaemonProcess, canaries: Canaries) -> None:
        self.folder, self.daemon, self.canaries = folder, daemon, canaries
        self.said: dict[str, str] = {}
        self._count = 0

    @property
    def log(self) -> str:
        return self.daemon.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start the bridge; its log may be of any format, so that its state file says when it is ready."""
        self.daemon.launch()
        self.daemon.address = wait_until(self._listening, WITHIN_S, f"it listens:\n{self.daemon.end_of_log()}")

    def _listening(self) -> tuple[str, int] | None:
        said = daemon_state.read(self.daemon.state_dir)
        if said is None or said.pid != self.daemon.pid or not said.listening:
            return None
        host, _, port = said.listening.rpartition(":")
        return host, int(port)

    def logs(self, *events: str) -> None:
        wait_until(lambda: all(event in self.log for event in events), WITHIN_S, f"{events} are logged")

    def keep_state(self, when: str) -> None:
        said = json.loads((self.daemon.state_dir / daemon_state.NAME).read_bytes())
        for destination in said["destinations"]:
            del destination["reason"]  # for `status`; it may quote the server
        self.said[f"daemon.json {when}"] = json.dumps(said)

    def uid(self) -> str:
        self._count += 1
        return f"{ROOT}.{self._count}"

    def send(self, sop_instance: str, content: bytes, sop_class: str = CT) -> int:
        """C-STORE over an association of its own; the status."""
        return self._request(context(1, sop_class, EXPLICIT_LE), c_store(sop_instance, content, sop_class=sop_class))

    def notify(self, notice: Notice) -> int:
        """N-CREATE or N-SET over an association of its own; the status."""
        return self._request(CONTEXTS, message(notice, encoded(notice.data_set)))

    def _request(self, contexts: bytes, request: bytes) -> int:
        with Peer(self.daemon.address, association_rq(self.canaries, contexts=contexts)) as peer:
            assert peer.receive()[0] == ACCEPTED
            peer.send(request)
            response = peer.response()
            said = {number: value for number, value in response.items() if number != AFFECTED_SOP_INSTANCE_UID}
            self.said[f"response {len(self.said)}"] = repr(said)
            peer.send(RELEASE_RQ)
            peer.receive()
        return int.from_bytes(response[0x0900], "little")

    def send_made(self, study: str = "", sop_instance: str = "", everything: bool = False, **values: str) -> int:
        sop_instance = sop_instance or self.uid()
        made = data_set(self.canaries, study or self.uid(), sop_instance, values, everything)
        return self.send(sop_instance, encoded(made))

    def made_file(self, **values: str) -> bytes:
        return as_file(self.canaries, data_set(self.canaries, self.uid(), self.uid(), values))


def settings(folder: Path, server: HostileServer, secure_port: int) -> str:
    """Three watched folders, one that is absent, and a destination for each manner."""
    lines: list[str] = []
    rest = {"keep": "", "delete": "", "move": f'move_to = "{folder}/moved"', "absent": ""}
    for name, more in rest.items():
        lines += [
            f"[folders.{name}]",
            f'path = "{folder}/{name}"',
            f'afterwards = "{name if name != "absent" else "keep"}"',
            f'rejected_to = "{folder}/rejected-{name}"' if name != "keep" else "",
            *("stable_s = 0.1", "rescan_s = 0.5", "incomplete_s = 0.2", more),
        ]
    urls = {manner: f"http://127.0.0.1:{server.port}/{manner}/fhir" for manner in MANNERS}
    urls |= {"plain": f"https://127.0.0.1:{server.port}/fhir", "secure": f"https://127.0.0.1:{secure_port}/fhir"}
    for name, url in urls.items():
        lines += [f"[destinations.{name}]", f'url = "{url}"', 'patient = "upsert"', "retry_max_s = 1", "timeout_s = 10"]
    lines += ["[destinations.choosing]", 'type = "file"', f'directory = "{folder}/out"', 'only = { modality = ["CT"] }']
    return "\n".join(lines) + "\n"


@pytest.fixture
def secure_port(tmp_path: Path) -> Iterator[int]:
    """A server whose certificate nobody trusts."""
    names: list[str | Path] = ["-subj", "/CN=QZX90001/O=QZX90002", "-addext", "subjectAltName=DNS:qzx90003.test"]
    files: list[str | Path] = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    command: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def go_by_dicom(hospital: Hospital) -> None:
    """C-STORE that is taken, and refused for every reason; associations that end at every stage."""
    word = hospital.canaries.word
    assert hospital.send_made(everything=True) == 0
    conflict = hospital.uid()
    assert [hospital.send_made(study=conflict) for _ in range(2)] == [0, 0]
    text_for_a_uid = word("SOP Instance UID")
    assert hospital.send_made(study=word("Study Instance UID"), sop_instance=text_for_a_uid) == 0
    assert hospital.send_made(StudyDescription="assemble KeyError") == 0
    assert hospital.send_made(StudyDescription="ValueError") == 0x0110
    assert hospital.send_made(StudyInstanceUID="") == 0xC000
    assert hospital.send_made(StudyInstanceUID=f"{word('a UID')} {word('a UID')}") == 0xC000
    assert hospital.send(f"{ROOT}.0", encoded(data_set(hospital.canaries, ROOT, hospital.uid(), {}))) == 0xA900
    assert hospital.send(hospital.uid(), word("data set").encode() * 100) == 0xC000
    content = encoded(data_set(hospital.canaries, hospital.uid(), hospital.uid(), {}))
    begun = c_store(hospital.uid(), content, is_whole=False)
    accepted = association_rq(hospital.canaries)
    for request, rest in (
        (word("PDU").encode() * 10, b""),
        (pdu(1, word("A-ASSOCIATE-RQ").encode() * 20), b""),
        (association_rq(hospital.canaries, called=f"{word('called AE title')} X"), b""),
        (accepted, begun + pdu(7, bytes(4))),
        (accepted, p_data(pdv(99, 3, word("command").encode()))),
        (accepted, p_data(pdv(1, 3, word("command").encode() * 10))),
        (accepted, pdu(9, word("PDU").encode())),
    ):
        with Peer(hospital.daemon.address, request) as peer:
            if rest:
                assert peer.receive()[0] == ACCEPTED
                peer.send(rest)
            peer.receive()
    for part in (begun, begun[: len(begun) // 2]):  # the connection ends between two PDUs, and within one
        with Peer(hospital.daemon.address, accepted) as peer:
            assert peer.receive()[0] == ACCEPTED
            peer.send(part)


def go_by_documents(hospital: Hospital) -> None:
    """Documents, whose content says more of a patient than any other attribute."""
    for sop_class in (KEY_OBJECT_SELECTION, X_RAY_RADIATION_DOSE_SR, COMPREHENSIVE_SR, *ENCAPSULATED_DOCUMENTS):
        sop_instance = hospital.uid()
        made = data_set(hospital.canaries, hospital.uid(), sop_instance, {"SOPClassUID": sop_class}, everything=True)
        made.ContentSequence = content_items(hospital.canaries)
        assert hospital.send(sop_instance, encoded(made), sop_class) == 0


def go_by_notices(hospital: Hospital) -> None:
    """N-CREATE and N-SET that are taken, and refused for every reason, with texts in every attribute."""
    word, study, step, ian = hospital.canaries.word, hospital.uid(), hospital.uid(), hospital.uid()

    def full(**values: object) -> Dataset:
        made = data_set(hospital.canaries, study, hospital.uid(), {}, everything=True)
        with config.disable_value_validation():
            for keyword, value in values.items():
                setattr(made, keyword, value)
        return made

    scheduled = {"StudyInstanceUID": study, "AccessionNumber": word("AccessionNumber"), "PatientName": word("name")}
    listed = {"ReferencedSOPInstanceUID": hospital.uid(), "InstanceAvailability": "ONLINE", "RetrieveURL": word("URL")}
    begun = full(PerformedProcedureStepStatus="IN PROGRESS", ScheduledStepAttributesSequence=[dataset(scheduled)])
    series = dataset({"SeriesInstanceUID": f"{study}.1", "ReferencedSOPSequence": [listed]})
    stated, ended = full(ReferencedSeriesSequence=[series]), full(PerformedProcedureStepStatus="DISCONTINUED")
    other_end = full(PerformedProcedureStepStatus="COMPLETED")
    other_status = full(
        PerformedProcedureStepStatus=word("status"), ScheduledStepAttributesSequence=[dataset(scheduled)]
    )
    ian_class, mpps_class = INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP
    notices = {
        "taken": (Notice("N-CREATE", ian_class, ian, stated), 0x0000),
        "without its series": (Notice("N-CREATE", ian_class, ian, full(ReferencedSeriesSequence=[])), 0x0120),
        "text for a UID": (Notice("N-CREATE", ian_class, word("SOP Instance UID"), stated), 0x0000),
        "step": (Notice("N-CREATE", mpps_class, step, begun), 0x0000),
        "step of another status": (Notice("N-CREATE", mpps_class, step, other_status), 0x0106),
        "unknown step": (Notice("N-SET", mpps_class, hospital.uid(), ended), 0x0112),
        "another status": (Notice("N-SET", mpps_class, step, other_status), 0x0106),
        "end": (Notice("N-SET", mpps_class, step, ended), 0x0000),
        "after its end": (Notice("N-SET", mpps_class, step, other_end), 0x0110),
    }
    answered = {name: hospital.notify(notice) for name, (notice, _) in notices.items()}
    assert answered == {name: status for name, (_, status) in notices.items()}


def go_by_folder(hospital: Hospital) -> None:
    """Files that are taken, refused, cut off, and gone before they are read, in folders of every kind."""
    word = hospital.canaries.word
    for name in ("keep", "delete", "move"):
        inner = hospital.folder / name / word("folder name")
        inner.mkdir(parents=True)
        whole = hospital.made_file()
        contents = {
            "good": whole,
            "refused": hospital.made_file(StudyInstanceUID=""),
            "stumbles": hospital.made_file(StudyDescription="ValueError"),
            "cut": whole[: len(whole) // 2],
            "no DICOM": word("file content").encode(),
        }
        for content in contents.values():
            (inner / f"{word('file name')}.dcm").write_bytes(content)
        gone = inner / f"{word('file name')}.dcm"
        gone.write_bytes(whole)
        gone.unlink()


def go_by_command(hospital: Hospital) -> None:
    """Backfill and convert, which name files and say no more of them."""
    word = hospital.canaries.word
    archive = hospital.folder / word("folder name")
    archive.mkdir()
    for content in (
        hospital.made_file(),
        hospital.made_file(StudyInstanceUID=""),
        hospital.made_file(StudyDescription="ValueError"),
        word("file content").encode(),
    ):
        (archive / f"{word('file name')}.dcm").write_bytes(content)
    for command, option, place in (
        ("backfill", "--state-dir", hospital.daemon.state_dir),
        ("convert", "--output-dir", hospital.folder / "converted"),
    ):
        done = run_command(command, archive, option, place, module="tests.faulty")
        hospital.said[command] = (done.stdout + done.stderr).decode(errors="replace")


def reload(hospital: Hospital) -> None:
    """A configuration that cannot be used, and the old one with a change."""
    before = hospital.daemon.config_path.read_text()
    for text, event in (("nonsense = 1\n" + before, "config.refused"), (before, "config.reloaded")):
        hospital.daemon.config_path.write_text(text)
        hospital.daemon.hang_up()
        hospital.logs(event)


def damage(hospital: Hospital) -> None:
    """Start with a damaged store, which is set aside, and take the files of the next away under the bridge."""
    with hospital.daemon.store_path.open("r+b") as file:
        file.write(bytes(100))
    hospital.start()
    hospital.logs("store.damaged", "store.set_aside")
    assert hospital.send_made() == 0
    hospital.daemon.store_path.unlink()
    assert hospital.daemon.ended() != 0
    hospital.keep_state("after a failure")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nothing_that_names_a_patient_is_said(
    history: Path,
    log_format: str,
    secure_port: int,
    make_daemon: Callable[..., DaemonProcess],
    figure: Callable[[str], None],
) -> None:
    canaries = Canaries()
    server = HostileServer(canaries)
    try:
        text = settings(history, server, secure_port)
        flags = ("--quiet-period", "0.1", "--max-wait", "1")
        variables = {"DICOM2FHIR_LOG__FORMAT": log_format, "DICOM2FHIR_RECEIVER__MPPS": "true"}
        daemon = make_daemon(flags, text, module="tests.faulty", variables=variables)
        hospital = Hospital(history, daemon, canaries)
        hospital.start()
        go_by_dicom(hospital)
        go_by_documents(hospital)
        go_by_notices(hospital)
        go_by_folder(hospital)
        wait_until(lambda: set(server.asked) >= POSTED, WITHIN_S, "every destination was sent a study")
        wait_until(lambda: len(server.received) >= STUDIES, WITHIN_S, "studies were delivered")
        reload(hospital)
        hospital.logs(*EVENTS - AT_THE_END)
        hospital.keep_state("while it runs")
        go_by_command(hospital)
        assert daemon.terminate() == 0
        hospital.keep_state("after the end")
        kept = b"".join(path.read_bytes() for path in daemon.state_dir.glob("store.db*"))
        damage(hospital)
    finally:
        server.close()
    assert {event for event in EVENTS if event not in hospital.log} == set()
    for where, content in (("the store", kept), ("the server", b"".join(server.received))):
        assert "PatientName" in canaries.found(content.decode("latin-1")).values(), f"the texts came as far as {where}"
    for where, said in {**hospital.said, "log": hospital.log}.items():
        names_files = where in ("backfill", "convert")
        found = {place for place in canaries.found(said).values() if not (names_files and place in NAMES)}
        assert found == set(), f"{where} tells what stood in {found}"
    figure(f"{canaries.count:,} texts, {len(hospital.log.splitlines()):,} lines of log ({log_format}): none found")


def test_a_text_that_is_said_is_found() -> None:
    """The test of the test: in JSON, in text, in other letters and within words; dates as FHIR writes them."""
    canaries = Canaries()
    word, day, number = canaries.word("a word"), canaries.value("DA", "a date"), canaries.value("IS", "a number")
    for said in (
        f'{{"path": "/x/{word.lower()}.dcm"}}',
        f"event [{word}^{word}]",
        f"a{word}b",
        f"\x1b[1m{word}\x1b[0m",
    ):
        assert canaries.found(said) == {word.lower(): "a word"}
    assert canaries.found(f"{day[:4]}-{day[4:6]}-{day[6:]} {number}") == {day: "a date", number: "a number"}
    assert canaries.found("2026-11-26T17:00:00.123456Z 1.2.840.10008 0.25") == {}
