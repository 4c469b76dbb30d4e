"""The time of the database, so that daemons whose clocks differ agree."""

from __future__ import annotations

import time

from dicom2fhir.store.postgres.schema import Connection

_READINGS = 3


class DatabaseClock:
    """The clock of the server, kept by the steady clock of this machine between two readings."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._ahead_s + time.monotonic()

    def read(self, connection: Connection) -> None:
        """Read the server's clock several times; the quickest answer tells it best (as in RFC 5905, section 10)."""
        readings = [_reading(connection) for _ in range(_READINGS)]
        _, self._ahead_s = min(readings)


def _reading(connection: Connection) -> tuple[float, float]:
    """How long the answer took, and by how much the server is ahead if half of that was the way there."""
    asked = time.monotonic()
    (now,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::DOUBLE PRECISION").fetchone() or (0,)
    took_s = time.monotonic() - asked
    return took_s, float(str(now)) - asked - took_s / 2
