"""IAN and MPPS from pynetdicom's SCU over real associations, into a real store."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role
from pynetdicom.presentation import PresentationContext
from structlog.testing import capture_logs

from dicom2fhir.demo.synthetic import dataset, instance, make_uid
from dicom2fhir.errors import OutOfSpace
from dicom2fhir.ingest import Ingest
from dicom2fhir.model import Availability
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP
from dicom2fhir.store.notices import StepStatus
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_notices import BASE, LOCATION_UID, Notice, at, begun, encoded, ended, notification
from tests.notice_sender import AE_TITLE, BOTH, N_CREATE_RQ, N_SET_RQ, REQUEST, association, message, send, send_notice
from tests.scripted_peer import CT as CT_STORAGE
from tests.scripted_peer import Peer, associate, command, p_data, pdv, release
from tests.scu_sockets import client_sockets_are_closed

__all__ = ["client_sockets_are_closed"]

CT = instance("CT", "notices")
STUDY = CT.StudyInstanceUID
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
]


class Running:
    """A receiver with its store."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "store.db", min_free_bytes=0)
        self.store.set_destinations(["main"])
        self._ingest = Ingest(self.store)
        self.scp = self.receiver(Listen(port=0, mpps=True))

    def receiver(self, listen: Listen) -> StorageSCP:
        scp = StorageSCP(
            listen,
            on_received=self._ingest.receive,
            on_created=self._ingest.create,
            on_set=self._ingest.set,
            on_rejected=self._ingest.reject,
            on_association_ended=self.store.association_ended,
        )
        scp.start()
        return scp

    @property
    def address(self) -> tuple[str, int]:
        return self.scp.address

    def stated(self) -> dict[str, tuple[Availability, ...]]:
        study = self.store.study(STUDY)
        assert study is not None
        return {instance.uid: instance.stated for series in study.series for instance in series.instances}

    def steps(self) -> tuple[StepStatus, ...]:
        status = self.store.study_status(STUDY)
        return status.steps if status else ()

    def reasons(self) -> list[str]:
        return [rejection.reason for rejection in self.store.rejections()]

    def close(self) -> None:
        self.scp.stop(5.0)
        self.store.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.close()


def without(notice: Notice, *path: str) -> Notice:
    """A notice that lacks an attribute, of its first items."""
    copied = deepcopy(notice.data_set)
    holder = copied
    for keyword in path[:-1]:
        holder = holder[keyword].value[0]
    del holder[path[-1]]
    return replace(notice, data_set=copied)


def with_value(notice: Notice, keyword: str, value: object) -> Notice:
    changed = deepcopy(notice.data_set)
    changed.update(dataset({keyword: value}))
    return replace(notice, data_set=changed)


# Availability


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: str(syntax.name))
def test_a_notification_in_every_encoding(running: Running, syntax: UID) -> None:
    with association(running.address, syntax) as over:
        notice = notification("a", [CT], at("PACS", "NEARLINE", base=BASE, location_uid=LOCATION_UID))
        answer = send_notice(over, notice)
    assert (answer.Status, answer.AffectedSOPClassUID) == (0x0000, INSTANCE_AVAILABILITY_NOTIFICATION)
    assert answer.AffectedSOPInstanceUID == make_uid("IAN", "a")
    status = running.store.study_status(STUDY)
    assert status and (status.stated, status.instances) == (1, 0)
    send_instance(running)
    assert running.stated() == {
        CT.SOPInstanceUID: (
            Availability(
                CT.SOPInstanceUID,
                {
                    "InstanceAvailability": "NEARLINE",
                    "RetrieveAETitle": "PACS",
                    "RetrieveURL": BASE,
                    "RetrieveLocationUID": LOCATION_UID,
                },
            ),
        )
    }


def send_instance(running: Running) -> None:
    ae = AE("CT1")
    over = ae.associate(*running.address, [build_context(UID(CT.SOPClassUID))], ae_title=AE_TITLE)
    assert over.is_established
    assert over.send_c_store(CT).Status == 0x0000
    over.release()


def test_a_repeated_notification_is_a_success_and_another_a_duplicate(running: Running) -> None:
    first, other = notification("a", [CT], at("PACS")), notification("a", [CT], at("PACS", "OFFLINE"))
    assert send(running.address, first, first, other, first) == [0x0000, 0x0000, 0x0111, 0x0000]
    send_instance(running)
    assert [each.attrs["InstanceAvailability"] for each in running.stated()[CT.SOPInstanceUID]] == ["ONLINE"]
    assert running.reasons() == ["Another SOP instance with this UID exists."]


