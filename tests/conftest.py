"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom.data.data_manager import DATA_ROOT
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import DimseServiceType

from tests.command_line import logging_kept
from tests.examples import load_profile
from tests.left_out import LeftOut, in_ci, search_path
from tests.servers.outage_proxy import OutageProxy
from tests.servers.process import ServerProcess
from tests.servers.shared import ServersOfAnother, SharedServers
from tests.servers.validator.validator import Validator
from tests.workers import Workers

_THREADS_END_WITHIN_S = 5.0
_COLLECT_EVERY = 100_000
"""As in the program itself (``dicom2fhir/__main__.py``)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the bars, ``tests/acceptance/test_bar_*.py``, and that of ``make test``."""
    parser.addoption(
        "--servers",
        choices=("all", "none", "only"),
        default="all",
        help="which tests: all, those that need no server of tests/servers, or those that need one",
    )
    parser.addoption("--screenshots", help="where the tests of the web page keep pictures for the documentation")
    bars = parser.getgroup("bars")
    bars.addoption(
        "--seed", type=int, help="what chance decides in a bar; default: 1, and another each time with --soak"
    )
    bars.addoption("--soak", action="store_true", help="the long form of the bars")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for each core at the desk, because most tests wait for a daemon, a socket or a disk.

    Two beside servers, which work themselves, and in CI, where a test that ran out of time would refuse a commit.
    """
    return (3 if config.option.servers == "none" and not in_ci() else 2) * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    """Tests whose programs are missing are left out and counted; programs and signals are those of the system."""
    os.environ["PATH"] = search_path()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
    load_profile(config.option.hypothesis_profile)
    config.pluginmanager.register(LeftOut(config.option.servers))
    config.pluginmanager.register(Workers(config), "workers")
    gc.set_threshold(_COLLECT_EVERY)
    if config.option.seed is None:
        config.option.seed = secrets.randbelow(10**6) if config.option.soak else 1


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay until the end; no search for garbage needs to look at them."""
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> str:
    """How to repeat what chance decided."""
    return f"bars: --seed {config.option.seed}{' --soak' if config.option.soak else ''}"


@pytest.fixture(autouse=True, scope="session")
def responses_reach_who_waits_for_them() -> Iterator[None]:
    """pynetdicom's SCU loses a response now and then: its reactor takes it before the method that waits for it."""
    serve = Association._serve_request

    def give_back(self: Association, message: DimseServiceType, context_id: int) -> None:
        if self.is_requestor:
            self.dimse.msg_queue.put((context_id, message))
        else:
            serve(self, message, context_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Association, "_serve_request", give_back)
        yield


@pytest.fixture(autouse=True)
def no_stray_threads() -> Iterator[None]:
    """Fail a test that leaves a thread behind which would keep the process alive."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _THREADS_END_WITHIN_S
    strays = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in strays:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in strays if thread.is_alive()]
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on; prefer port 0 where the tested thing can tell which it got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with every file of ``testdata/make_dicom.py``; read only, copy what you want to change."""
    from testdata.make_dicom import write_all  # here, so that a test run that does not ask for it does not pay for it

    folder = tmp_path_factory.mktemp("generated")
    write_all(folder)
    return folder


@pytest.fixture(scope="session")
def pydicom_files() -> list[Path]:
    """pydicom's own test files, those that its package brings along; a few are DICOMDIRs, and some are not DICOM."""
    folders = (Path(DATA_ROOT, "test_files"), Path(DATA_ROOT, "charset_files"))
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def _shared(config: pytest.Config) -> SharedServers | ServersOfAnother:
    workers = config.pluginmanager.get_plugin("workers")
    assert isinstance(workers, Workers)
    return workers.servers


@pytest.fixture(scope="session")
def fhir_server(pytestconfig: pytest.Config) -> Callable[[str, str], str]:
    """``fhir_server("medplum", "r4")`` is the base URL of a FHIR server; each is started on first use.

    All tests of a session share them: use identifiers that no other test uses. A test that uses this one says which
    servers it means with ``@pytest.mark.needs("medplum")``.
    """
    return _shared(pytestconfig).base_url


@pytest.fixture(scope="session")
def hapi(fhir_server: Callable[[str, str], str]) -> Callable[[str], str]:
    """``hapi("r4")`` is the base URL of a HAPI FHIR server of that version."""
    return partial(fhir_server, "hapi")


@pytest.fixture(scope="session")
def medplum(fhir_server: Callable[[str, str], str]) -> str:
    """Base URL of a server that is Medplum's: FHIR R4, and its ids are its own."""
    return fhir_server("medplum", "r4")


@pytest.fixture(scope="session")
def hapi_r4(hapi: Callable[[str], str]) -> str:
    """Base URL of a HAPI FHIR R4 server."""
    return hapi("r4")


@pytest.fixture(scope="session")
def hapi_r5(hapi: Callable[[str], str]) -> str:
    """Base URL of a HAPI FHIR R5 server."""
    return hapi("r5")


@pytest.fixture
def server_process() -> Iterator[Callable[..., ServerProcess]]:
    """``server_process("hapi", "r4", HAPI_STRICT="1")`` starts a server of the test's own, to stop and start at will.

    It forgets everything when it stops; for a server that is only out of reach for a while see ``outage_proxy``.
    """
    servers: list[ServerProcess] = []

    def start(name: str, version: str, **settings: str) -> ServerProcess:
        server = ServerProcess(name, version, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def medplum_process(server_process: Callable[..., ServerProcess]) -> Callable[..., ServerProcess]:
    """``medplum_process("r4", MEDPLUM_TRANSACTIONS="0")`` starts one of Medplum's."""
    return partial(server_process, "medplum")


@pytest.fixture(scope="session")
def validator(pytestconfig: pytest.Config) -> Validator:
    """The official FHIR validator: ``validator.check("R4", resource).errors``; ``check_all`` for many.

    All tests of a session share one process. A version's first resource takes 5-20 s, later ones 15 ms.
    """
    return _shared(pytestconfig)


@pytest.fixture
def outage_proxy() -> Iterator[Callable[[str], OutageProxy]]:
    """``outage_proxy(base_url)`` stands in front of a server and can ``go_away()`` and ``come_back()``."""
    proxies: list[OutageProxy] = []

    def stand_before(base_url: str) -> OutageProxy:
        proxies.append(OutageProxy(base_url))
        return proxies[-1]

    yield stand_before
    for proxy in proxies:
        proxy.go_away()


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """For tests of what sets up logging for its process, which here is that of all tests."""
    with logging_kept():
        yield
