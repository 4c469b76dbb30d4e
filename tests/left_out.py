"""Tests that need a program which is not installed are left out, and the end of the run says so in one line each.

``@pytest.mark.needs("dcmsend")`` names the programs. With ``CI=true`` nothing may be left out: a missing program fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import guides

DEBIAN_PACKAGES = {
    "dcmdump": "dcmtk",
    "dcmodify": "dcmtk",
    "dcmsend": "dcmtk",
    "echoscu": "dcmtk",
    "findscu": "dcmtk",
    "initdb": "postgresql",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "Orthanc": "orthanc",
    "java": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
    "cc": "gcc libc6-dev",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "setpriv": "util-linux",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
}
"""Program -> the Debian package that has it; a test can need no others but :data:`PERMISSIONS`."""

PERMISSIONS = {
    "ptrace": "processes may not be traced; allow it (root, or sysctl kernel.yama.ptrace_scope=0; Docker: SYS_PTRACE)",
    "mount": "file systems may not be mounted; run the tests as root (Docker: --privileged)",
    "containers": "systemd-nspawn can start no container here; run the tests as root (Docker: --privileged)",
}
"""What the machine may forbid -> how to get it."""

MAY_BE_MISSING = {"containers"}
"""Also in continuous integration, where the machine may itself be a container."""

CONTAINER = ("--quiet", "--directory=/", "--volatile=yes", "--register=no", "--keep-unit")
"""Options of systemd-nspawn for a container that has this machine's ``/usr`` and leaves nothing behind."""


@dataclass(frozen=True, eq=False)
class Server:
    """A program of ``tests/servers``, which is built from the packages of a registry, or what else takes long.

    Attributes
    ----------
    key
        Its folder; ``@pytest.mark.needs(key)`` says that a test needs it.
    name
        Stands in the report where it could not be built.
    size
        What the first build downloads; empty if nothing is built.
    programs
        What builds and runs it.
    fixtures
        Tests that use one of these need it, too.
    """

    key: str
    name: str
    size: str
    programs: tuple[str, ...]
    fixtures: Set[str]

    @property
    def run(self) -> Path:
        """Its command."""
        return _SERVERS / self.key / "run.sh"

    @property
    def how(self) -> str:
        """What has to be there before it can run."""
        missing = [why_missing(program) for program in self.programs if find_program(program) is None]
        first = f"its first run downloads {self.size}" if self.size else "nothing is downloaded for it"
        return f"which need {self.name}: " + ("; ".join(missing) or first)


_SERVERS = Path(__file__).parent / "servers"
_JAVA = ("java", "mvn")
SERVERS = (
    Server("hapi", "the test FHIR server", "280 MB", _JAVA, {"hapi", "hapi_r4", "hapi_r5"}),
    Server("medplum", "the second test FHIR server", "20 MB", ("node", "npm"), {"medplum", "medplum_process"}),
    Server("validator", "the FHIR validator", "173 MB", _JAVA, {"validator"}),
    Server("keycloak", "the test authorization server", "147 MB", _JAVA, {"keycloak"}),
    Server("systemd", "a systemd in a container", "", ("systemd-nspawn", "containers"), frozenset()),
    Server("postgres", "a PostgreSQL server", "", ("initdb", "setpriv"), frozenset()),
    Server("dask", "a Dask cluster", "", (), {"dask_workers"}),
    Server("s3", "an object store", "", (), {"s3_process"}),
    Server("bench", "the processes of a benchmark", "", (), frozenset()),
    Server("browser", "axe-core in a browser", "1 MB", ("chromium", "chromedriver", "npm"), {"chromium"}),
)
_NODE = _SERVERS / "medplum" / "get_node.sh"
_MISSING = pytest.StashKey[str]()
_SERVER_TIMEOUT_S = 300
"""Of a test that uses one: the first has to wait for its start."""
_BUILD_TIMEOUT_S = 1800


def search_path() -> str:
    """PATH with the folders that Debian hides from ordinary users, and without that of the virtual environment.

    pynetdicom installs programs named like DCMTK's (``storescu``, ``echoscu``).
    """
    environment = str(Path(sys.prefix) / "bin")
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*(folder for folder in folders if folder != environment), "/usr/sbin", "/sbin"])


def in_ci() -> bool:
    """Whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in ("1", "true")


@cache
def find_program(name: str) -> str | None:
    """Path of an installed program, or the name of a permission; None when it is missing."""
    if name == "java":
        return _find_java()
    if name == "node":
        return _find_node()
    if name in PERMISSIONS:
        may = {"ptrace": _may_trace, "mount": _may_mount, "containers": _may_start_containers}
        return name if may[name]() else None
    return shutil.which(name) or (_find_initdb() if name == "initdb" else None)


def _find_initdb() -> str | None:
    """The newest; Debian has the programs of a PostgreSQL server in folders of their own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else None


