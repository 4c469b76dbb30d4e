from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.command_line import run
from tests.daemon_process import DaemonProcess
from tests.dask_cluster import Cluster, dask_cluster
from tests.pki import pki
from tests.users import open_path
from tests.warm_start import WarmStart
from tests.watched_folder import bridge, inbox, start

if TYPE_CHECKING:
    from tests.servers.browser.chromium import Chromium

__all__ = ["bridge", "inbox", "open_path", "pki", "run", "start"]


@pytest.fixture(autouse=True, scope="session")
def daemons_start_warm() -> Iterator[None]:
    """Importing the program would take most of the processor time of these tests."""
    with pytest.MonkeyPatch.context() as patch, closing(WarmStart()) as warm_start:
        patch.setattr(DaemonProcess, "warm_start", warm_start)
        yield


@pytest.fixture(scope="module")
def dask_workers() -> Iterator[Cluster]:
    with dask_cluster(2) as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param((name, version), id=f"{name}-{version}", marks=pytest.mark.needs(name))
        for name, version in (("hapi", "r4"), ("hapi", "r5"), ("medplum", "r4"))
    ]
)
def server(request: pytest.FixtureRequest, fhir_server: Callable[[str, str], str]) -> str:
    """Base URL of each FHIR server to deliver to. What a test expects follows from what the server says of itself."""
    return fhir_server(*request.param)


@pytest.fixture(scope="session")
def one_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    from tests.servers.browser.chromium import started  # here, because Selenium takes long to load

    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def chromium(one_chromium: Chromium) -> Chromium:
    one_chromium.forget()
    return one_chromium
