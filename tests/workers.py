"""Tests in several processes (pytest-xdist): what these share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import pytest

from tests.servers.shared import SharedServers, ask


class Workers:
    """The pytest plugin; :mod:`tests.conftest` registers it."""

    def __init__(self, config: pytest.Config) -> None:
        self.base_url: Callable[[str, str], str]
        """Base URL of a FHIR server of this name and version, the same in all workers."""
        self._servers: SharedServers | None = None
        if hasattr(config, "workerinput"):
            self.base_url = partial(ask, config.workerinput["servers"])
        else:
            self._servers = SharedServers()
            self.base_url = self._servers.base_url

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to ask for servers."""
        assert self._servers is not None
        node.workerinput["servers"] = self._servers.address()

    def pytest_unconfigure(self) -> None:
        """End the servers."""
        if self._servers is not None:
            self._servers.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Escape what a test printed that is no Unicode: a report that holds it cannot be sent."""
        report = yield
        report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
        return report
