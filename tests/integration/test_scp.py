from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_STORE
from pynetdicom.presentation import build_context
from structlog.testing import capture_logs

from dicom2fhir import errors
from dicom2fhir.dicom.data_elements import DEFLATED as READ_DEFLATED
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.instance_reader import InstanceReader
from dicom2fhir.dicom.reader import HeaderReader, scan
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.model import Origin, Received
from dicom2fhir.receive.dimse.negotiation import best_syntax, is_storage
from dicom2fhir.receive.dimse.options import Listen, is_within
from dicom2fhir.receive.dimse.scp import StorageSCP
from tests.scu_sockets import client_sockets_are_closed

__all__ = ["client_sockets_are_closed"]

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE_CLASS = "1.3.6.1.4.1.9590.100.1.5"
UNKNOWN_CLASS = "1.2.840.10008.5.1.4.1.1.99999"
RETIRED_CLASS = "1.2.840.10008.5.1.4.1.1.6"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
PRIVATE_SYNTAX = "1.3.6.1.4.1.9590.100.2.7"
SYNTAXES = {
    "implicit LE": IMPLICIT_LE,
    "explicit LE": EXPLICIT_LE,
    "deflated": DEFLATED,
    "JPIP deflated": "1.2.840.10008.1.2.4.95",
    "JPIP HTJ2K deflated": "1.2.840.10008.1.2.4.205",
    "explicit BE": EXPLICIT_BE,
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
    "JPEG XL": "1.2.840.10008.1.2.4.110",
    "MPEG2": "1.2.840.10008.1.2.4.100",
    "HEVC": "1.2.840.10008.1.2.4.107",
    "RLE": "1.2.840.10008.1.2.5",
    "private": PRIVATE_SYNTAX,
}


class Bridge:
    """What stands behind the SCP in these tests: keeps what came and fails on demand."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.created: list[Received] = []
        self.updated: list[Received] = []
        self.rejected: list[tuple[Origin, str]] = []
        self.ended: list[str] = []
        self.fail: BaseException | None = None
        self.hold: threading.Event | None = None
        self.entered = threading.Semaphore(0)

    def on_received(self, received: Received, _reader: InstanceReader) -> None:
        self.entered.release()
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.fail is not None:
            raise self.fail
        self.received.append(received)

    def on_created(self, received: Received) -> None:
        if self.fail is not None:
            raise self.fail
        self.created.append(received)

    def on_set(self, received: Received) -> None:
        if self.fail is not None:
            raise self.fail
        self.updated.append(received)

    def on_rejected(self, origin: Origin, error: errors.BridgeError) -> None:
        self.rejected.append((origin, str(error)))

    def on_association_ended(self, association: str) -> None:
        self.ended.append(association)


class Running:
    def __init__(self) -> None:
        self.bridge = Bridge()
        self.scps: list[StorageSCP] = []

    def __call__(self, listen: Listen | None = None) -> StorageSCP:
        scp = StorageSCP(
            listen or Listen(port=0),
            on_received=self.bridge.on_received,
            on_created=self.bridge.on_created,
            on_set=self.bridge.on_set,
            on_rejected=self.bridge.on_rejected,
            on_association_ended=self.bridge.on_association_ended,
        )
        scp.start()
        self.scps.append(scp)
        return scp


@pytest.fixture
def start() -> Iterator[Running]:
    running = Running()
    yield running
    if running.bridge.hold is not None:
        running.bridge.hold.set()
    for scp in running.scps:
        scp.stop(5.0)


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def associate(
    scp: StorageSCP, *contexts: tuple[str, list[str]], called: str = "DICOM2FHIR", calling: str = "SCU"
) -> Association:
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    host, port = scp.address
    return ae.associate(
        host,
        port,
        contexts=[build_context(abstract, list(syntaxes)) for abstract, syntaxes in contexts or [(CT, [EXPLICIT_LE])]],
        ae_title=called,
    )


def instance(sop_class: str = CT) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid(entropy_srcs=None)
    ds.StudyInstanceUID = "1.2.3"
    ds.SeriesInstanceUID = "1.2.3.4"
    ds.PatientName = "Canary^Yellow"
    ds.PatientID = "P1"
    return ds


def encode(ds: Dataset, syntax: str, pixels: bytes = b"\x01\x02" * 32) -> tuple[bytes, bytes]:
    """The header as it must be handed over, and the whole data set."""
    implicit, little = syntax == IMPLICIT_LE, syntax != EXPLICIT_BE
    buffer = BytesIO()
    file = DicomFileLike(buffer)
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, ds)
    header = buffer.getvalue()
    if implicit:
        element = struct.pack("<HHL", 0x7FE0, 0x0010, len(pixels))
    else:
        element = struct.pack("<HH" if little else ">HH", 0x7FE0, 0x0010) + b"OW\0\0"
        element += struct.pack("<L" if little else ">L", len(pixels))
    if syntax in (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE):
        return header, header + element + pixels
    if syntax in READ_DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        whole = deflater.compress(header + element + pixels) + deflater.flush()
        return whole, whole
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, len(pixels)) + pixels
    return header, header + element[:-4] + b"\xff" * 4 + fragments + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def exchange(association: Association, request: C_STORE | C_FIND, context_id: int) -> object:
    """Send a message and wait for what comes back, or for the end of the association.

    pynetdicom's own way, pausing its reactor, loses an answer now and then: the reactor may take it first.
    """
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    association._serve_request = lambda message, _: answers.put(message)  # type: ignore[method-assign,assignment]
    association.dimse.send_msg(request, context_id)
    until(lambda: not answers.empty() or not association.is_established, 40)
    assert not answers.empty(), "the association has ended"
    return answers.get()


def send(
    association: Association, data: bytes, uid: str, sop_class: str = CT, abstract_syntax: str | None = None
) -> tuple[int, str]:
    """C-STORE of bytes as they are: pynetdicom's own SCU would decode them first."""
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = UID(sop_class)
    request.AffectedSOPInstanceUID = UID(uid)
    request.Priority = 2
    request.DataSet = BytesIO(data)
    (context,) = [c for c in association.accepted_contexts if c.abstract_syntax == (abstract_syntax or sop_class)]
    assert context.context_id is not None
    response = exchange(association, request, context.context_id)
    assert isinstance(response, C_STORE)
    assert response.MessageIDBeingRespondedTo == 7
    assert response.Status is not None
    return response.Status, str(response.ErrorComment or "")


