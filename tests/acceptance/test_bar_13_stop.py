"""SIGTERM under load: nothing acknowledged is lost and the exit status is 0; a new schema keeps a full queue."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.model import Origin
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import Rejection, RejectionReason
from testdata.make_cases import record_of
from testdata.make_dicom import MOTION_BLUR, encode, rejection_note
from tests.acceptance.earlier_stores import VERSIONS, keep, write_earlier
from tests.acceptance.load import Load, of, slices, stored
from tests.acceptance.promises import Ledger, check
from tests.daemon_process import DaemonProcess
from tests.memory_server import Manner, memory_server
from tests.store_contract.bench import claimed

pytestmark = [pytest.mark.bar(13), pytest.mark.timeout(300)]

STUDIES = 40


def to_server(url: str) -> str:
    return f'[destinations.main]\ntype = "fhir"\nurl = "{url}"\nretry_max_s = 1\n'


def test_sigterm_under_load_loses_nothing(
    make_daemon: Callable[..., DaemonProcess],
    history: Path,
    seed: int,
    scale: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    draw = random.Random(seed)
    inbox = history / "inbox"
    inbox.mkdir()
    ledger = Ledger(history / "ledger.jsonl")
    folder = f'[folders.inbox]\npath = "{inbox}"\nstable_s = 0.05\nrescan_s = 1\nafterwards = "delete"\n'
    stops = scale(10, 500)
    took_s = []
    with memory_server(Manner(none_match=412, checks_versions=True)) as server:
        daemon = make_daemon(("--quiet-period", "0.2"), to_server(server.url) + folder)
        daemon.start()
        with Load(daemon, ledger, slices(60 * stops, STUDIES, draw), inbox) as load:
            for _ in range(stops):
                load.goes_on(draw.randrange(1, 40))
                started = time.monotonic()
                assert daemon.terminate() == 0
                took_s.append(time.monotonic() - started)
                daemon.start()
                check(sent=ledger.sent, acknowledged=ledger.acknowledged, stored=stored(daemon.store_path))
            load.ends()
        daemon.settled()
        delivered = server.all("ImagingStudy")
        check(sent=ledger.sent, acknowledged=ledger.acknowledged, delivered=delivered)
        assert daemon.terminate() == 0
    figure(f"{stops} times SIGTERM over {len(ledger.sent)} instances; stops in {max(took_s):.2f} s at most")


@pytest.mark.parametrize("version", range(15, len(VERSIONS) + 1))
def test_a_new_schema_keeps_what_was_rejected(version: int, history: Path) -> None:
    """Why the title of a note says so is known since version 18, else when the note comes again."""
    made = instance("CT", "upgraded")
    note = record_of(encode(rejection_note("upgraded", "113001", [made], [MOTION_BLUR])))
    trusted = Origin("file", path="/note.dcm", may_reject=True)
    today = SqliteStore(history / "today.db", min_free_bytes=0)
    today.add_many([record_of(encode(made)), note], trusted)
    today.close()
    write_earlier(history / "today.db", history / "store.db", version)
    upgraded = SqliteStore(history / "store.db", min_free_bytes=0)
    try:
        for modifiers in (("Motion blur",) if version >= 18 else (), ("Motion blur",)):
            study, status = upgraded.study(made.StudyInstanceUID), upgraded.study_status(made.StudyInstanceUID)
            assert (study and study.rejected_for) == "113001"
            assert (status and status.rejections) == (RejectionReason("113001", modifiers, 1),)
            upgraded.add(note, trusted)
    finally:
        upgraded.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_schema_keeps_a_full_queue(
    version: int, make_daemon: Callable[..., DaemonProcess], history: Path, seed: int
) -> None:
    every = slices(200, STUDIES, random.Random(seed))
    instances = set(map(of, every))
    store = SqliteStore(history / "today.db", quiet_period_s=0.0, min_free_bytes=0)
    store.set_destinations(["main"])
    keep(store, every)
    refused = claimed(store, "main", "worker", 600.0)
    sent_now = claimed(store, "main", "worker", 600.0)
    assert refused is not None and sent_now is not None
    store.refuse(refused, refused.revision, "no")
    store.reject(Rejection(1.0, Origin("file", path="/a.dcm"), "no"))
    store.mark_file(FileMark("/b.dcm", 1, 1, "taken"))
    store.close()
    with memory_server(Manner()) as server:
        daemon = make_daemon(("--quiet-period", "0.2"), to_server(server.url))
        daemon.state_dir.mkdir()
        write_earlier(history / "today.db", daemon.store_path, version)
        daemon.start()
        stats = daemon.settled()
        counts = (stats.studies, stats.instances, stats.delivered, stats.refused, stats.rejected)
        assert counts == (STUDIES, len(every), STUDIES - 1, 1, 1)
        check(
            sent=instances,
            acknowledged=instances,
            delivered=server.all("ImagingStudy"),
            refused=[one for one in instances if one.study == refused.study_uid],
            stored=stored(daemon.store_path),
        )
        assert len(server.all("ImagingStudy")) == STUDIES - 1
        with daemon.store() as found:
            assert found.file_mark("/b.dcm") is not None
        assert daemon.status()["damages"] == []
        assert daemon.terminate() == 0