def test_the_receiver_chooses_the_uid_that_a_request_lacks(running: Running) -> None:
    with association(running.address) as over:
        notice = replace(notification("a", [CT], at("PACS")), uid="")
        answers = [send_notice(over, notice), send_notice(over, notice)]
    assert [answer.Status for answer in answers] == [0x0000, 0x0000]
    assert len({answer.AffectedSOPInstanceUID for answer in answers}) == 2
    assert all(answer.AffectedSOPInstanceUID.is_valid for answer in answers)


REFERENCE = ("ReferencedSeriesSequence", "ReferencedSOPSequence")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (("StudyInstanceUID",), "StudyInstanceUID is missing."),
        (REFERENCE[:1], "ReferencedSeriesSequence is missing, or cannot be read."),
        (REFERENCE, "ReferencedSOPSequence is missing, or cannot be read."),
        ((*REFERENCE, "ReferencedSOPInstanceUID"), "ReferencedSOPInstanceUID is missing."),
        ((*REFERENCE, "InstanceAvailability"), "InstanceAvailability is missing."),
    ],
)
def test_a_notification_without_a_required_attribute(running: Running, path: tuple[str, ...], reason: str) -> None:
    assert send(running.address, without(notification("a", [CT], at("PACS")), *path)) == [0x0120]
    assert running.reasons() == [reason]
    assert running.store.stats().studies == 0


@pytest.mark.parametrize(
    ("notice", "status"),
    [
        (notification("a", [CT], at("PACS", "MAYBE")), 0x0106),
        (with_value(notification("a", [CT], at("PACS")), "StudyInstanceUID", "1.2.x/y"), 0x0106),
        (replace(notification("a", [CT], at("PACS")), uid="not a UID"), 0x0117),
    ],
    ids=["availability", "study", "sop instance"],
)
def test_a_notification_with_a_wrong_value(running: Running, notice: Notice, status: int) -> None:
    with associate(running.scp, REQUEST) as peer:
        peer.send(message(notice, encoded(notice.data_set)))
        assert peer.status() == status
        release(peer)
    assert running.store.stats().studies == 0


def test_what_does_not_fit_is_left_out(running: Running) -> None:
    """A Retrieve URL that is not of DICOMweb, and one of another study."""
    urls = (f"ftp://pacs.example/studies/{STUDY}", "https://pacs.example/wado?x=1", f"{BASE}/studies/{STUDY}1")
    for number, url in enumerate(urls):
        notice = notification(str(number), [CT], at(""))
        notice.data_set.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].RetrieveURL = url
        assert send(running.address, notice) == [0x0000]
    send_instance(running)
    assert [each.attrs for each in running.stated()[CT.SOPInstanceUID]] == [{"InstanceAvailability": "ONLINE"}]


# Procedure steps


def test_a_procedure_step_from_its_beginning_to_its_end(running: Running) -> None:
    assert send(running.address, begun("a", CT)) == [0x0000]
    study = running.store.study(STUDY)
    assert study and (study.patient["PatientID"], study.is_announced) == (CT.PatientID, True)
    assert running.steps() == (StepStatus(make_uid("MPPS", "a"), "IN PROGRESS"),)
    with association(running.address) as over:
        answer = send_notice(over, ended("a", "COMPLETED", [CT]))
    assert (answer.Status, answer.AffectedSOPClassUID) == (0x0000, MODALITY_PERFORMED_PROCEDURE_STEP)
    assert answer.AffectedSOPInstanceUID == make_uid("MPPS", "a")
    assert [step.status for step in running.steps()] == ["COMPLETED"]
    status = running.store.study_status(STUDY)
    assert status and status.missing == 1
    send_instance(running)
    study = running.store.study(STUDY)
    assert study and not study.is_announced
    assert running.store.next_due_at("main") == study_changed_at(running)


def study_changed_at(running: Running) -> float:
    status = running.store.study_status(STUDY)
    assert status is not None
    return status.last_at


def test_a_step_that_has_ended_is_not_updated(running: Running) -> None:
    completed, other = ended("a", "COMPLETED", [CT]), ended("a", "DISCONTINUED")
    assert send(running.address, begun("a", CT), completed, completed) == [0x0000, 0x0000, 0x0000]
    with association(running.address) as over:
        answer = send_notice(over, other)
    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert answer.ErrorComment == "Performed Procedure Step Object may no longer be updated"
    assert [step.status for step in running.steps()] == ["COMPLETED"]