def store(association: Association, ds: Dataset | None = None) -> tuple[int, str]:
    ds = ds or instance()
    return send(association, encode(ds, EXPLICIT_LE)[1], ds.SOPInstanceUID)


def dicom_file(path: Path, ds: Dataset, syntax: str = EXPLICIT_LE) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def test_echo(start: Running) -> None:
    association = associate(start(), (VERIFICATION, [IMPLICIT_LE]))
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_every_transfer_syntax_is_taken_and_pixels_are_left_out(start: Running, syntax: str) -> None:
    association = associate(start(), (CT, [syntax]))
    ds = instance()
    header, whole = encode(ds, syntax)
    assert send(association, whole, ds.SOPInstanceUID) == (0x0000, "")
    association.release()
    (received,) = start.bridge.received
    assert received.taken == scan(header, syntax, WANTED)
    assert received.transfer_syntax == syntax
    assert (received.sop_class, received.sop_instance) == (CT, ds.SOPInstanceUID)
    origin = received.origin
    assert (origin.kind, origin.calling_ae, origin.called_ae, origin.peer) == (
        "dimse",
        "SCU",
        "DICOM2FHIR",
        "127.0.0.1",
    )
    until(lambda: start.bridge.ended)
    assert start.bridge.ended == [origin.association]


@pytest.mark.parametrize("sop_class", [PRIVATE_CLASS, UNKNOWN_CLASS, RETIRED_CLASS])
def test_private_unknown_and_retired_storage_classes(start: Running, sop_class: str) -> None:
    association = associate(start(), (sop_class, [IMPLICIT_LE]))
    ds = instance(sop_class)
    header, whole = encode(ds, IMPLICIT_LE)
    assert send(association, whole, ds.SOPInstanceUID, sop_class) == (0x0000, "")
    association.release()
    assert start.bridge.received[0].taken == scan(header, IMPLICIT_LE, WANTED)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (CT, True),
        (PRIVATE_CLASS, True),
        (UNKNOWN_CLASS, True),
        (RETIRED_CLASS, True),
        ("1.2.840.10008.5.1.1.29", True),  # Hardcopy Grayscale Image Storage (Retired)
        ("1.2.840.10008.5.1.4.1.1.40", True),  # retired and without a name
        ("1.2.840.10008.5.1.4.34.7", True),  # RT Beams Delivery Instruction Storage
        (VERIFICATION, False),
        (STUDY_ROOT_FIND, False),
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.1.20.1", False),  # Storage Commitment Push
        ("1.2.840.10008.1.20.2", False),  # Storage Commitment Pull
        ("1.2.840.10008.5.1.4.31", False),  # Modality Worklist
        ("1.2.840.10008.3.1.2.3.3", False),  # MPPS
        ("1.2.840.10008.5.1.4.38.1", False),  # Hanging Protocol Storage belongs to no study
        ("1.2.840.10008.5.1.1.9", False),  # Print
        ("", False),
        ("garbage", False),
        ("1.2.3\ufffd", False),
    ],
)
def test_which_classes_are_storage(uid: str, expected: bool) -> None:
    assert is_storage(uid) is expected


