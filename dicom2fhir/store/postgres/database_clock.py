"""The time of the database, so that daemons whose clocks differ agree."""

from __future__ import annotations

import time

from dicom2fhir.store.postgres.schema import Connection


class DatabaseClock:
    """The clock of the server, kept by the steady clock of this machine between two readings."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._ahead_s + time.monotonic()

    def read(self, connection: Connection) -> None:
        """Read the server's clock."""
        (now,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::DOUBLE PRECISION").fetchone() or (0,)
        self._ahead_s = float(str(now)) - time.monotonic()
