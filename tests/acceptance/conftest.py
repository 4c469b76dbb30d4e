"""Fixtures of the acceptance tests: the daemon as a process, what must not be in its log, and those of the bars."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.acceptance.expectation import Expectation
from tests.daemon_process import ROOT, DaemonProcess
from tests.pki import pki
from tests.scu_sockets import client_sockets_are_closed

__all__ = ["client_sockets_are_closed", "pki"]

T = TypeVar("T")
_FAILED = pytest.StashKey[bool]()
_FIGURES = pytest.StashKey[list[str]]()

StartDaemon = Callable[..., DaemonProcess]


@pytest.fixture(scope="session")
def every_file(generated: Path, pydicom_files: list[Path]) -> list[Path]:
    """pydicom's own test files and all generated ones."""
    return pydicom_files + sorted(path for path in generated.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def expected(every_file: list[Path]) -> Expectation:
    """What is in them."""
    return Expectation.of(every_file)


@pytest.fixture(scope="session")
def patient_data(generated: Path) -> frozenset[str]:
    """Names, ids, birth dates and accession numbers of the generated files."""
    found = set[str]()
    for records in Expectation.of(path for path in generated.rglob("*") if path.is_file()).records.values():
        for record in (one for same in records.values() for one in same):
            for keyword in ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs"):
                found |= _words(record.patient.get(keyword))
            found |= _words(record.study.get("AccessionNumber"))
    return frozenset(word for word in found if len(word) >= 4)


def _words(value: Any) -> set[str]:
    """The parts of a value, each of which must stay out of the log."""
    values = value if isinstance(value, list) else [value or ""]
    return {part for one in values for part in re.split(r"[\^=\s]+", str(one))}


def leaks(text: str, patient_data: frozenset[str]) -> set[str]:
    """The patient data in a text; the made-up studies' numbers are told by their shape."""
    within_words = {word for word in patient_data if re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)}
    return within_words | set(re.findall(r"SYN-[PA]\d+|DEMO-\d+", text))


@pytest.fixture
def daemon(tmp_path: Path, patient_data: frozenset[str]) -> Iterator[StartDaemon]:
    """``daemon("--fhir-url", URL, settings=TOML)`` starts one; afterwards none is left, and no log tells of patients.

    The logs are at level ``debug``. Nothing may have gone wrong in the bridge itself either.
    """
    started: list[DaemonProcess] = []

    def start(*flags: str | Path, settings: str = "") -> DaemonProcess:
        daemon = DaemonProcess(tmp_path / f"daemon-{len(started)}", flags, settings)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.clean_up()
    for daemon in started:
        assert not leaks(daemon.log_path.read_text(errors="replace"), patient_data)
        assert not [line for line in daemon.log_lines() if line["level"] in ("error", "critical")]


@pytest.fixture
def make_daemon(history: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """``make_daemon(flags, settings)`` is a daemon that is not started yet, with its folder in the history."""
    made: list[DaemonProcess] = []

    def make(flags: tuple[str | Path, ...] = (), settings: str = "", **options: Any) -> DaemonProcess:
        made.append(DaemonProcess(history / f"daemon-{len(made)}", flags, settings, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.clean_up()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with each failure of a bar how to repeat it."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
        if "seed" in getattr(item, "fixturenames", ()):
            options = f"--seed {item.config.option.seed}{' --soak' if item.config.option.soak else ''}"
            report.sections.append(("to repeat it", f"{options}; the history lies in {_history_of(item)}"))
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms take as long as they take."""
    for item in items if config.option.soak else ():
        item.add_marker(pytest.mark.timeout(0), append=False)  # the first one counts


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """What chance decides in a bar follows from it."""
    return int(pytestconfig.option.seed)


@pytest.fixture
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether the long form was asked for."""
    return bool(pytestconfig.option.soak)


@pytest.fixture
def scale(soak: bool) -> Callable[[T, T], T]:
    """``scale(25, 1_000)`` is 25, and 1,000 in the long form."""
    return lambda short, long: long if soak else short


@pytest.fixture
def history(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Empty folder that is kept when the test fails: for what was sent and answered."""
    folder = _history_of(request.node)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    if not request.node.stash.get(_FAILED, False):
        shutil.rmtree(folder)


def _history_of(item: pytest.Item) -> Path:
    return ROOT / "build" / "history" / re.sub(r"\W+", "-", f"{item.path.stem}-{item.name}").strip("-")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """``figure("25 kills")`` has that said at the end of the run, after the name of the test."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda text: figures.append(f"{request.node.path.stem.removeprefix('test_')}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the bars measured."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)