def test_other_services_are_not_negotiated(start: Running) -> None:
    association = associate(start(), (CT, [EXPLICIT_LE]), (STUDY_ROOT_FIND, [EXPLICIT_LE]))
    assert [c.abstract_syntax for c in association.accepted_contexts] == [CT]
    assert [(c.abstract_syntax, c.result) for c in association.rejected_contexts] == [(STUDY_ROOT_FIND, 3)]
    association.release()


def test_other_operations_are_refused(start: Running) -> None:
    association = associate(start())
    request = C_FIND()
    request.MessageID = 3
    request.AffectedSOPClassUID = UID(STUDY_ROOT_FIND)
    request.Priority = 2
    request.Identifier = BytesIO(b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY ")
    response = exchange(association, request, 1)
    assert isinstance(response, C_FIND)
    assert response.Status == 0x0211
    assert store(association) == (0x0000, "")
    association.release()


def test_storing_over_a_verification_context_is_refused(start: Running) -> None:
    association = associate(start(), (VERIFICATION, [EXPLICIT_LE]))
    ds = instance()
    status, _ = send(association, encode(ds, EXPLICIT_LE)[1], ds.SOPInstanceUID, abstract_syntax=VERIFICATION)
    assert status == 0x0122
    association.release()


@pytest.mark.parametrize(
    ("proposed", "best"),
    [
        ([PRIVATE_SYNTAX, "1.2.840.10008.1.2.4.90", EXPLICIT_LE], "1.2.840.10008.1.2.4.90"),
        ([PRIVATE_SYNTAX, "1.2.3"], PRIVATE_SYNTAX),
        (["", "garbage", "1.2.3"], "1.2.3"),
        (["", "garbage", "1" * 65], ""),
    ],
)
def test_of_several_transfer_syntaxes_the_first_standard_one_is_taken(proposed: list[str], best: str) -> None:
    assert best_syntax(proposed) == best


def test_one_class_in_several_contexts(start: Running) -> None:
    association = associate(start(), (CT, [IMPLICIT_LE]), (CT, [EXPLICIT_BE]), (CT, [PRIVATE_SYNTAX, EXPLICIT_LE]))
    accepted = [c.transfer_syntax for c in association.accepted_contexts]
    assert accepted == [[IMPLICIT_LE], [EXPLICIT_BE], [EXPLICIT_LE]]
    association.release()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StoreUnavailable(), 0xA700),
        (errors.OutOfSpace("/secret/path is full"), 0xA700),
        (errors.Transient(), 0xA700),
        (errors.Mismatch(), 0xA900),
        (errors.CannotUnderstand("Canary^Yellow"), 0xC000),
        (errors.MissingUID(), 0xC000),
        (errors.BudgetExceeded(), 0xC000),
        (errors.NotDicom(), 0xC000),
        (errors.StoreDamaged(), 0x0110),
        (errors.BridgeFault(ValueError("Canary^Yellow")), 0x0110),
        (MemoryError("Canary^Yellow"), 0xA700),
        (ValueError("Canary^Yellow"), 0x0110),
    ],
)
def test_statuses(
    start: Running, error: Exception, status: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    start.bridge.fail = error
    association = associate(start())
    answered, comment = store(association)
    assert answered == status
    assert 0 < len(comment) <= 64
    assert "Canary" not in comment
    assert "secret" not in comment
    start.bridge.fail = None
    assert store(association) == (0x0000, "")
    association.release()
    written = "".join(capsys.readouterr()) + caplog.text
    assert "Canary" not in written


@pytest.mark.parametrize(("error", "status", "told"), [(KeyError("Canary"), 0x0110, 1), (MemoryError(), 0xA700, 0)])
def test_a_mistake_in_reading_is_answered_when_the_data_set_is_in(
    start: Running, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, told: int
) -> None:
    def fail(_reader: HeaderReader, _piece: bytes) -> None:
        raise error

    association = associate(start())
    with monkeypatch.context() as patch:
        patch.setattr(HeaderReader, "write", fail)
        assert store(association)[0] == status
    assert store(association) == (0x0000, "")
    association.release()
    assert ["The bridge failed: KeyError" in reason for _, reason in start.bridge.rejected] == [True] * told


def test_garbage_is_answered_and_recorded(start: Running) -> None:
    association = associate(start())
    with capture_logs() as logs:
        assert send(association, b"\x08\x00\x05\x00CS\xff\xffgarbage!", "1.2.3")[0] == 0xC000
        association.release()
    (refused,) = [entry for entry in logs if entry["event"] == "instance.refused"]
    assert (refused["sop_instance"], refused["status"], refused["kind"]) == ("1.2.3", "C000", "cannot-understand")
    assert start.bridge.received == []
    ((origin, reason),) = start.bridge.rejected
    assert origin.calling_ae == "SCU"
    assert "ends within the element" in reason


def test_without_pixel_data_all_is_handed_over(start: Running) -> None:
    association = associate(start())
    ds = instance()
    header, _ = encode(ds, EXPLICIT_LE)
    assert send(association, header, ds.SOPInstanceUID) == (0x0000, "")
    association.release()
    assert start.bridge.received[0].taken == scan(header, EXPLICIT_LE, WANTED)


def test_large_pixels_are_not_kept_and_large_headers_are_refused(start: Running) -> None:
    association = associate(start(Listen(port=0, budgets=Budgets(header_bytes=1024 * 1024))))
    ds = instance()
    header, whole = encode(ds, EXPLICIT_LE, bytes(3 * 1024 * 1024))
    assert send(association, whole, ds.SOPInstanceUID) == (0x0000, "")
    assert start.bridge.received[0].taken == scan(header, EXPLICIT_LE, WANTED)
    ds.add_new(0x00091010, "OB", bytes(2 * 1024 * 1024))
    assert send(association, encode(ds, EXPLICIT_LE)[1], ds.SOPInstanceUID)[0] == 0xC000
    assert "longer than 1048576" in start.bridge.rejected[0][1]
    association.release()


def test_called_ae_title(start: Running) -> None:
    scp = start()
    association = associate(scp, called="SOMEONE")
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert answer is not None
    # PS3.8 table 9-21: rejected permanent, service user, called AE title not recognized
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 7)
    until(lambda: scp.associations == 0)
    assert start.bridge.ended == []


