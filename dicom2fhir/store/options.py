"""Defaults of a store's options; a module of its own, because every command reads the settings, and few use a store."""

from __future__ import annotations

DEFAULT_QUIET_PERIOD_S = 30.0
DEFAULT_MAX_WAIT_S = 900.0
DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024
