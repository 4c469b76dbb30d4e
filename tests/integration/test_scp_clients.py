"""The receiver with TLS, and as others see it: DCMTK and Orthanc."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from dicom2fhir import errors
from dicom2fhir.model import Received
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.receive.dimse.tls import Tls
from testdata.make_dicom import ct_files
from tests.pki import Pki

WAIT_S = 60.0
AE_TITLE = "DICOM2FHIR"


class Bridge:
    """A receiver that keeps what came."""

    def __init__(self, listen: Listen) -> None:
        self.received: list[Received] = []
        self.created: list[Received] = []
        self.updated: list[Received] = []
        self.rejected: list[str] = []
        self.ended: list[str] = []
        self.scp = StorageSCP(
            listen,
            on_received=lambda received, _reader: self.received.append(received),
            on_created=self.created.append,
            on_set=self.updated.append,
            on_rejected=lambda _origin, error: self.rejected.append(str(error)),
            on_association_ended=self.ended.append,
        )
        self.scp.start()
        self.host, self.port = self.scp.address


@pytest.fixture
def bridge() -> Iterator[Callable[[Listen], Bridge]]:
    running: list[Bridge] = []

    def start(listen: Listen) -> Bridge:
        running.append(Bridge(listen))
        return running[-1]

    yield start
    for each in running:
        each.scp.stop(5.0)


Start = Callable[[Listen], Bridge]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


# Several associations


@pytest.mark.needs("dcmsend")
def test_dcmsend_with_several_associations(bridge: Start, tmp_path: Path) -> None:
    files = ct_files(tmp_path, 60, studies=3)
    receiver = bridge(Listen(port=0))
    where = [receiver.host, str(receiver.port)]
    senders = [
        subprocess.Popen(
            ["dcmsend", "-aec", AE_TITLE, "--multi-associations", "+sd", "+r", *where, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    for sender in senders:
        said, _ = sender.communicate(timeout=WAIT_S)
        assert sender.returncode == 0, said
    assert len(receiver.received) == 4 * len(files)
    assert len({received.sop_instance for received in receiver.received}) == len(files)
    until(lambda: len(receiver.ended) >= 4)


# TLS


def tls_only(pki: Pki) -> Listen:
    return Listen(port=0, tls=Tls(pki.receiver_crt, pki.receiver_key))


def mutual(pki: Pki) -> Listen:
    return Listen(port=0, tls=Tls(pki.receiver_crt, pki.receiver_key, pki.ca_crt))


def client(pki: Pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki.ca_crt))


def speaks(receiver: Bridge, context: ssl.SSLContext) -> str:
    """The version of TLS that a byte of an answer was had with."""
    with (
        socket.create_connection((receiver.host, receiver.port), timeout=WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"\x09\0\0\0\0\0")
        assert connection.recv(1) == b"\x07"
        return connection.version() or ""


@pytest.mark.needs("openssl")
def test_half_handshakes_and_plain_peers_hold_nobody_up(bridge: Start, pki: Pki) -> None:
    receiver = bridge(tls_only(pki))
    halves = [socket.create_connection((receiver.host, receiver.port)) for _ in range(20)]
    for number, half in enumerate(halves):
        half.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
    for _ in range(5):
        assert speaks(receiver, client(pki))
    with socket.create_connection((receiver.host, receiver.port), timeout=WAIT_S) as plain:
        plain.sendall(b"\x01\0\0\0\0\x44" + bytes(68))
        with contextlib.suppress(ConnectionResetError):
            plain.recv(100)
    for half in halves:
        half.close()
    until(lambda: not receiver.scp.associations)


@pytest.mark.needs("openssl")
def test_a_handshake_has_a_deadline(bridge: Start, pki: Pki) -> None:
    listen = Listen(port=0, acse_timeout_s=0.3, tls=Tls(pki.receiver_crt, pki.receiver_key))
    receiver = bridge(listen)
    silent = socket.create_connection((receiver.host, receiver.port), timeout=WAIT_S)
    with silent, contextlib.suppress(ConnectionResetError):
        while silent.recv(100):  # perhaps an alert of TLS
            pass


@pytest.mark.needs("openssl", "echoscu", "storescu")
def test_dcmtk_with_tls(bridge: Start, pki: Pki, tmp_path: Path) -> None:
    receiver = bridge(mutual(pki))
    files = ct_files(tmp_path, 5)
    tls = ["+tls", str(pki.sender_key), str(pki.sender_crt), "+cf", str(pki.ca_crt)]
    where = ["-aec", AE_TITLE, receiver.host, str(receiver.port)]
    echoed = run("echoscu", *tls, *where)
    assert echoed.returncode == 0, echoed.stderr
    stored = run("storescu", *tls, *where, *map(str, files))
    assert stored.returncode == 0, stored.stderr
    assert len(receiver.received) == 5
    assert run("echoscu", *where).returncode != 0
    assert run("echoscu", "+tla", "+cf", str(pki.ca_crt), *where).returncode != 0


@pytest.mark.needs("openssl")
def test_files_for_tls_that_do_not_do(bridge: Start, pki: Pki, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", str(pki.receiver_key), "-out", "locked.key"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with pytest.raises(errors.NotReady, match=r"absent\.crt"):
        bridge(Listen(port=0, tls=Tls(tmp_path / "absent.crt")))
    for tls, expected in [
        (Tls(pki.receiver_crt, pki.sender_key), "belong together"),
        (Tls(pki.receiver_crt), "belong together"),
        (Tls(pki.receiver_crt, tmp_path / "locked.key"), "without a passphrase"),
        (Tls(pki.receiver_crt, pki.receiver_key, pki.receiver_key), "tls_client_ca"),
    ]:
        with pytest.raises(errors.ConfigError, match=expected):
            bridge(Listen(port=0, tls=tls))


# Orthanc


class Orthanc:
    """An Orthanc whose files are in ``folder``; ``options`` over those of a test."""

    def __init__(self, folder: Path, port: int, options: dict[str, Any]) -> None:
        storage = str(folder / "storage")
        config = {
            "Name": "sender",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "Plugins": [],
            **options,
            "HttpPort": port,
        }
        folder.mkdir()
        (folder / "orthanc.json").write_text(json.dumps(config))
        self._base = f"http://127.0.0.1:{port}"
        self._folder = folder

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as said:
            command = ["Orthanc", str(self._folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            until(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/system", timeout=1):
                return True
        except OSError:
            return False

    def post(self, path: str, body: bytes) -> dict[str, str]:
        with urllib.request.urlopen(urllib.request.Request(self._base + path, body), timeout=WAIT_S) as answer:
            found: dict[str, str] = json.load(answer)
            return found


@pytest.mark.needs("Orthanc")
def test_orthanc_as_a_sender(bridge: Start, tmp_path: Path, free_port: int) -> None:
    receiver = bridge(Listen(port=0))
    modalities = {"bridge": [AE_TITLE, receiver.host, receiver.port]}
    files = ct_files(tmp_path / "files", 12)
    with Orthanc(tmp_path / "orthanc", free_port, {"DicomModalities": modalities}) as orthanc:
        series = {orthanc.post("/instances", file.read_bytes())["ParentSeries"] for file in files}
        for each in series:
            orthanc.post("/modalities/bridge/store", each.encode())
        orthanc.post("/modalities/bridge/echo", b"{}")
    assert len(receiver.received) == 12
    assert receiver.rejected == []


@pytest.mark.needs("Orthanc")
def test_orthanc_routes_with_the_files_of_compose(bridge: Start, tmp_path: Path, free_port: int) -> None:
    containers = Path(__file__).parents[2] / "containers"
    receiver = bridge(Listen(port=0, calling_ae_titles=("ORTHANC",)))
    options = json.loads((containers / "orthanc.json").read_text())
    (title, _, _) = options["DicomModalities"]["bridge"]
    assert title == AE_TITLE
    options |= {
        "DicomModalities": {"bridge": [title, receiver.host, receiver.port]},
        "LuaScripts": [str(containers / "route.lua")],
        "DicomServerEnabled": False,
    }
    files = ct_files(tmp_path / "files", 3)
    with Orthanc(tmp_path / "orthanc", free_port, options) as orthanc:
        for file in files:
            orthanc.post("/instances", file.read_bytes())
        until(lambda: len(receiver.received) == 3)
