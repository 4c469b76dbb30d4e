"""How a store is opened; a module of its own, because every command reads the settings, and few use a store."""

from __future__ import annotations

from enum import Enum

DEFAULT_QUIET_PERIOD_S = 30.0
DEFAULT_MAX_WAIT_S = 900.0
DEFAULT_SEAL_AFTER_S = 604_800.0
DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024


class Access(Enum):
    """What a process may do with the store."""

    OWN = "own"
    """The daemon: migrates it, and ends leases and associations of a previous daemon."""
    ATTACH = "attach"
    """Short writes beside a daemon that may be running."""
    READ = "read"