def test_any_called_ae_title_when_allowed(start: Running) -> None:
    association = associate(start(Listen(port=0, require_called_ae_title=False)), called="SOMEONE")
    assert association.is_established
    assert store(association) == (0, "")
    association.release()
    assert start.bridge.received[0].origin.called_ae == "SOMEONE"


def test_calling_ae_titles(start: Running) -> None:
    scp = start(Listen(port=0, calling_ae_titles=("CT1", "MR1")))
    association = associate(scp, calling="SCU")
    answer = association.acceptor.primitive
    assert answer is not None
    assert association.is_rejected
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)
    allowed = associate(scp, calling="MR1")
    assert allowed.is_established
    allowed.release()


def test_peers_outside_the_networks_are_not_talked_to(start: Running) -> None:
    network = ipaddress.ip_network("192.0.2.0/24")
    association = associate(start(Listen(port=0, networks=(network,))))
    assert not association.is_established
    assert not association.is_rejected
    network6 = ipaddress.ip_network("2001:db8::/32")
    inside = associate(start(Listen(port=0, networks=(network6, ipaddress.ip_network("127.0.0.0/8")))))
    assert inside.is_established
    inside.release()


def test_ipv6_and_mapped_addresses(start: Running) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            if os.environ.get("CI"):
                raise
            pytest.skip("left out: this machine has no IPv6")
    association = associate(start(Listen("::1", 0, networks=(ipaddress.ip_network("::1/128"),))))
    assert store(association) == (0, "")
    association.release()
    port = start(Listen("::", 0, networks=(ipaddress.ip_network("127.0.0.0/8"),))).address[1]
    with socket.create_connection(("127.0.0.1", port)) as allowed:
        allowed.sendall(b"\t\0\0\0\0\0")
        assert allowed.recv(1) == b"\x07"
    with socket.create_connection(("::1", port)) as refused:
        assert refused.recv(1) == b""
    assert start.bridge.received[0].origin.peer == "::1"


