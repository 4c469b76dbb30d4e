"""The whole road: DICOM goes in as hospitals send it, and a real FHIR server says what came of it."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from dicom2fhir.demo.synthetic import make_uid
from dicom2fhir.model import Resource
from dicom2fhir.store.statuses import State
from tests.acceptance import senders
from tests.acceptance.conftest import StartDaemon, leaks
from tests.acceptance.expectation import Expectation, Server, assert_holds, without_meta, write_slices
from tests.daemon_process import DaemonProcess, run_command, wait_until
from tests.servers.outage_proxy import OutageProxy

QUIET = ("--quiet-period", "0.5")
DELIVERED_WITHIN_S = 60.0

_UNREADABLE = {
    "sop-class-only-in-meta/0001.dcm": "the data set names no SOP class, and DCMTK looks nowhere else",
    "truncated-pixels/0001.dcm": "DCMTK reads to the end of the pixels, which is missing",
    "test_files/MR_truncated.dcm": "the same",
    "test_files/SC_rgb_jpeg.dcm": "DCMTK stumbles over VRs that are none",
}
UNSENDABLE = {
    "dcmsend": _UNREADABLE,
    "storescu": {
        **_UNREADABLE,
        "test_files/rtdose_rle.dcm": "storescu finds no SOP class and instance",
        "test_files/rtdose_rle_1frame.dcm": "the same",
    },
}
"""Readable files that a program of DCMTK cannot send, and why; pynetdicom sends them."""

REFUSED = {
    "dcmsend": {
        "test_files/rtdose_rle.dcm": "UIDs of VR UN, which DCMTK puts into the command as hexadecimal digits: A900",
        "test_files/rtdose_rle_1frame.dcm": "the same",
    },
    "storescu": {},
}
"""Readable files that are rightly refused as the program sends them; there are others of the same instance."""


def _name(file: Path) -> str:
    return "/".join(file.parts[-2:])


@pytest.fixture
def name() -> str:
    """Begin of the names of a test's own studies: all tests share the servers."""
    return uuid4().hex[:8]


