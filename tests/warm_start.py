"""Daemons that start quickly: each is forked by a process that has imported the program already.

Importing takes most of the processor time of a short test with a daemon of its own. What a daemon does is the same; how
it starts without help is what the bars and the benches test.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
_PROGRAM = ("cli.daemon", "daemon", "web.app", "web.connection")
_MOST_BYTES = 1 << 20
_EXIT_WITHIN_S = 10.0


class WarmProcess:
    """A process as of ``subprocess.Popen``, whose parent is the helper.

    Parameters
    ----------
    status
        Gives its process id first and, when it has ended, its exit status.
    """

    def __init__(self, arguments: Sequence[str], status: socket.socket) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._status = status
        self.pid = int(self._next())

    def _next(self) -> bytes:
        said = self._status.recv(64)
        if not said:
            raise RuntimeError("the helper has ended")
        return said

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends; its exit status, negative after a signal."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = int(self._next())
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class WarmStart:
    """The helper; it starts with the first process that is asked for."""

    def __init__(self) -> None:
        self._helper: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> WarmProcess:
        """Run ``dicom2fhir ARGUMENTS``; what it says goes to a file."""
        if self._requests is None:
            self._requests = self._begin(environment)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps({"arguments": [*arguments], "environment": {**environment}}).encode()
            socket.send_fds(self._requests, [request], [output.fileno(), theirs.fileno()])
        return WarmProcess(arguments, ours)

    def _begin(self, environment: Mapping[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._helper = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
        return ours

    def close(self) -> None:
        """End the helper; processes that are left go on."""
        if self._requests is not None and self._helper is not None:
            self._requests.close()
            self._helper.wait(_EXIT_WITHIN_S)


class _Helper:
    """The process that forks."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, socket.socket] = {}
        self._ended, wakeup = socket.socketpair()
        for one in (self._ended, wakeup):
            one.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> bool:
        """Fork for each request; returns in each child with True, and with False when there are no more requests."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._ended in ready:
                    self._ended.recv(4096)
                    self._tell_who_ended()
                if self._requests in ready:
                    request, fds, _, _ = socket.recv_fds(self._requests, _MOST_BYTES, 2)
                    if not request:
                        return False
                    if self._fork(json.loads(request), *fds):
                        return True

    def _fork(self, request: dict[str, Any], output: int, status: int) -> bool:
        if pid := os.fork():
            os.close(output)
            self._children[pid] = socket.socket(fileno=status)
            self._children[pid].send(b"%d" % pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._requests, self._ended, self._wakeup, *self._children.values()):
            one.close()
        os.close(status)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["dicom2fhir", *request["arguments"]]
        return True

    def _tell_who_ended(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._children.pop(pid) as told, suppress(OSError):  # nobody may wait any more
                told.send(b"%d" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    for name in _PROGRAM:
        import_module(f"dicom2fhir.{name}")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if _Helper(socket.socket(fileno=int(sys.argv[1]))).serve():
        from dicom2fhir.__main__ import main

        main()