def test_mapped_addresses_count_as_ipv4() -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))
    assert is_within("::ffff:10.1.2.3", networks)
    assert is_within("2001:db8::7", networks)
    assert not is_within("::ffff:11.1.2.3", networks)


def test_maximum_associations(start: Running) -> None:
    scp = start(Listen(port=0, max_associations=2))
    held = [associate(scp), associate(scp)]
    tries = [associate(scp) for _ in range(3)]
    assert not any(one.is_established for one in tries)
    # pynetdicom now and then takes the end of the connection for the whole answer
    refused = next(one for one in tries if one.is_rejected)
    answer = refused.acceptor.primitive
    assert answer is not None
    # rejected transient, service provider (presentation), local limit exceeded
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    held.pop().release()
    until(lambda: scp.associations == 1)
    again = associate(scp)
    assert again.is_established
    for association in [*held, again]:
        association.release()


def test_association_end_is_told_once_after_an_abort(start: Running) -> None:
    scp = start()
    association = associate(scp)
    store(association)
    association.abort()
    until(lambda: scp.associations == 0)
    assert start.bridge.ended == [start.bridge.received[0].origin.association]


def test_association_end_is_told_once_when_the_connection_is_lost(start: Running) -> None:
    scp = start()
    association = associate(scp)
    store(association)
    sock = association.dul.socket
    assert sock is not None and sock.socket is not None
    sock.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock._shutdown_socket()
    until(lambda: scp.associations == 0)
    assert start.bridge.ended == [start.bridge.received[0].origin.association]


