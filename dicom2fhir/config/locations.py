"""The locations of the service's configuration and store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_CONFIG = Path("/etc/dicom2fhir/config.toml")
SERVICE_STATE = Path("/var/lib/dicom2fhir")
"""``StateDirectory=dicom2fhir`` of the unit (systemd.exec(5))."""


def is_system_config(path: Path | None) -> bool:
    """Whether a path is the configuration file of the service, links resolved."""
    return path is not None and os.path.realpath(path) == os.path.realpath(SYSTEM_CONFIG)


def state_directory(environ: Mapping[str, str], config_file: Path | None = None) -> Path:
    """The default folder of the store: systemd's StateDirectory=, otherwise the XDG state home.

    With the service's configuration it is the service's store for every user: no daemon delivers from another one.
    """
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(os.path.abspath(given))
    if is_system_config(config_file):
        return SERVICE_STATE
    home = environ.get("XDG_STATE_HOME", "")
    return Path(home if os.path.isabs(home) else os.path.expanduser("~/.local/state")) / "dicom2fhir"
