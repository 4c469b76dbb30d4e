"""Logging for commands that hardly ever log: it is set up when there is something to log.

:mod:`dicom2fhir.ops.logs` takes longer to load than a hundred files to convert. Libraries that quote values are kept as
quiet as by it.
"""

from __future__ import annotations

import logging

from dicom2fhir.ops.log_names import LogFormat, LogLevel


class Later(logging.Handler):
    """Sets up logging at the first record, and hands it on to what takes its own place then."""

    def __init__(self, level: LogLevel, format_: LogFormat) -> None:
        super().__init__(level.upper())
        self._set = level, format_

    def emit(self, record: logging.LogRecord) -> None:
        """Log the first record of the process."""
        from dicom2fhir.ops import logs

        root = logging.getLogger()
        # another list, because the one that this is in is being gone through
        root.handlers = [other for other in root.handlers if other is not self]
        logs.configure(*self._set).handle(record)


def configure(level: LogLevel, format_: LogFormat) -> None:
    """Set up logging for the process as :func:`dicom2fhir.ops.logs.configure`, but when it is needed.

    That is only seen by the standard library's loggers: who logs with structlog has to call the other first.
    """
    logging.getLogger().addHandler(Later(level, format_))
    logging.captureWarnings(True)