def test_a_store_that_cannot_be_told_of_the_end_does_no_harm(start: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def fail(association: str) -> None:
        told.append(association)
        raise errors.StoreUnavailable

    monkeypatch.setattr(start.bridge, "on_association_ended", fail)
    scp = start()
    associate(scp).release()
    until(lambda: told)
    until(lambda: scp.associations == 0)
    association = associate(scp)
    assert store(association) == (0, "")
    association.release()


def test_idle_association_is_ended(start: Running) -> None:
    scp = start(Listen(port=0, network_timeout_s=0.3))
    association = associate(scp)
    store(association)
    until(lambda: start.bridge.ended)
    until(lambda: scp.associations == 0)
    assert len(start.bridge.ended) == 1


def test_silent_connections_do_not_stay(start: Running) -> None:
    scp = start(Listen(port=0, acse_timeout_s=0.3))
    with socket.create_connection(scp.address) as silent:
        until(lambda: scp.associations == 1)
        silent.settimeout(15)
        assert silent.recv(1) == b""
    until(lambda: scp.associations == 0)
    with socket.create_connection(scp.address):
        pass
    until(lambda: scp.associations == 0)
    assert start.bridge.ended == []


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x01\x00\x00\x00\x00\x04abcd",
        b"\x04\x00\x00\x00\x00\x02ab",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_association_is_cut_off(start: Running, pdu: bytes) -> None:
    scp = start()
    with socket.create_connection(scp.address) as stranger:
        stranger.settimeout(15)
        stranger.sendall(pdu)
        rest = b""
        try:
            while more := stranger.recv(4096):
                rest += more
        except ConnectionResetError:
            pass
        assert rest[:1] in (b"", b"\x07")
    until(lambda: scp.associations == 0)
    association = associate(scp)
    assert association.is_established
    association.release()


def test_a_pdu_must_come_within_its_time(start: Running) -> None:
    scp = start(Listen(port=0, dimse_timeout_s=0.3))
    with socket.create_connection(scp.address) as dribbler:
        dribbler.settimeout(15)
        dribbler.sendall(b"\x01\x00\x00\x00\x01\x00\x00")
        with contextlib.suppress(ConnectionResetError):
            assert dribbler.recv(1) in (b"", b"\x07")
    until(lambda: scp.associations == 0)


def test_parallel_associations(start: Running) -> None:
    scp = start()
    statuses: list[int] = []

    def sender() -> None:
        association = associate(scp)
        for _ in range(5):
            statuses.append(store(association)[0])
        association.release()

    threads = [threading.Thread(target=sender) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 30
    until(lambda: len(start.bridge.ended) == 6)
    names = [received.origin.association for received in start.bridge.received]
    assert sorted(names) == sorted(name for name in start.bridge.ended for _ in range(5))


def test_stop_lets_the_present_instance_finish(start: Running) -> None:
    scp = start()
    start.bridge.hold = threading.Event()
    answers: list[tuple[int, str]] = []
    busy = associate(scp)
    idle = associate(scp)
    sender = threading.Thread(target=lambda: answers.append(store(busy)))
    sender.start()
    assert start.bridge.entered.acquire(timeout=10)
    stopper = threading.Thread(target=scp.stop)
    stopper.start()
    until(lambda: is_refused(scp.address))
    start.bridge.hold.set()
    sender.join(15)
    stopper.join(15)
    assert answers == [(0x0000, "")]
    assert len(start.bridge.received) == 1
    assert scp.associations == 0
    until(lambda: idle.is_aborted and busy.is_aborted)
    assert len(start.bridge.ended) == 2
    assert [thread for thread in threading.enumerate() if thread.name == "storage SCP"] == []


def test_stop_under_load_acknowledges_nothing_that_was_not_taken(start: Running) -> None:
    scp = start()
    acknowledged: list[str] = []

    def sender() -> None:
        association = associate(scp)
        while association.is_established:
            ds = instance()
            try:
                status, _ = store(association, ds)
            except AssertionError:
                return
            if status == 0:
                acknowledged.append(ds.SOPInstanceUID)

    threads = [threading.Thread(target=sender) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) >= 20)
    scp.stop()
    assert scp.associations == 0
    for thread in threads:
        thread.join(30)
    assert set(acknowledged) <= {received.sop_instance for received in start.bridge.received}
    assert len(start.bridge.ended) == 4
    other = StorageSCP(
        Listen(port=scp.address[1]),
        on_received=start.bridge.on_received,
        on_created=start.bridge.on_created,
        on_set=start.bridge.on_set,
        on_rejected=start.bridge.on_rejected,
        on_association_ended=start.bridge.on_association_ended,
    )
    other.start()
    other.stop()


def test_stop_with_connections_that_never_associate(start: Running) -> None:
    scp = start()
    with socket.create_connection(scp.address), socket.create_connection(scp.address) as half:
        half.sendall(b"\x01\x00\x00\x00\x01\x00\x00")
        until(lambda: scp.associations == 2)
        scp.stop(1.0)
        assert scp.associations == 0


@pytest.mark.parametrize(
    ("listen", "kind", "expected"),
    [
        (Listen("192.0.2.1", 0), errors.NotReady, "192.0.2.1:0: this machine has no such address"),
        (Listen("no-such-host.invalid", 0), errors.NotReady, "cannot be resolved"),
        (Listen(port=70000), errors.ConfigError, "from 0 to 65535"),
        (Listen(port=0, ae_title="LONGER THAN SIXTEEN"), errors.ConfigError, "AE title"),
    ],
)
def test_what_cannot_be_listened_on(
    start: Running, listen: Listen, kind: type[errors.BridgeError], expected: str
) -> None:
    with pytest.raises(kind, match=expected):
        start(listen)


def test_port_in_use(start: Running) -> None:
    port = start().address[1]
    with pytest.raises(errors.NotReady, match=f"127.0.0.1:{port}: another program uses the port"):
        start(Listen(port=port))


@pytest.mark.needs("echoscu")
def test_dcmtk_echoscu(start: Running) -> None:
    host, port = start().address
    done = subprocess.run(["echoscu", "-aec", "DICOM2FHIR", host, str(port)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("storescu")
def test_dcmtk_storescu(start: Running, tmp_path: Path) -> None:
    host, port = start().address
    files = [dicom_file(tmp_path / f"{number}.dcm", instance()) for number in range(3)]
    command = ["storescu", "-xv", "-aec", "DICOM2FHIR", host, str(port), *map(str, files)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(start.bridge.received) == 3
    until(lambda: len(start.bridge.ended) == 1)


@pytest.mark.needs("dcmsend")
def test_dcmtk_dcmsend(start: Running, tmp_path: Path) -> None:
    host, port = start().address
    for number, syntax in enumerate([IMPLICIT_LE, EXPLICIT_LE, DEFLATED]):
        dicom_file(tmp_path / f"{number}.dcm", instance(), syntax)
    done = subprocess.run(
        ["dcmsend", "-aec", "DICOM2FHIR", "--scan-directories", host, str(port), str(tmp_path)],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert {received.sop_class for received in start.bridge.received} == {CT}
    assert len(start.bridge.received) == 3
