"""kill -9 after the answer to an N-CREATE or N-SET: what was answered with Success reaches the server."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context

from dicom2fhir.demo.synthetic import instance
from testdata.make_notices import Notice, at, begun, encoded, ended, notification
from tests import tracing
from tests.daemon_process import DaemonProcess, with_receiver
from tests.memory_server import Manner, MemoryServer
from tests.notice_sender import AE_TITLE, REQUEST, message, send
from tests.scripted_peer import Peer

pytestmark = [pytest.mark.bar(1), pytest.mark.needs("strace", "ptrace"), pytest.mark.timeout(300)]

WITH_MPPS = with_receiver("mpps = true")
LONG_S = 3600
STATUSES = {1: "registered", 2: "cancelled", 3: "available"}
"""Notices that a study got -> what becomes of it: begun; begun and discontinued; all, and its instances."""


@pytest.fixture
def memory() -> Iterator[MemoryServer]:
    server = MemoryServer(Manner(none_match=412, checks_versions=True))
    yield server
    server.close()


@pytest.fixture
def bridge(make_daemon: Callable[..., DaemonProcess], memory: MemoryServer) -> DaemonProcess:
    made = make_daemon((), "")
    made.config_path.write_text(f'{WITH_MPPS}[destinations.main]\ntype = "fhir"\nurl = "{memory.url}"\n')
    made.start()
    return made


def unanswered(bridge: DaemonProcess, notice: Notice) -> None:
    """Send a notice to a bridge that dies between the commit and the answer."""
    with Peer(bridge.address, REQUEST) as peer:
        assert peer.receive()[0] == 2
        with tracing.injected(bridge.pid, tracing.SEND, "signal=KILL:when=1"):
            peer.send(message(notice, encoded(notice.data_set)))
            assert bridge.ended() == -signal.SIGKILL
    bridge.start()


def deliver(bridge: DaemonProcess, notices: list[Notice], draw: random.Random) -> None:
    """Send notices as an archive and a modality do: each until it was answered; the bridge is killed after each."""
    for notice in notices:
        if draw.random() < 0.5:
            unanswered(bridge, notice)
        assert send(bridge.address, notice) == [0x0000]
        bridge.kill()
        bridge.start()


def store(bridge: DaemonProcess, instances: list[Dataset]) -> None:
    ae = AE("CT1")
    over = ae.associate(*bridge.address, [build_context(UID(instances[0].SOPClassUID))], ae_title=AE_TITLE)
    assert {over.send_c_store(one).Status for one in instances} == {0x0000}
    over.release()


def test_kill_9_loses_no_notice(
    bridge: DaemonProcess,
    memory: MemoryServer,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    draw = random.Random(seed)
    wanted = {}
    for number in range(scale(3, 60)):
        kind = 1 + number % 3
        made = [instance("CT", f"killed {number}", 1, at_) for at_ in (1, 2)]
        steps = [begun(str(number), made[0]), ended(str(number), "DISCONTINUED" if kind == 2 else "COMPLETED", made)]
        states = [notification(f"{number}", made, at("PACS", "NEARLINE"))] if kind == 3 else []
        deliver(bridge, [*states, *steps[:kind]], draw)
        if kind == 3:
            store(bridge, made)
        wanted[f"urn:oid:{made[0].StudyInstanceUID}"] = STATUSES[kind]
    bridge.settled()
    studies = {one["identifier"][0]["value"]: one for one in memory.all("ImagingStudy")}
    assert {uid: study["status"] for uid, study in studies.items()} == wanted
    available = [study for study in studies.values() if study["status"] == "available"]
    assert [one["extension"][0]["valueCode"] for one in available] == ["NEARLINE"] * len(available)
    assert all(one["numberOfInstances"] == 2 for one in available)
    figure(f"{len(wanted)} studies, killed after each answer, and between a commit and its answer")
    assert bridge.terminate() == 0
