"""Notify systemd of the state of the daemon (sd_notify(3)); does nothing if systemd did not start it."""

from __future__ import annotations

import os
import socket
import time


def notify(*states: str) -> bool:
    """Send states such as ``"READY=1"``, ``"WATCHDOG=1"``, ``"STOPPING=1"`` or ``"STATUS=..."``.

    Returns
    -------
    bool
        Whether they were sent. A failure does not stop the daemon.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # Linux's abstract namespace, unix(7)
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True


def reloading() -> None:
    """Report that the configuration is being reloaded, until the next ``READY=1`` (sd_notify(3))."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_s() -> float | None:
    """The time within which systemd expects ``WATCHDOG=1`` (sd_watchdog_enabled(3)); None if it expects none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 or None
