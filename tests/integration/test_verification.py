"""``dicom2fhir echo`` against real receivers, configured as an operator may configure them."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom2fhir import config
from dicom2fhir.receive.dimse.scp import StorageSCP
from dicom2fhir.wiring import parts
from tests.command_line import run_here
from tests.pki import Pki
from tests.readme import steps

Serve = Callable[[str], tuple[Path, int]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(TOML)`` starts the receiver of a configuration on a free port, and gives the file and the port."""
    running: list[StorageSCP] = []

    def start(text: str) -> tuple[Path, int]:
        file = tmp_path / "config.toml"
        file.write_text(text)
        listen = parts.listen(config.load(file, {"receiver": {"port": 0}}, environ={}))
        scp = StorageSCP(
            listen,
            on_received=lambda *_: None,
            on_created=lambda _: None,
            on_set=lambda _: None,
            on_rejected=lambda *_: None,
            on_association_ended=lambda _: None,
        )
        scp.start()
        running.append(scp)
        return file, scp.address[1]

    yield start
    for scp in running:
        scp.stop(10)


def asked(file: Path, port: int, *options: str | Path) -> tuple[int, str]:
    done = run_here("echo", "--config", file, "--port", str(port), *options)
    return done.status, done.stdout.decode() + done.stderr


def test_the_configuration_of_the_readme(serve: Serve) -> None:
    text = "\n".join(line for line in steps()[2] if not line.startswith("install "))
    assert 'host = "0.0.0.0"' in text
    status, said = asked(*serve(text))
    assert (status, re.sub(r"\d+", "N", said)) == (0, "DICOMNFHIR at N.N.N.N:N responded in N ms\n")


@pytest.mark.parametrize(
    "receiver",
    [
        "",
        'host = "0.0.0.0"\nopen = true',
        'host = "::"\nopen = true',
        'host = "127.0.0.1"\nae_title = "OWN"',
        'calling_ae_titles = ["CT 1", "CT2"]',
        'host = "0.0.0.0"\nnetworks = ["127.0.0.0/8"]',
        'host = "::"\nnetworks = ["::1"]',
    ],
)
def test_a_receiver_is_asked_as_its_configuration_allows(serve: Serve, receiver: str) -> None:
    status, said = asked(*serve(f"[receiver]\n{receiver}\n"))
    assert status == 0, said


def test_the_address_that_the_networks_allow_is_asked(serve: Serve) -> None:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but its own loopback")
    status, said = asked(*serve(f'[receiver]\nhost = "0.0.0.0"\nnetworks = ["{own}"]\n'))
    assert (status, f"at {own}:" in said) == (0, True)


def own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = str(asking.getsockname()[0])
    return None if ipaddress.ip_address(found).is_loopback else found


@pytest.mark.parametrize(
    ("receiver", "options", "words"),
    [
        ('calling_ae_titles = ["CT1"]', ["--calling-ae", "X"], "calling AE title X is not accepted"),
        ("", ["--called-ae", "X"], "called AE title X is not recognized"),
        ('host = "0.0.0.0"\nnetworks = ["192.0.2.0/24"]', [], "check that this machine is in receiver.networks"),
        ("", ["--tls"], "it does not use TLS on this port"),
        ("", ["--host", "no-such-host.invalid"], "its name cannot be resolved"),
    ],
)
def test_a_refusal_says_what_to_do(serve: Serve, receiver: str, options: list[str], words: str) -> None:
    status, said = asked(*serve(f"[receiver]\n{receiver}\n"), *options)
    assert status == 69
    assert words in said
    assert "Traceback" not in said


@pytest.mark.needs("openssl")
def test_tls(serve: Serve, pki: Pki) -> None:
    text = f'[receiver]\ntls_certificate = "{pki.receiver_crt}"\ntls_key = "{pki.receiver_key}"\n'
    file, port = serve(text)
    assert asked(file, port)[0] == 0
    assert asked(file, port, "--ca-file", pki.ca_crt)[0] == 0
    wrong: list[tuple[list[str | Path], str]] = [
        (["--no-tls"], "whether TLS is required (--tls)"),
        (["--ca-file", pki.stranger_crt], "an authority that this machine does not trust"),
    ]
    for options, words in wrong:
        status, said = asked(file, port, *options)
        assert (status, words in said) == (69, True), said


@pytest.mark.needs("openssl")
def test_tls_with_certificates_of_both(serve: Serve, pki: Pki) -> None:
    text = f'[receiver]\ntls_certificate = "{pki.receiver_crt}"\ntls_key = "{pki.receiver_key}"\n'
    file, port = serve(f'{text}tls_client_ca = "{pki.ca_crt}"\n')
    assert asked(file, port)[0] == 0
    sender: list[str | Path] = ["--tls-certificate", pki.sender_crt, "--tls-key", pki.sender_key]
    assert asked(file, port, *sender)[0] == 0
    stranger: list[str | Path] = ["--tls-certificate", pki.stranger_crt, "--tls-key", pki.stranger_key]
    status, said = asked(file, port, *stranger)
    assert status == 69
    assert "client certificate" in said or "closed the connection" in said
    status, said = asked(file, port, "--tls-certificate", pki.sender_crt, "--tls-key", pki.stranger_key)
    assert (status, "not matching PEM files" in said) == (69, True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no DICOM on this port"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no DICOM on this port"),
        (b"", "closed the connection without a response"),
        (b"\x03\0\0\0\0\x04\0\x02\x03\x02", "its limit of associations is reached"),
        (b"\x03\0\0\0\0\x04\0\x01\x01\x01", "source 1, reason 1"),
        (b"\x07\0\0\0\0\x04\0\0\0\0", "did not respond to the association request"),
        (b"\x02\0\0\0\0\0" + b"\x04\0\0\0\0\x02\0\0", "C-ECHO failed; see its log"),
        (b"\x02\0\0\0\0\0" + b"\x04\0\0\0\0\x0c\0\0\0\x08\x01\x03garbag", "C-ECHO failed; see its log"),
    ],
)
def test_whatever_answers_is_no_traceback(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def play() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        peer = threading.Thread(target=play, daemon=True)
        peer.start()
        done = run_here("echo", "--host", "127.0.0.1", "--port", str(listener.getsockname()[1]))
        peer.join(10)
    assert (done.status, "Traceback" in done.stderr) == (69, False)
    assert words in done.stderr
