from __future__ import annotations

import ast
import dataclasses
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ops import lazy_logs, logs
from dicom2fhir.ops.log_names import LogFormat, LogLevel

pytestmark = pytest.mark.usefixtures("logging_as_before")

PACKAGE = Path(__file__).parents[2] / "dicom2fhir"
CANARY = "Canary^Patient"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Colour(StrEnum):
    RED = "red"


@dataclasses.dataclass
class Person:
    name: str


def configure(stream: io.StringIO, level: LogLevel = "info", format: LogFormat = "auto") -> None:
    logs.configure(level, format, stream)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def log_once(write: Callable[[Any], None], **options: Any) -> dict[str, Any]:
    stream = io.StringIO()
    configure(stream=stream, **options)
    write(structlog.get_logger("dicom2fhir.test"))
    (entry,) = entries(stream)
    return entry


@pytest.mark.parametrize(
    ("key", "shown", "hidden"),
    [
        ("study", "1.2.840.10008", "Canary-Patient"),
        ("sop_instance", "2.25.1", "1.2.Canary"),
        ("calling_ae", "CT_1.main-A", CANARY),
        ("called_ae", "DICOM2FHIR", "CANARY PATIENT"),
    ],
)
def test_uids_and_ae_titles_that_look_like_none_are_hashed(key: str, shown: str, hidden: str) -> None:
    assert log_once(lambda log: log.info("it.happened", **{key: shown}))[key] == shown
    stands = log_once(lambda log: log.info("it.happened", **{key: hidden}))[key]
    assert re.fullmatch("[0-9a-f]{12}", stands)
    assert log_once(lambda log: log.info("it.happened", within={key: hidden}))["within"][key] == stands


def test_json_lines() -> None:
    entry = log_once(
        lambda log: log.info("study.delivered", revision=3, path=Path("/x"), colour=Colour.RED, uids=("1.2", None))
    )
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "study.delivered",
        "level": "info",
        "logger": "dicom2fhir.test",
        "revision": 3,
        "path": "/x",
        "colour": "red",
        "uids": ["1.2", None],
    }


@pytest.mark.parametrize(
    ("stream", "format", "is_json"),
    [
        (io.StringIO, "auto", True),
        (Terminal, "auto", False),
        (Terminal, "json", True),
        (io.StringIO, "text", False),
    ],
)
def test_formats(stream: type[io.StringIO], format: Any, is_json: bool) -> None:
    out = stream()
    configure(format=format, stream=out)
    structlog.get_logger().warning("store.low", free_bytes=5)
    assert out.getvalue().startswith("{") is is_json
    assert "store.low" in out.getvalue()
    assert ("\x1b" in out.getvalue()) is (stream is Terminal and not is_json)


def test_levels() -> None:
    stream = io.StringIO()
    configure(level="warning", stream=stream)
    structlog.get_logger().info("no")
    logging.getLogger("other").info("no")
    logging.getLogger("other").warning("yes %s", "indeed")
    assert [entry["event"] for entry in entries(stream)] == ["yes indeed"]


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    log = structlog.get_logger()
    configure(stream=first)
    log.info("one")
    configure(level="debug", stream=second)
    log.debug("two")
    assert [entry["event"] for entry in entries(first)] == ["one"]
    assert [entry["event"] for entry in entries(second)] == ["two"]


@pytest.mark.parametrize("format", ["json", "text"])
def test_control_characters_are_escaped(format: Any) -> None:
    stream = io.StringIO()
    configure(format=format, stream=stream)
    nasty = "a\nb\x1b[31m\x00\x85\u2028\u202e\ud800c"
    structlog.get_logger().info(nasty, value=nasty, table={nasty: [nasty]})
    logging.getLogger("other").warning("%s", nasty)
    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b" in text


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "key",
    [
        *("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "patient_id", "accession_number"),
        *("OtherPatientIDs", "Authorization", "token"),
    ],
)
def test_patient_keywords_are_masked(key: str, format: Any) -> None:
    stream = io.StringIO()
    configure(level="debug", format=format, stream=stream)
    log = structlog.get_logger()
    log.info("seen", **{key: CANARY})
    log.info("seen", attrs={key: CANARY, "items": [{key: [CANARY]}]})
    log.bind(**{key: CANARY}).debug("seen")
    with structlog.contextvars.bound_contextvars(**{key: CANARY}):
        log.info("seen")
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("***") == 5


def test_objects_are_not_spelled_out() -> None:
    entry = log_once(
        lambda log: log.info("seen", person=Person(CANARY), raw=CANARY.encode(), number=float("nan"), big=2**80)
    )
    assert (entry["person"], entry["raw"], entry["number"], entry["big"]) == ("<Person>", "<bytes>", "nan", 2**80)