def _may_trace() -> bool:
    """Whether strace can attach to a process that is not its child."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "60"]) as traced:
        command = ["strace", "-o", os.devnull, "-p", str(traced.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            traced.kill()
    return said.endswith("attached\n")


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if made.returncode == 0:
            subprocess.run(["umount", folder], check=True)
    return made.returncode == 0


def _may_start_containers() -> bool:
    if shutil.which("systemd-nspawn") is None or os.geteuid() != 0:
        return False
    command = ["systemd-nspawn", *CONTAINER, f"--machine=trial-{os.getpid()}", "true"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _find_java() -> str | None:
    path = shutil.which("java")
    if path is None or shutil.which("javac") is None:
        return None
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return path if version and int(version[1]) >= 17 else None


def _find_node() -> str | None:
    path = shutil.which("node")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)", said)
    return path if version and int(version[1]) >= 20 else None


def why_missing(what: str) -> str:
    """One sentence about a missing program and how to get it."""
    for server in SERVERS:
        if what == server.name:
            return f"{what} could not be built; its message stands above; try again with: {server.run} build"
    if what in ("node", "npm"):
        return f'{what} is not installed, or is older than Node 20; get it with: export PATH="$({_NODE}):$PATH"'
    if what in PERMISSIONS:
        return PERMISSIONS[what]
    return f"{what} is not installed; get it with: apt-get install {DEBIAN_PACKAGES[what]}"


def build(server: Server) -> str:
    """Build a server where it is not built yet; what went wrong, or an empty text."""
    try:
        done = subprocess.run(
            [server.run, "build"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_BUILD_TIMEOUT_S} s"
    return done.stdout[-4000:] or f"exit status {done.returncode}" if done.returncode else ""


class LeftOut:
    """The pytest plugin; :mod:`tests.conftest` registers it.

    With pytest-xdist each worker finds the same, and the process that reports takes it from one of them.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._lines: list[str] = []
        self._troubles: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take the tests that this run is for, and find what each needs and the machine has not."""
        left = self._leave(items)
        self._lines += [f"left to make test-all: {_tests(left[server])}, {server.how}" for server in left]
        for item in items:
            used = _used(item)
            if used and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_SERVER_TIMEOUT_S))
            programs = _needs(item) - {server.key for server in used}
            for name in sorted(programs.union(*(server.programs for server in used))):
                if name not in DEBIAN_PACKAGES.keys() | PERMISSIONS.keys():
                    raise pytest.UsageError(f"{item.nodeid} needs {name!r}, unknown to tests/left_out.py")
                if find_program(name) is None:
                    item.stash.setdefault(_MISSING, name)

    def _leave(self, items: list[pytest.Item]) -> Counter[Server]:
        """Take out what is for another run; how many tests wait for which server there."""
        taken: list[pytest.Item] = []
        left: Counter[Server] = Counter()
        for item in items:
            server = next(iter(_used(item)), None)
            if self._servers == "all" or (self._servers == "only") == (server is not None):
                taken.append(item)
            elif server is not None:
                left[server] += 1
        items[:] = taken
        return left

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Build servers before the first test, so that no test's time goes into downloads."""
        if session.config.option.collectonly:
            return
        for server in SERVERS:
            wanting = [item for item in session.items if server in _used(item) and _MISSING not in item.stash]
            if server.size and wanting and (trouble := build(server)):
                self._troubles[server.name] = trouble
                for item in wanting:
                    item.stash[_MISSING] = server.name
        if not guides.are_there() and any("validator" in getattr(item, "fixturenames", ()) for item in session.items):
            self._lines.append(guides.NOT_FOUND)
        counts = Counter(item.stash[_MISSING] for item in session.items if _MISSING in item.stash)
        self._lines += [f"left out {_tests(count)}: {why_missing(what)}" for what, count in sorted(counts.items())]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave the test out, or fail it where that is not allowed."""
        missing = item.stash.get(_MISSING, None)
        if missing is None:
            return
        if in_ci() and missing not in MAY_BE_MISSING:
            pytest.fail(why_missing(missing), pytrace=False)
        pytest.skip(why_missing(missing))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what was found to the process that reports."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left out"] = (self._lines, self._troubles)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take it from a worker."""
        self._lines, self._troubles = getattr(node, "workeroutput", {}).get("left out", (self._lines, self._troubles))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each missing program."""
        for name, trouble in self._troubles.items():
            terminalreporter.section(f"building {name}")
            terminalreporter.write_line(trouble)
        for line in self._lines:
            terminalreporter.write_line(line)


def _tests(count: int) -> str:
    return f"{count} test{'s' if count > 1 else ''}"


def _needs(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("needs") for name in mark.args}


def _used(item: pytest.Item) -> list[Server]:
    """The servers that a test needs."""
    needs, fixtures = _needs(item), getattr(item, "fixturenames", ())
    return [server for server in SERVERS if server.key in needs or not server.fixtures.isdisjoint(fixtures)]