@pytest.mark.needs("dcmsend", "storescu")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("named", "version", "program"),
    [
        pytest.param("hapi", "r4", "dcmsend", marks=pytest.mark.needs("hapi")),
        pytest.param("hapi", "r5", "storescu", marks=pytest.mark.needs("hapi")),
        pytest.param("medplum", "r4", "dcmsend", marks=pytest.mark.needs("medplum")),
    ],
)
def test_every_file_reaches_its_study_and_sending_again_changes_nothing(
    fhir_server: Callable[[str, str], str],
    named: str,
    version: str,
    program: str,
    daemon: StartDaemon,
    every_file: list[Path],
    expected: Expectation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(fhir_server(named, version))
    bridge = daemon("--fhir-url", server.base_url, "--quiet-period", "1")
    send = {"dcmsend": senders.dcmsend, "storescu": senders.storescu}[program]

    def send_all() -> None:
        sent = send(bridge.address, every_file, tmp_path)
        assert sent.returncode == 0
        rest = [file for file in expected.readable if file not in sent.answers]
        assert {_name(file) for file in rest} == set(UNSENDABLE[program])
        answers = {**sent.answers, **senders.pynetdicom_send(bridge.address, rest, monkeypatch)}
        refused = {_name(file) for file in expected.readable if answers[file] not in ("0000", "Success", 0)}
        assert refused == set(REFUSED[program])
        bridge.settled()

    send_all()
    assert bridge.instances() == expected.instances
    conflicts = expected.in_conflict()
    assert conflicts
    for uid in expected.records:
        if uid in conflicts:
            assert server.studies(uid) == []
        else:
            assert_holds(server.study(uid), expected.series(uid))
    refused = {
        study["study_uid"]
        for study in bridge.status()["studies"]
        if any(delivery["state"] == State.REFUSED for delivery in study["deliveries"])
    }
    assert refused == conflicts

    written = expected.records.keys() - conflicts
    before = server.each_of(written)
    send_all()
    after = server.each_of(written)
    assert {uid: without_meta(study) for uid, study in after.items()} == {
        uid: without_meta(study) for uid, study in before.items()
    }
    # Where files contradict one another, what the first ones say may have been delivered in between.
    steady = written - expected.ambiguous()
    assert {u: after[u]["meta"]["versionId"] for u in steady} == {u: before[u]["meta"]["versionId"] for u in steady}

    grown = make_uid("mr")
    assert grown in steady
    series = expected.series(grown)
    writes = server.version(grown)
    assert send(bridge.address, write_slices(tmp_path, "mr", [9001], modality="MR"), tmp_path).returncode == 0
    bridge.settled()
    series.setdefault(make_uid("mr", 1), set()).add(make_uid("mr", 1, 9001))
    assert_holds(server.study(grown), series)
    assert server.version(grown) == writes + 1
    others = written - {grown}
    assert {u: study["meta"] for u, study in server.each_of(others).items()} == {u: after[u]["meta"] for u in others}


@pytest.fixture
def interleaved(tmp_path: Path, name: str) -> tuple[list[Path], dict[str, Resource]]:
    """Files of several studies, and what ``dicom2fhir convert`` makes of them: study UID -> ImagingStudy in R4."""
    folder = tmp_path / "interleaved"
    files = [
        file
        for study in range(6)
        for series in (1, 2)
        for file in write_slices(folder, f"{name}-{study}", range(1, 21), series)
    ]
    done = run_command("convert", "--fhir", "R4", "--patient", "link", "--as", "resources", folder)
    assert done.returncode == 0, done.stderr.decode()
    resources = [json.loads(line) for line in done.stdout.splitlines()]
    studies = {
        one["identifier"][0]["value"].removeprefix("urn:oid:"): one
        for one in resources
        if one["resourceType"] == "ImagingStudy"
    }
    assert len(studies) == 6
    return files, studies


def _shuffled(files: Sequence[Path], seed: int) -> list[Path]:
    shuffled = list(files)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _sop_uids(files: Sequence[Path]) -> set[str]:
    return {uid for instances in Expectation.of(files).instances.values() for uid in instances}


def _stored(bridge: DaemonProcess) -> set[str]:
    return {uid for instances in bridge.instances().values() for uid in instances}


def _last_written(folder: Path) -> dict[str, Resource]:
    """The ImagingStudy of the newest Bundle of each study in the folder of a file destination."""
    found: dict[str, tuple[int, Resource]] = {}
    for file in folder.glob("*.json"):
        revision = int(file.name.split(".")[1])
        for entry in json.loads(file.read_bytes())["entry"]:
            resource = entry["resource"]
            if resource["resourceType"] == "ImagingStudy":
                uid = resource["identifier"][0]["value"].removeprefix("urn:oid:")
                found[uid] = max(found.get(uid, (0, {})), (revision, resource), key=lambda one: one[0])
    return {uid: resource for uid, (_, resource) in found.items()}


def _interrupt(bridge: DaemonProcess, files: list[Path], folder: Path, after: int, end: Callable[[], object]) -> None:
    """Have files sent, ``end`` the daemon in the middle, start it again: nothing that was acknowledged is lost."""
    before = len(_stored(bridge))
    with senders.start_storescu(bridge.address, files, folder) as process:
        wait_until(lambda: len(_stored(bridge)) >= before + after, 30, f"{after} instances have come")
        end()
        output, _ = process.communicate(timeout=30)
    acknowledged = senders.acknowledged(output)
    assert after <= len(acknowledged) < len(files), "the daemon was not ended in the middle"
    bridge.start()
    assert _sop_uids(acknowledged) <= _stored(bridge)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in ("hapi", "medplum")])
def r4_server(request: pytest.FixtureRequest, fhir_server: Callable[[str, str], str]) -> str:
    """Base URL of each FHIR R4 server. HAPI takes our ids, Medplum chooses its own."""
    return fhir_server(request.param, "r4")


def assert_as_mapped(server: Server, mapped: dict[str, Resource]) -> None:
    """Assert that a server holds studies as they were mapped, whatever ids it gave them."""
    found = {uid: without_meta(study) for uid, study in server.each_of(mapped).items()}
    ids = {uid: study.pop("id") for uid, study in found.items()}
    assert found == {
        uid: {name: value for name, value in study.items() if name != "id"} for uid, study in mapped.items()
    }
    if server.takes_ids():
        assert ids == {uid: study["id"] for uid, study in mapped.items()}


@pytest.mark.needs("storescu")
def test_kill_9_in_the_middle_of_sending_leaves_no_trace(
    r4_server: str, daemon: StartDaemon, interleaved: tuple[list[Path], dict[str, Resource]], tmp_path: Path
) -> None:
    files, undisturbed = interleaved
    bridge = daemon("--fhir-url", r4_server, *QUIET)
    _interrupt(bridge, _shuffled(files, 1), tmp_path, 30, bridge.kill)
    _interrupt(bridge, _shuffled(files, 2), tmp_path, 60, bridge.kill)
    assert senders.storescu(bridge.address, files, tmp_path).returncode == 0
    bridge.settled()
    assert_as_mapped(Server(r4_server), undisturbed)