def test_an_unknown_step_is_not_updated(running: Running) -> None:
    assert send(running.address, ended("a", "COMPLETED")) == [0x0112]
    assert running.store.stats().studies == 0


def test_a_repeated_step_is_a_success_and_another_a_duplicate(running: Running) -> None:
    first, other = begun("a", CT), begun("a", CT, PatientID="OTHER")
    assert send(running.address, first, first, other) == [0x0000, 0x0000, 0x0111]
    study = running.store.study(STUDY)
    assert study and study.patient["PatientID"] == CT.PatientID


@pytest.mark.parametrize(
    ("notice", "status"),
    [
        (begun("a", CT, PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        (begun("a", CT, PerformedProcedureStepStatus="BEGUN"), 0x0106),
        (begun("a", CT, PerformedProcedureStepStatus=None), 0x0120),
        (begun("a", CT, ScheduledStepAttributesSequence=[]), 0x0120),
        (without(begun("a", CT), "ScheduledStepAttributesSequence", "StudyInstanceUID"), 0x0120),
    ],
)
def test_a_step_that_cannot_begin(running: Running, notice: Notice, status: int) -> None:
    assert send(running.address, notice) == [status]
    assert running.store.stats().studies == 0


def test_a_step_does_not_become_anything_else(running: Running) -> None:
    assert send(running.address, begun("a", CT), ended("a", "FINISHED", [CT])) == [0x0000, 0x0106]
    assert [step.status for step in running.steps()] == ["IN PROGRESS"]


def test_an_update_does_not_change_the_patient_or_the_study(running: Running) -> None:
    other = with_value(ended("a", "IN PROGRESS"), "PatientID", "OTHER")
    moved = with_value(other, "ScheduledStepAttributesSequence", [{"StudyInstanceUID": "1.2.3"}])
    assert send(running.address, begun("a", CT), moved) == [0x0000, 0x0000]
    study = running.store.study(STUDY)
    assert study and study.patient["PatientID"] == CT.PatientID
    assert running.store.study("1.2.3") is None


def test_names_in_any_character_set(running: Running) -> None:
    name = "Müller^Jürgen"
    step = begun("a", CT, SpecificCharacterSet="ISO_IR 100", PatientName=name)
    assert send(running.address, step) == [0x0000]
    study = running.store.study(STUDY)
    assert study and study.patient["PatientName"] == name


# The receiver


def accepted(contexts: list[PresentationContext]) -> set[str]:
    return {str(context.abstract_syntax) for context in contexts}


def test_what_is_accepted_is_what_the_options_say(running: Running) -> None:
    for options, expected in (
        (Listen(port=0), {INSTANCE_AVAILABILITY_NOTIFICATION}),
        (Listen(port=0, ian=False, mpps=True), {MODALITY_PERFORMED_PROCEDURE_STEP}),
        (Listen(port=0, mpps=True), set(BOTH)),
    ):
        scp = running.receiver(options)
        with association(scp.address, sop_classes=[*BOTH, CT_STORAGE]) as over:
            assert accepted(over.accepted_contexts) == {*expected, CT_STORAGE}
            assert accepted(over.rejected_contexts) == set(BOTH) - expected
        scp.stop(5.0)


def test_only_the_scu_role_is_accepted(running: Running) -> None:
    scu = AE("CT1")
    role = build_role(UID(INSTANCE_AVAILABILITY_NOTIFICATION), scu_role=False, scp_role=True)
    contexts = [build_context(UID(sop_class)) for sop_class in BOTH]
    over = scu.associate(*running.address, contexts, ae_title=AE_TITLE, ext_neg=[role])
    assert accepted(over.accepted_contexts) == {MODALITY_PERFORMED_PROCEDURE_STEP}
    over.release()


def test_other_services_of_the_sop_classes(running: Running) -> None:
    ian, step = notification("a", [CT], at("PACS")), begun("a", CT)
    data = encoded(ian.data_set)
    with associate(running.scp, REQUEST) as peer:
        peer.send(message(ian, data, field=N_SET_RQ))  # IAN has no N-SET
        peer.send(message(step, data, field=0x0110))  # N-GET, which MPPS has in another SOP class
        peer.send(message(ian, data, sop_class=MODALITY_PERFORMED_PROCEDURE_STEP))
        peer.send(p_data(pdv(1, 3, command())) + p_data(pdv(1, 2, data)))  # C-STORE
        assert [peer.status() for _ in range(4)] == [0x0211, 0x0211, 0x0118, 0x0122]
        peer.send(message(ian, data))
        assert peer.status() == 0x0000
        release(peer)


def test_a_request_without_a_data_set(running: Running) -> None:
    ian = notification("a", [CT], at("PACS"))
    with associate(running.scp, REQUEST) as peer:
        peer.send(message(ian, b"", has_data=False) + message(ian, b""))
        assert [peer.status(), peer.status()] == [0x0110, 0x0120]
        release(peer)


def test_the_response_to_a_set_names_what_was_requested(running: Running) -> None:
    step = begun("a", CT)
    with associate(running.scp, REQUEST) as peer:
        peer.send(message(step, encoded(step.data_set), message_id=7))
        created = peer.response()
        peer.send(message(replace(step, service="N-SET"), encoded(ended("a", "COMPLETED").data_set), message_id=8))
        changed = peer.response()
        release(peer)
    for answer, field, message_id in ((created, N_CREATE_RQ, 7), (changed, N_SET_RQ, 8)):
        assert int.from_bytes(answer[0x0100], "little") == field | 0x8000
        assert int.from_bytes(answer[0x0120], "little") == message_id
        assert answer[0x0800] == b"\x01\x01"
        assert answer[0x1000].rstrip(b"\0").decode() == step.uid
        assert answer[0x0002].rstrip(b"\0").decode() == MODALITY_PERFORMED_PROCEDURE_STEP


def test_data_that_is_no_data_set(running: Running) -> None:
    ian = notification("a", [CT], at("PACS"))
    whole = encoded(ian.data_set)
    with associate(running.scp, REQUEST) as peer:
        peer.send(message(ian, whole[:-3]) + message(ian, b"\xff" * 100))
        assert [peer.status(), peer.status()] == [0x0110, 0x0110]
        peer.send(message(ian, whole))
        assert peer.status() == 0x0000
        release(peer)
    assert len(running.reasons()) == 2


def test_without_space_the_sender_is_told_to_try_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OutOfSpace

    monkeypatch.setattr(running.store._space, "check", full)
    with capture_logs() as logged:
        assert send(running.address, notification("a", [CT], at("PACS")), begun("a", CT)) == [0x0213, 0x0213]
    refused = [entry for entry in logged if entry["event"] == "notice.refused"]
    assert [(entry["status"], entry["kind"]) for entry in refused] == [("0213", "out-of-space")] * 2
    assert running.reasons() == []


def test_a_fault_of_the_bridge_is_a_processing_failure(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError(str(CT.PatientID))

    monkeypatch.setattr(running.store, "create_step", fails)
    with capture_logs() as logged:
        assert send(running.address, begun("a", CT)) == [0x0110]
    assert [entry["kind"] for entry in logged if entry["log_level"] == "error"] == ["bridge-fault"] * 2
    assert str(CT.PatientID) not in repr(logged)


def test_a_large_study_fits(running: Running) -> None:
    """A notification about all of its instances has several times as many elements as a header may have."""
    notice, many = notification("a", [CT], at("PACS")), notification_of(10_000)
    with Peer(running.address, REQUEST) as peer:
        assert peer.receive()[0] == 2
        peer.send(message(notice, many))
        assert peer.status() == 0x0000
        release(peer)
    status = running.store.study_status(STUDY)
    assert status and status.stated == 10_000


def notification_of(count: int) -> bytes:
    """An encoded notification about so many instances of one series, each with a place of its own."""
    head = dataset({"StudyInstanceUID": STUDY})
    items = b"".join(_item(number) for number in range(count))
    series = _sequence(0x0008, 0x1199, items)
    return _sequence(0x0008, 0x1115, b"\xfe\xff\x00\xe0" + len(series).to_bytes(4, "little") + series) + encoded(head)


def _item(number: int) -> bytes:
    uid_ = f"{CT.SOPInstanceUID[:54]}.{number:08d}"
    reference = {
        "InstanceAvailability": "ONLINE",
        "RetrieveAETitle": "PACS",
        "ReferencedSOPClassUID": CT.SOPClassUID,
        "ReferencedSOPInstanceUID": uid_,
        "RetrieveURL": f"{BASE}/studies/{STUDY}/series/{CT.SeriesInstanceUID}/instances/{uid_}",
        "RetrieveLocationUID": LOCATION_UID,
    }
    data = encoded(dataset(reference))
    return b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data


def _sequence(group: int, element: int, items: bytes) -> bytes:
    tag = group.to_bytes(2, "little") + element.to_bytes(2, "little")
    return tag + b"SQ\0\0" + len(items).to_bytes(4, "little") + items
