"""Logging for commands that rarely log: it is configured at the first record.

:mod:`dicom2fhir.ops.logs` takes longer to load than a hundred files to convert. Libraries that quote values are
restricted in the same way.
"""

from __future__ import annotations

import logging

from dicom2fhir.ops.log_names import LogFormat, LogLevel


class Later(logging.Handler):
    """Configures logging at the first record, and passes the record to the handler that replaces it."""

    def __init__(self, level: LogLevel, format_: LogFormat) -> None:
        super().__init__(level.upper())
        self._set = level, format_

    def emit(self, record: logging.LogRecord) -> None:
        """Log the first record of the process."""
        from dicom2fhir.ops import logs

        root = logging.getLogger()
        # a new list, because the old one is being iterated over
        root.handlers = [other for other in root.handlers if other is not self]
        logs.configure(*self._set).handle(record)


def configure(level: LogLevel, format_: LogFormat) -> None:
    """Configure logging for the process as :func:`dicom2fhir.ops.logs.configure`, at the first record.

    Only loggers of the standard library trigger this: a caller that logs with structlog must call the other first.
    """
    logging.getLogger().addHandler(Later(level, format_))
    logging.captureWarnings(True)