@pytest.mark.needs("dcmsend")
def test_while_the_server_is_away_sending_goes_on(
    r4_server: str, outage_proxy: Callable[[str], OutageProxy], daemon: StartDaemon, name: str, tmp_path: Path
) -> None:
    proxy = outage_proxy(r4_server)
    proxy.go_away()
    bridge = daemon(
        *QUIET, settings=f'[destinations.main]\ntype = "fhir"\nurl = "{proxy.url}"\nretry_max_s = 1\ntimeout_s = 10\n'
    )
    studies = [f"{name}-{number}" for number in range(8)]
    server = Server(r4_server)

    def send(slices: Sequence[int], names: Sequence[str]) -> None:
        files = [file for study in names for file in write_slices(tmp_path / "sent", study, slices)]
        sent = senders.dcmsend(bridge.address, files, tmp_path)
        assert sent.returncode == 0
        assert sent.answers == dict.fromkeys(files, "0000")

    def postponed() -> bool:
        return any(delivery.attempts for study in bridge.studies().values() for delivery in study.deliveries)

    send(range(1, 6), studies[:4])
    wait_until(postponed, DELIVERED_WITHIN_S, "a delivery has failed")
    proxy.come_back()
    bridge.settled()
    proxy.go_away()
    send(range(1, 6), studies[4:])
    send(range(6, 9), studies[:4])
    assert bridge.status()["stats"]["delivered"] == 0
    assert [server.studies(make_uid(study)) for study in studies[4:]] == [[]] * 4
    proxy.come_back()
    bridge.settled()

    for number, study in enumerate(studies):
        resource = server.study(make_uid(study))
        slices = range(1, 9) if number < 4 else range(1, 6)
        assert_holds(resource, {make_uid(study, 1): {make_uid(study, 1, slice_) for slice_ in slices}})
        assert server.writes(resource) == (2 if number < 4 else 1)


