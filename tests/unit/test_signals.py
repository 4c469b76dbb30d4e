"""Signals reach a loop at once, whatever the main thread is about to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from dicom2fhir.system.signals import SignalInbox

LONG_S = 60.0
_PROGRAM = """
import os, signal, sys, threading
from dicom2fhir.system.signals import SignalInbox

def send():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)

inbox = SignalInbox()
with inbox.receives({signal.SIGTERM, signal.SIGHUP}):
    threading.Thread(target=send).start()
    received = set()
    while signal.SIGTERM not in received:
        received |= inbox.wait(0.0001)
print(sorted(each.name for each in received))
"""


def test_a_signal_ends_the_wait() -> None:
    inbox = SignalInbox()
    with inbox.receives({signal.SIGUSR1, signal.SIGUSR2}):
        assert inbox.wait(0.0) == set()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert inbox.wait(LONG_S) == {signal.SIGUSR1}
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert inbox.wait(LONG_S) == {signal.SIGUSR1, signal.SIGUSR2}
        assert inbox.wait(0.0) == set()


def test_another_thread_ends_the_wait() -> None:
    inbox = SignalInbox()
    with inbox.receives({signal.SIGUSR1}):
        began = time.monotonic()
        waking = threading.Thread(target=inbox.wake)
        waking.start()
        assert inbox.wait(LONG_S) == set()
        waking.join()
        assert time.monotonic() - began < LONG_S
        for _ in range(100_000):  # more than it holds
            inbox.wake()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert inbox.wait(0.0) == {signal.SIGUSR1}
        assert inbox.wait(0.0) == set()
    inbox.wake()


def test_the_former_handlers_come_back() -> None:
    former = signal.getsignal(signal.SIGUSR1)
    with SignalInbox().receives({signal.SIGUSR1}):
        assert signal.getsignal(signal.SIGUSR1) is not former
    assert signal.getsignal(signal.SIGUSR1) is former
    assert signal.set_wakeup_fd(-1) == -1


def test_many_signals_at_any_moment() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, timeout=LONG_S)
    assert done.stdout == b"['SIGHUP', 'SIGTERM']\n"
