"""Logging: structlog and the standard library's loggers through one formatter, as JSON lines or text.

Callers do not log patient data. This is a second safeguard: known keywords are masked, malformed UIDs and AE titles are
hashed, objects are not printed, exceptions are logged by type and place, and of messages of DICOM and HTTP libraries,
which quote values, only the place is logged.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import traceback
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from dicom2fhir.errors import BridgeError
from dicom2fhir.ops.log_names import LogFormat, LogLevel
from dicom2fhir.system.text import printable, token

MASK = "***"

_MASKED = frozenset(
    word.lower()
    for word in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientBirthTime", "PatientBirthName", "PatientAddress"),
        *("PatientMotherBirthName", "PatientTelephoneNumbers", "PatientComments", "PatientAge", "PatientSex"),
        *("OtherPatientIDs", "OtherPatientNames", "OtherPatientIDsSequence", "ResponsiblePerson", "AccessionNumber"),
        *("AdmissionID", "StudyID", "ReferringPhysicianName", "Patient", "Birthdate", "Accession", "Mrn"),
        *("Password", "Token", "Authorization", "Secret"),
    )
)
_UID = re.compile("[0-9.]{0,64}")
_AE_TITLE = re.compile("[A-Za-z0-9_.-]{0,16}")
_SHAPES = {"study": _UID, "sop_instance": _UID, "calling_ae": _AE_TITLE, "called_ae": _AE_TITLE}
"""The format of values that peers send, by keyword: they may send any text. An AE title with spaces may be a name."""
_QUOTING = ("pydicom", "pynetdicom", "urllib3", "py.warnings")
"""Loggers whose messages quote data sets, addresses or values."""
_LIBRARIES = (*_QUOTING, "watchdog")
_LONGEST = 2_000
_DEEPEST = 6


def _plain(text: str) -> str:
    """One printable line: control, direction and line-breaking characters are escaped, so no value forges an entry."""
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _describe(error: BaseException) -> str:
    """Types and places of an exception and its causes.

    Only the messages of our own errors are known to contain no patient data; of an OSError, the text of its number is
    used.
    """
    told, seen, link = [], set[int](), ""
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = str(current) if isinstance(current, BridgeError) else ""
        if isinstance(current, OSError):
            text = current.strerror or ""
        places = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(current.__traceback__)
        ]
        name = type(current).__name__
        where = f" at {' < '.join(reversed(places))}" if places else ""
        told.append(f"{link}{name}{f': {text}' if text else ''}{where}")
        following = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        link = "caused by " if current.__cause__ else "while handling "
        current = following
    return "; ".join(told)


def _clean(value: object, depth: int = 0) -> object:
    match value:
        case None | bool() | int():
            return value.value if isinstance(value, Enum) else value
        case float():
            return value if math.isfinite(value) else str(value)
        case Enum():
            return _clean(value.value, depth)
        case str() | PurePath():
            return _plain(str(value))
        case BaseException():
            return _plain(_describe(value))
        case Mapping() if depth < _DEEPEST:
            return {_plain(str(key)): _masked(str(key), inner, depth + 1) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _DEEPEST:
            return [_clean(inner, depth + 1) for inner in value]
    return f"<{type(value).__name__}>"


def _masked(key: str, value: object, depth: int) -> object:
    shape = _SHAPES.get(key)
    if shape and isinstance(value, str) and not shape.fullmatch(value):
        return token(value)
    return MASK if key.replace("_", "").replace("-", "").lower() in _MASKED else _clean(value, depth)


def guard(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Mask known keywords and make every value plain text, a number, or a list or table of these (a processor)."""
    return {
        key: value if key.startswith("_") else _masked(key, value, 0)  # "_record" and the like are structlog's own
        for key, value in event_dict.items()
    }


def withhold(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Replace the message of a quoting library by its place (a processor for foreign records)."""
    record = event_dict.get("_record")
    if isinstance(record, logging.LogRecord) and _is_from(record, _QUOTING):
        place = f"{record.pathname}:{record.lineno}"
        if record.name == "py.warnings":
            # the text is "FILE:LINE: CATEGORY: words"; the recorded place is in warnings.py
            place = ":".join(record.getMessage().split(":", 3)[:3])
        event_dict["event"] = f"message withheld, it may quote a data set; said at {place}"
    return event_dict


def trace(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Turn ``exc_info`` into one line without foreign messages and local variables (a processor)."""
    given = event_dict.pop("exc_info", None)
    event_dict.pop("stack_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given and error is None:
        error = sys.exc_info()[1]
    if error is not None:
        event_dict["trace"] = _describe(error)
    return event_dict


def _is_from(record: logging.LogRecord, names: tuple[str, ...]) -> bool:
    return any(record.name == name or record.name.startswith(f"{name}.") for name in names)


def _allow(record: logging.LogRecord) -> bool:
    """Drop records of libraries below WARNING, whatever their loggers' level: at DEBUG pynetdicom prints data sets."""
    return record.levelno >= logging.WARNING or not _is_from(record, _LIBRARIES)


def _holds_any_text(stream: TextIO) -> bool:
    """Whether its encoding has every character; escapes for other encodings would not be valid JSON."""
    return (stream.encoding or "utf-8").lower().replace("_", "-").startswith("utf-")


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a closed pipe must not stop reception, and the default prints the record's arguments."""


def configure(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> logging.StreamHandler[TextIO]:
    """Configure logging for the process; another call replaces the configuration.

    Parameters
    ----------
    level
        Lowest level that is logged; libraries stay at ``warning`` even at ``debug``.
    format
        ``auto`` is text if ``stream`` is a terminal, otherwise JSON: one object per line, with an ISO 8601 time in UTC.
    stream
        Standard error if not given.

    Returns
    -------
    logging.StreamHandler
        The handler that writes to ``stream``.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        trace,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=not _holds_any_text(stream))
        if format == "json" or (format == "auto" and not terminal)
        else structlog.dev.ConsoleRenderer(colors=terminal)
    )
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, guard, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream)
    handler.addFilter(_allow)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, withhold, guard],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(old for old in root.handlers if not isinstance(old, _Handler)), handler]
    root.setLevel(number)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)
    return handler