def test_long_and_deep_values_are_cut() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    entry = log_once(lambda log: log.info("seen", long="x" * 100_000, deep=deep))
    assert len(entry["long"]) == 2_003
    assert entry["deep"] == [[[[[["<list>"]]]]]]


@pytest.mark.parametrize("format", ["json", "text"])
def test_exceptions_tell_types_and_places_only(format: Any) -> None:
    stream = io.StringIO()
    configure(format=format, stream=stream)

    def parse() -> None:
        name = CANARY
        raise ValueError(f"not a name: {name}")

    try:
        try:
            parse()
        except ValueError as error:
            raise StoreUnavailable("the disk is full") from error
    except StoreUnavailable as error:
        structlog.get_logger().exception("ingest.failed")
        structlog.get_logger().error("ingest.failed", error=error)
        logging.getLogger("other").exception("ingest.failed")
    text = stream.getvalue()
    assert CANARY not in text
    assert "Traceback" not in text
    assert text.count("StoreUnavailable: the disk is full at ") == 3
    assert text.count("caused by ValueError at ") == 3
    assert text.count(" parse < ") == 3
    assert len(text.splitlines()) == 3


def test_system_errors_tell_their_text_without_the_name_of_the_file() -> None:
    def read(log: Any) -> None:
        try:
            Path(f"/nowhere/{CANARY}").read_bytes()
        except OSError:
            log.exception("folder.failed")

    entry = log_once(read)
    assert entry["trace"].startswith("FileNotFoundError: No such file or directory at ")
    assert CANARY not in json.dumps(entry)


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom", "pynetdicom.acse", "urllib3.connectionpool", "watchdog"])
def test_libraries_stay_at_warning_whatever_their_loggers_say(name: str) -> None:
    stream = io.StringIO()
    configure(level="debug", stream=stream)
    library = logging.getLogger(name)
    assert not library.isEnabledFor(logging.INFO)
    library.setLevel(logging.DEBUG)
    library.debug("(0010,0010) PN [%s]", CANARY)
    library.info("(0010,0010) PN [%s]", CANARY)
    library.setLevel(logging.NOTSET)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom.dsutils", "urllib3.connectionpool"])
def test_what_libraries_quote_is_withheld(name: str) -> None:
    stream = io.StringIO()
    configure(stream=stream)
    logging.getLogger(name).warning("Invalid value for VR PN: %s", CANARY)
    (entry,) = entries(stream)
    assert entry["event"].startswith("message withheld, it may quote a data set; said at ")
    assert "test_logs.py" in entry["event"]
    assert CANARY not in stream.getvalue()


def test_python_warnings_are_withheld_too() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure(stream=stream)
        warnings.warn(f"Invalid value for VR PN: {CANARY}", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    (entry,) = entries(stream)
    assert entry["event"].endswith(": UserWarning")
    assert "test_logs.py:" in entry["event"]
    assert CANARY not in stream.getvalue()


def test_a_closed_stream_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure(stream=stream)
    stream.close()
    structlog.get_logger().info("seen", value=CANARY)
    assert capsys.readouterr() == ("", "")


def test_logging_is_set_up_by_the_first_record(capsys: pytest.CaptureFixture[str]) -> None:
    lazy_logs.configure("error", "json")
    logging.getLogger("pydicom").warning("value %s", CANARY)
    logging.getLogger("py.warnings").warning(CANARY)
    assert capsys.readouterr().err == ""
    for number in (1, 2):
        logging.getLogger("dicom2fhir.test").error("number %d", number)
        logging.getLogger("pydicom").error("value %s", CANARY)
    told = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert (told[0], told[2]) == ("number 1", "number 2")
    assert len(told) == 4
    assert all("withheld" in event for event in told[1::2])


EVENT = re.compile(r"[a-z]+\.[a-z]+(_[a-z]+)*")
NOUNS = {
    "association", "config", "connection", "daemon", "delivery", "destination", "file", "folder", "index", "instance",
    "lease", "notice", "resource", "scp", "server", "state", "store", "trace", "web", "worker", "writer",
}  # fmt: skip
"""What events are about. A new noun is a decision: log searches and alerts are built on them."""
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged_events() -> Iterator[tuple[str, ast.expr]]:
    """Place and first argument of each call that logs."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=logger, attr=method), args=[event, *_]) if method in METHODS:
                    if ast.unparse(logger) == "log" or "get_logger" in ast.unparse(logger):
                        yield f"{path.relative_to(PACKAGE)}:{node.lineno}", event


def test_every_event_is_a_noun_and_a_verb() -> None:
    events = list(logged_events())
    assert len(events) > 40
    for place, node in events:
        name = node.value if isinstance(node, ast.Constant) else None
        assert isinstance(name, str), f"{place}: an event is a constant; what varies is a field"
        assert EVENT.fullmatch(name), f"{place}: {name!r} is not noun.verb"
        assert name.partition(".")[0] in NOUNS, f"{place}: {name!r} is about a new noun"