@pytest.mark.needs("dcmsend")
@pytest.mark.parametrize(
    ("kind", "version"),
    [
        pytest.param(kind, version, marks=pytest.mark.needs(kind))
        for kind, version in (("hapi", "r4"), ("hapi", "r5"), ("medplum", "r4"))
    ],
)
def test_a_study_that_the_server_has_already_is_adopted_with_what_others_wrote(
    fhir_server: Callable[[str, str], str], kind: str, version: str, daemon: StartDaemon, name: str, tmp_path: Path
) -> None:
    server = Server(fhir_server(kind, version))
    uid = make_uid(name)
    theirs = server.create(
        {
            "resourceType": "ImagingStudy",
            "identifier": [
                {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"},
                {"system": "urn:oid:1.2.3.4.5", "value": "THEIRS"},
            ],
            "status": "registered",
            "subject": {"display": "somebody"},
            "note": [{"text": "Seen by the tumour board."}],
        }
    )
    bridge = daemon("--fhir-url", server.base_url, *QUIET)

    def send(slices: Sequence[int]) -> Resource:
        files = write_slices(tmp_path / "sent", name, slices)
        assert senders.dcmsend(bridge.address, files, tmp_path).returncode == 0
        bridge.settled()
        return server.study(uid)

    ours = send([1, 2])
    assert ours["id"] == theirs["id"]
    assert ours["status"] == "available"
    assert ours["note"] == theirs["note"]
    assert theirs["identifier"][1] in ours["identifier"]
    assert_holds(ours, {make_uid(name, 1): {make_uid(name, 1, number) for number in (1, 2)}})

    writes = server.writes(ours)
    notes = [*ours["note"], {"text": "Added later."}]
    server.update({**ours, "note": notes})
    later = send([3])
    assert later["id"] == theirs["id"]
    assert later["note"] == notes
    assert theirs["identifier"][1] in later["identifier"]
    assert_holds(later, {make_uid(name, 1): {make_uid(name, 1, number) for number in (1, 2, 3)}})
    assert server.writes(later) == writes + 2


@pytest.mark.needs("storescu")
def test_order_and_ways_do_not_matter_and_two_destinations_get_the_same(
    r4_server: str, daemon: StartDaemon, interleaved: tuple[list[Path], dict[str, Resource]], tmp_path: Path
) -> None:
    files, undisturbed = interleaved
    for run in (1, 2):
        home = tmp_path / f"run-{run}"
        inbox, out = home / "inbox", home / "out"
        inbox.mkdir(parents=True)
        bridge = daemon(
            *("--fhir-url", r4_server, "--output-dir", out, *QUIET),
            settings=f'[folders.inbox]\npath = "{inbox}"\nstable_s = 0.2\nrescan_s = 1\n'
            '[destinations.files]\npatient = "link"\n',
        )
        shuffled = _shuffled(files, 10 + run)
        # two associations at once share some files, the folder gets the rest
        shares = [shuffled[:90], shuffled[80:160]]
        threads = []
        for number, share in enumerate(shares):
            (home / str(number)).mkdir()
            threads.append(threading.Thread(target=senders.storescu, args=(bridge.address, share, home / str(number))))
        for thread in threads:
            thread.start()
        for file in shuffled[160:]:
            shutil.copy(file, inbox)
        for thread in threads:
            thread.join()
        bridge.holds(len(files))
        stats = bridge.settled()
        assert (stats.studies, stats.delivered) == (6, 12)
        assert _last_written(out) == undisturbed
        assert_as_mapped(Server(r4_server), undisturbed)
        assert bridge.terminate() == 0


@pytest.mark.needs("dcmsend")
def test_what_cannot_be_taken_is_refused_with_a_reason(daemon: StartDaemon, generated: Path, tmp_path: Path) -> None:
    inbox, rejected = tmp_path / "inbox", tmp_path / "rejected"
    for folder in (inbox, rejected):
        folder.mkdir()
    bridge = daemon(
        *("--output-dir", tmp_path / "out", *QUIET),
        settings=f'[folders.inbox]\npath = "{inbox}"\nrejected_to = "{rejected}"\n'
        "stable_s = 0.2\nincomplete_s = 1\nrescan_s = 1\n",
    )
    nameless = [generated / case / "0001.dcm" for case in ("study-uid-missing", "series-uid-empty")]
    sent = senders.dcmsend(bridge.address, [*nameless, generated / "cr" / "0001.dcm"], tmp_path)
    assert sent.answers == {nameless[0]: "c000", nameless[1]: "c000", generated / "cr" / "0001.dcm": "0000"}

    shutil.copy(generated / "sop-uid-missing" / "0001.dcm", inbox / "nameless.dcm")
    shutil.copy(generated / "truncated" / "0001.dcm", inbox / "truncated.dcm")
    shutil.copy(generated / "dx" / "0001.dcm", inbox / "good.dcm")
    wait_until(lambda: len(list(rejected.iterdir())) == 4, 30, "two files are refused")
    wait_until(lambda: len(list(inbox.iterdir())) == 1, 30, "they are moved")  # each is copied first
    wait_until(lambda: len(bridge.studies()) == 2, 30, "the folder has been taken")
    bridge.settled()

    reasons = {file.name: file.read_text() for file in rejected.iterdir() if file.suffix != ".dcm"}
    assert len(reasons) == 2
    assert any("SOPInstanceUID is missing" in reason for reason in reasons.values())
    assert [file.name for file in inbox.iterdir()] == ["good.dcm"]

    status = bridge.status()
    assert status["stats"]["rejected"] == 4
    assert status["stats"]["instances"] == 2
    shown = {(one["origin"], one["calling_ae"], Path(one["path"]).name, one["reason"]) for one in status["rejections"]}
    assert {
        ("dimse", "DCMSEND", "", "StudyInstanceUID is missing."),
        ("dimse", "DCMSEND", "", "SeriesInstanceUID is missing."),
        ("folder", "", "nameless.dcm", "SOPInstanceUID is missing."),
    } < shown
    assert {one[2] for one in shown if one[0] == "folder"} == {"nameless.dcm", "truncated.dcm"}


@pytest.mark.needs("dcmsend")
def test_the_log_tells_of_no_patient_while_the_bundles_do(
    daemon: StartDaemon, generated: Path, patient_data: frozenset[str], tmp_path: Path
) -> None:
    """The same check stands behind every other test of this folder; here it is shown that it would find something."""
    bridge = daemon("--output-dir", tmp_path / "out", *QUIET)
    files = sorted(path for path in generated.rglob("*.dcm"))
    assert senders.dcmsend(bridge.address, files, tmp_path).returncode == 0
    bridge.settled()
    bundles = "".join(file.read_text() for file in (tmp_path / "out").iterdir())
    assert len(leaks(bundles, patient_data)) > 100
    log = bridge.log_path.read_text()
    assert len(log.splitlines()) > len(files)
    assert not leaks(log, patient_data)
    assert not leaks(json.dumps(bridge.status()), patient_data)
