"""Builds the options of the store from the settings.

Apart from the mapping's options, because commands that only ask the store are not to wait for the mapping to load.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicom2fhir.config import Settings


def store_path(settings: Settings) -> Path:
    """The store's file."""
    return settings.store.directory / "store.db"


def store_options(settings: Settings) -> dict[str, Any]:
    """The options of a store on which all processes that open it must agree."""
    return {name: getattr(settings.store, name) for name in ("quiet_period_s", "max_wait_s", "min_free_bytes")}
