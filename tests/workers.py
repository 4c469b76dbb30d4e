"""Tests in several processes (pytest-xdist): what these share."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.servers.shared import ServersOfAnother, SharedServers


class Workers:
    """The pytest plugin; :mod:`tests.conftest` registers it."""

    def __init__(self, config: pytest.Config) -> None:
        self.servers: SharedServers | ServersOfAnother
        """The same in all workers."""
        if hasattr(config, "workerinput"):
            self.servers = ServersOfAnother(config.workerinput["servers"])
        else:
            self.servers = SharedServers()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to ask for servers."""
        assert isinstance(self.servers, SharedServers)
        node.workerinput["servers"] = self.servers.address()

    def pytest_unconfigure(self) -> None:
        """End the servers."""
        if isinstance(self.servers, SharedServers):
            self.servers.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Escape what a test printed that is no Unicode: a report that holds it cannot be sent."""
        report = yield
        report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
        return report
