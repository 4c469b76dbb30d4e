from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import pytest

from dicom2fhir.system.systemd import notify, watchdog_s


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_as_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert notify("READY=1", "STATUS=listening")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=listening"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/does/not/exist"])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_not_started_by_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert not notify("READY=1")
    assert watchdog_s() is None


@pytest.mark.parametrize(
    ("microseconds", "pid", "expected"),
    [
        ("60000000", None, 60.0),
        ("1500000", "4711", 1.5),
        ("60000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_s() == expected
